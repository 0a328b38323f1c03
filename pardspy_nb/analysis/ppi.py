"""A share from many labels of a model and few of a human, with an interval that holds although the
model errs.

The estimate is prediction-powered inference with power tuning: the model's share of all rows, plus
what the human sample says about the model's errors, the model's part weighted by how much it helps
(Angelopoulos, Duchi, Zrnic 2023, "PPI++: Efficient Prediction-Powered Inference", sections 2 and
6). A sample whose rows were picked with unequal probabilities is weighted by their inverse (Zrnic,
Candès 2024, "Active Statistical Inference"; Gligorić and others 2025, "Can Unconfident LLM
Annotations Be Used for Confident Conclusions?"), normalised to a mean of 1 (Hájek).

Where few of the human's labels are of one kind, or few contradict the model, their spread says too
little about the errors that were not seen, and normal intervals are too narrow. Then one error is
counted in addition, and the interval is Wilson's (1927) for the number of rows that would give the
same spread (the effective sample size; Korn, Graubard 1998). The interval of the human sample alone
is used where it is the narrower one.
"""

from __future__ import annotations

import math
from statistics import NormalDist
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..core.intervals import wilson

Floats = NDArray[np.float64]
_FEW = 12  # labels of one kind, or errors
_FEW_OF_A_SIDE = 5  # errors of one sign, where rows have unequal weights


class Share(NamedTuple):
    """A share in [0, 1], its interval, and `method`: `ppi++`, `ppi++ (few)` or `human sample`."""

    share: float
    low: float
    high: float
    method: str


def share_of(
    human: Floats, said: Floats, rest: Floats, weights: Floats | None, level: float
) -> Share:
    """The share of one label among all rows.

    Args:
        human: 1 where a human gave the label, else 0, for the n rows that a human labelled.
        said: the same of the model's labels of these rows.
        rest: of the model's labels of the rows that speak for the table: those without a human's
            label, or all of them if rows have weights.
        weights: the inverse of each labelled row's probability of being picked, up to a factor;
            None if these are equal.
        level: the confidence, in (0, 1).
    """
    z = NormalDist().inv_cdf(0.5 + level / 2)
    w = np.ones(len(human)) if weights is None else weights / weights.mean()
    alone = _human_alone(human, w, level)
    if not len(rest) or len(human) < 2:
        return alone
    tuned, share, spread = _tuned(human, said, rest, w)
    freedom = len(human) / float((w**2).mean()) - 1  # by the effective number of rows
    wider = 1.0 if weights is None else _student(z, freedom) / z
    errors = human - said
    n_missed, n_invented = int((errors > 0).sum()), int((errors < 0).sum())
    of_a_kind = min(human.sum(), len(human) - human.sum(), n_missed + n_invented)
    is_few = of_a_kind < _FEW or (
        weights is not None and min(n_missed, n_invented) < _FEW_OF_A_SIDE
    )
    if not is_few:
        found = Share(share, share - wider * z * spread, share + wider * z * spread, "ppi++")
    else:
        unseen = (tuned**2 + (1 - tuned) ** 2) * float((w**2).mean())
        spread = wider * _with_an_error(human, said, rest, w, tuned, unseen)
        inside = min(max(share, 1e-9), 1 - 1e-9)
        effective = inside * (1 - inside) / spread**2
        low, _, high = wilson(inside * effective, effective, level)
        found = Share(inside, low, high, "ppi++ (few)")
    narrower = found.high - found.low < alone.high - alone.low
    return _within(found) if narrower else alone


def _student(z: float, freedom: float) -> float:
    """Student's quantile for a normal one (Abramowitz, Stegun 1964, 26.7.5): the spread of few
    weighted rows is itself uncertain."""
    freedom = max(freedom, 2.0)
    return z + (z**3 + z) / (4 * freedom) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * freedom**2)


def _tuned(human: Floats, said: Floats, rest: Floats, w: Floats) -> tuple[float, float, float]:
    """The power-tuning parameter in [0, 1], the share and its standard error (PPI++, section 6)."""
    n, n_rest = len(human), len(rest)
    plain = float(rest.mean() + (w * (human - said)).mean())
    of_human, of_said = w * (human - plain), w * (said - plain)
    shared = float(((of_human - of_human.mean()) * (of_said - of_said.mean())).mean())
    variance = float(np.concatenate([of_said, rest - plain]).var(ddof=1))
    tuned = min(1.0, max(0.0, shared / ((1 + n / n_rest) * variance))) if variance else 0.0
    residuals = w * (human - tuned * said)
    share = float(tuned * rest.mean() + residuals.mean())
    if not np.all(w == 1):  # the weights are normalised, which takes part of their spread away
        residuals = w * (human - tuned * said - residuals.mean())
    spread = math.hypot(tuned * rest.std() / math.sqrt(n_rest), residuals.std() / math.sqrt(n))
    return tuned, share, spread


def _with_an_error(
    human: Floats, said: Floats, rest: Floats, w: Floats, tuned: float, unseen: float
) -> float:
    """The standard error with one error more than was seen."""
    n = len(human)
    residuals = human - tuned * said
    seen = float((w * (residuals - (w * residuals).mean())).var()) * n
    of_rest = float(tuned * rest.std()) / math.sqrt(len(rest))
    return math.hypot(of_rest, math.sqrt((seen + unseen) / (n + 1) / n))


def _human_alone(human: Floats, w: Floats, level: float) -> Share:
    """The share in the human's labels alone (Wilson, for the effective sample size)."""
    n = len(human)
    if not n:
        return Share(math.nan, math.nan, math.nan, "human sample")
    share = float((w * human).mean())
    effective = n / float((w**2).mean())
    variance = float(((w * (human - share)) ** 2).mean()) / n
    if 0 < share < 1 and variance:
        effective = min(float(n), share * (1 - share) / variance)
    share = min(1.0, share)
    low, _, high = wilson(share * effective, effective, level)
    return _within(Share(share, low, high, "human sample"))


def _within(found: Share) -> Share:
    """A share lies between 0 and 1, and so do its bounds."""
    share, low, high = (min(1.0, max(0.0, value)) for value in found[:3])
    return Share(share, low, high, found.method)
