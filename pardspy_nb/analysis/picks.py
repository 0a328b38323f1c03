"""Which rows a human looks at: each with a known probability, so that they speak for all."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Literal

import numpy as np
import pandas as pd
from numpy.typing import NDArray

Pick = Literal["random", "stratified", "uncertain"]
PICKS: tuple[Pick, ...] = ("random", "stratified", "uncertain")
_EVEN = 0.5  # of the picks of "uncertain", the share that all rows have alike


def inclusion(
    pick: Pick, n: int, rows: int, strata: pd.Series | None, confidence: pd.Series | None
) -> NDArray[np.float64]:
    """Each row's probability of being among n picked rows; they add up to n.

    Args:
        strata: for `stratified`, the stratum of each row: each gets as many picks, as far as it has
            rows, so that rare ones are seen.
        confidence: for `uncertain`, the model's confidence in [0, 1]; half of the picks are even,
            half go by 1 - confidence. A missing confidence counts as 0.
    """
    n = min(n, rows)
    if pick == "stratified" and strata is not None:
        return _stratified(n, strata)
    if pick == "uncertain" and confidence is not None:
        doubt = 1.0 - confidence.fillna(0.0).to_numpy(dtype=float).clip(0.0, 1.0)
        mean = doubt.mean()
        even = np.ones(rows)
        return _to_n(even if not mean else _EVEN * even + (1 - _EVEN) * doubt / mean, n)
    return np.full(rows, n / rows)


def _stratified(n: int, strata: pd.Series) -> NDArray[np.float64]:
    codes = pd.factorize(strata.astype(object).where(strata.notna(), None), use_na_sentinel=False)[
        0
    ]
    sizes = np.bincount(codes)
    given, left, is_open = np.zeros(len(sizes)), float(n), np.ones(len(sizes), dtype=bool)
    while left > 1e-9 and is_open.any():  # what a small stratum cannot take goes to the others
        each = left / is_open.sum()
        taken = np.where(is_open, np.minimum(each, sizes - given), 0.0)
        given, left = given + taken, left - float(taken.sum())
        is_open &= given < sizes
    found: NDArray[np.float64] = (given / sizes)[codes]
    return found


def _to_n(sizes: NDArray[np.float64], n: int) -> NDArray[np.float64]:
    """Probabilities in proportion to sizes, at most 1, that add up to n."""
    found = np.minimum(1.0, sizes * n / sizes.sum())
    for _ in range(len(sizes)):
        is_full = found >= 1.0
        left, open_ = n - is_full.sum(), found[~is_full].sum()
        if not len(found[~is_full]) or left - open_ < 1e-9:
            break
        found[~is_full] = np.minimum(1.0, found[~is_full] * left / open_)
    return np.asarray(found, dtype=np.float64)


def draw(
    probabilities: NDArray[np.float64], numbers: NDArray[np.float64], n: int
) -> NDArray[np.intp]:
    """The places of n picked rows, by Pareto sampling (Rosen 1997).

    Args:
        numbers: a random number in (0, 1) for each row. With numbers that are the rows' for good
            (see `permanent_numbers`) the same table gives the same rows in every kernel, and a
            longer one mostly the same.
    """
    with np.errstate(divide="ignore"):
        odds = np.where(probabilities >= 1.0, np.inf, probabilities / (1.0 - probabilities))
        ranks = numbers / (1.0 - numbers) / odds
    return np.argsort(ranks, kind="stable")[:n]


def permanent_numbers(keys: Sequence[str], what: str) -> NDArray[np.float64]:
    """Numbers in (0, 1), evenly distributed, that keys have for good; others for another `what`."""
    digests = (hashlib.sha256(f"{what} {key}".encode()).digest() for key in keys)
    return np.array([(int.from_bytes(digest[:7]) + 0.5) / 2**56 for digest in digests])
