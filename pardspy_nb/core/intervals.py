"""Intervals that take a few lines; scikit-learn and SciPy compute all others."""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

Z = NormalDist().inv_cdf(0.975)


class Interval(NamedTuple):
    """An expected figure, and its bounds, at a confidence of 95 % if nothing else is said."""

    low: float
    expected: float
    high: float


def wilson(hits: float, n: float, level: float = 0.95) -> Interval:
    """Wilson's score interval of a share of n > 0 (Wilson 1927); n may be an effective size."""
    z = Z if level == 0.95 else NormalDist().inv_cdf(0.5 + level / 2)
    share, z2 = hits / n, z**2
    middle = (share + z2 / (2 * n)) / (1 + z2 / n)
    half = z / (1 + z2 / n) * math.sqrt(share * (1 - share) / n + z2 / (4 * n * n))
    low = max(0.0, middle - half) if hits else 0.0  # exactly 0, without a rounding error
    return Interval(low, share, min(1.0, middle + half) if hits < n else 1.0)
