"""Which answers of a cheap model can be kept: a confidence threshold with a guarantee.

All rows have a confidence and some of them, a random sample (the pilot), are known to be right or
wrong. Sets of rows are tested one after the other, the most confident 5 % first, then 10 %, and so
on; the last set that passes before one fails is kept. The procedure is that of BARGAIN (Zeighami,
Shankar, Parameswaran, SIGMOD 2026): sets by quantiles of the confidence, tested in a fixed order so
that no correction for many tests is needed (fixed-sequence testing: Maurer, Hothorn, Lehmacher
1995). Each test is exact for a finite table: the number of wrong rows in the pilot has a
hypergeometric distribution.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

_STEPS = 20  # sets, as in BARGAIN
_LEAST_PILOT, _MOST_PILOT = 100, 1000
_MARGIN = 1.25  # the first set is expected to hold so many times the pilot rows that a test needs


class Accepted(NamedTuple):
    """What can be kept.

    Attributes:
        threshold: rows of at least this confidence are kept; infinity if no row is.
        kept: the share of the rows that have it, the pilot's among them.
        pilot: pilot rows of at least this confidence.
        wrong: the wrong ones among them.
        asked: all rows of the pilot.
    """

    threshold: float
    kept: float
    pilot: int
    wrong: int
    asked: int


NOTHING = Accepted(math.inf, 0.0, 0, 0, 0)


def pilot_size(rows: int) -> int:
    """The size of a pilot: a fifth of the rows, at least 100 and at most 1,000."""
    return min(rows, max(_LEAST_PILOT, min(_MOST_PILOT, rows // 5)))


def accepted(
    confidences: Sequence[float],
    pilot: Mapping[int, bool],
    *,
    target: float,
    alpha: float,
    scale: float = 1.0,
) -> Accepted:
    """The lowest threshold for which, with a probability of at least 1 - `alpha`, a share of at
    least `target` of the kept rows outside the pilot is right.

    Args:
        confidences: of all rows.
        pilot: whether a row is right, by its place in `confidences`; a simple random sample.
        scale: how many times as many rows the table has as are given, where only a sample of it
            is known.
    """
    if not confidences or not pilot:
        return NOTHING._replace(asked=len(pilot))
    ordered = sorted(confidences, reverse=True)
    needed = _MARGIN * math.log(alpha) / math.log(target)
    found, before = NOTHING._replace(asked=len(pilot)), math.inf
    for step in range(1, _STEPS + 1):
        threshold = ordered[max(1, len(ordered) * step // _STEPS) - 1]
        if threshold == before or step * len(pilot) / _STEPS < needed:
            continue
        before = threshold
        rows = sum(1 for c in ordered if c >= threshold)
        judged = [is_right for place, is_right in pilot.items() if confidences[place] >= threshold]
        wrong = judged.count(False)
        rest = round(rows * scale) - len(judged)
        if not is_enough(len(judged), wrong, rest, target=target, alpha=alpha):
            break
        found = Accepted(threshold, rows / len(ordered), len(judged), wrong, len(pilot))
    return found


def is_enough(pilot: int, wrong: int, rest: int, *, target: float, alpha: float) -> bool:
    """Whether a pilot with so many wrong rows shows that enough of the `rest` is right.

    If more than a share of 1 - `target` of the rest were wrong, a pilot drawn from the same rows
    would have so few wrong ones with a probability of at most `alpha`.
    """
    too_many = math.floor((1 - target) * rest + 1e-9) + 1  # wrong rows in the rest
    if too_many > rest:
        return True  # no number of them is too many
    return all(
        _at_most(seen, pilot, too_many + seen, pilot + rest) <= alpha for seen in range(wrong + 1)
    )


def _at_most(hits: int, drawn: int, of: int, rows: int) -> float:
    """The probability of at most `hits` of `of` marked rows among `drawn` of all `rows`
    (hypergeometric distribution)."""
    least = max(0, drawn - (rows - of))
    every = _log_choose(rows, drawn)
    return math.fsum(
        math.exp(_log_choose(of, k) + _log_choose(rows - of, drawn - k) - every)
        for k in range(least, min(hits, of, drawn) + 1)
    )


def _log_choose(n: int, k: int) -> float:
    return math.lgamma(n + 1) - math.lgamma(k + 1) - math.lgamma(n - k + 1)
