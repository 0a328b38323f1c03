"""The guarantee of a cascade's threshold, by simulation over whole tables."""

from __future__ import annotations

import math
import random
from collections.abc import Callable

import pytest

from pardspy_nb.modules.acceptance import _at_most, accepted, is_enough, pilot_size

TARGET, TABLES = 0.9, 1000
KINDS: dict[str, Callable[[float], float]] = {
    "calibrated": lambda sure: 0.5 + 0.5 * sure,
    "just below the target everywhere": lambda sure: TARGET - 0.005,
    "just at the target": lambda sure: TARGET,
    "means nothing": lambda sure: 0.6,
    "inverse": lambda sure: 1 - 0.5 * sure,
    "good until half": lambda sure: 0.999 if sure > 0.5 else 0.3,
    "few values": lambda sure: 0.8 + 0.19 * round(3 * sure) / 3,
}


@pytest.mark.parametrize("kind", KINDS)
def test_too_few_right_answers_are_kept_in_at_most_one_table_of_twenty(kind: str) -> None:
    draw, rows = random.Random(kind), 500
    broken = kept = 0
    for _ in range(TABLES):
        sure = [draw.random() for _ in range(rows)]
        if kind == "few values":
            sure = [round(3 * s) / 3 for s in sure]
        right = [draw.random() < KINDS[kind](s) for s in sure]
        pilot = {i: right[i] for i in draw.sample(range(rows), pilot_size(rows))}
        found = accepted(sure, pilot, target=TARGET, alpha=0.05)
        mine = [right[i] for i in range(rows) if i not in pilot and sure[i] >= found.threshold]
        broken += bool(mine) and sum(mine) / len(mine) < TARGET
        kept += len(mine)
    assert broken / TABLES <= 0.05
    share = kept / TABLES / rows
    assert share > 0.3 if kind == "good until half" else True
    assert share < 0.02 if kind in ("means nothing", "inverse") else True


def test_a_good_model_keeps_most_of_a_large_table() -> None:
    draw, rows = random.Random(1), 20_000
    sure = [draw.random() for _ in range(rows)]
    pilot = {i: draw.random() < 0.9 + 0.1 * sure[i] for i in draw.sample(range(rows), 400)}
    found = accepted(sure, pilot, target=0.9, alpha=0.05)
    assert found.kept > 0.8
    assert found.asked == 400
    assert found.threshold < 0.2


def test_the_distribution_is_scipys() -> None:
    from scipy.stats import hypergeom

    for hits, drawn, of, rows in [(0, 59, 60, 1000), (3, 100, 80, 900), (5, 200, 20, 240)]:
        expected = hypergeom.cdf(hits, rows, of, drawn)
        assert _at_most(hits, drawn, of, rows) == pytest.approx(expected, rel=1e-9)


def test_a_large_table_needs_what_the_binomial_test_needs() -> None:
    # 59 right answers of 59 show, at 5 %, that more than 95 % are right: 0.95 ** 59 < 0.05
    assert is_enough(59, 0, 10**6, target=0.95, alpha=0.05)
    assert not is_enough(58, 0, 10**6, target=0.95, alpha=0.05)


def test_nothing_is_kept_without_rows_or_pilot() -> None:
    assert accepted([], {}, target=0.9, alpha=0.05).threshold == math.inf
    assert accepted([0.9] * 50, {}, target=0.9, alpha=0.05).kept == 0
