"""Shares from many model labels and few human ones have honest intervals.

That they are the reference's where it is exact: `integration/other_libraries/test_ppi_python.py`.
"""

from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from pardspy_nb.analysis.picks import draw, inclusion, permanent_numbers
from pardspy_nb.analysis.ppi import share_of


def labels(n: int, share: float, wrong: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """(truth, what a model says)."""
    random = np.random.default_rng(seed)
    truth = (random.random(n) < share).astype(float)
    return truth, np.where(random.random(n) < wrong, 1 - truth, truth)


def test_a_perfect_model_that_was_hardly_checked_is_not_taken_to_be_perfect() -> None:
    truth, said = labels(2000, 0.3, 0.0, 3)
    few = share_of(truth[:50], said[:50], said[50:], None, 0.95)
    many = share_of(truth[:1000], said[:1000], said[1000:], None, 0.95)
    assert few.method == "ppi++ (few)"
    assert few.high - few.low > 2 * (many.high - many.low)


def test_a_model_that_says_nothing_leaves_the_human_sample() -> None:
    truth, _ = labels(2000, 0.3, 0.0, 3)
    constant = np.zeros(2000)
    found = share_of(truth[:80], constant[:80], constant[80:], None, 0.95)
    assert found.method == "human sample"
    assert found.share == pytest.approx(truth[:80].mean())


def test_a_label_that_no_human_saw_has_a_share_all_the_same() -> None:
    nobody = np.zeros(60)
    found = share_of(nobody, nobody, np.zeros(1000), None, 0.95)
    assert (found.share, found.low) == (0.0, 0.0)
    assert 0.03 < found.high < 0.08  # "none in 60" says at most so much


def a_draw(kind: str, pick: str, n: int, random: np.random.Generator) -> tuple[bool, float, float]:
    """Whether the interval holds, its width, and that of the human sample alone."""
    rows = 2500
    share = 0.02 if kind == "rare" else 0.3
    missed, invented = {
        "good": (0.08, 0.04),
        "biased": (0.35, 0.02),
        "worse than chance": (0.75, 0.45),
        "rare": (0.3, 0.01),
    }[kind]
    truth = random.random(rows) < share
    is_wrong = random.random(rows) < np.where(truth, missed, invented)
    said = np.where(is_wrong, ~truth, truth)
    sure = np.clip(random.beta(8, 2, rows) - np.where(is_wrong, 0.25, 0.0), 0.5, 1.0)
    chances = inclusion(
        pick,  # type: ignore[arg-type]
        n,
        rows,
        pd.Series(said),
        pd.Series(sure),
    )
    places = draw(chances, random.random(rows), n)
    weights = None if pick == "random" else 1 / chances[places]
    rest = np.ones(rows, dtype=bool)
    if weights is None:
        rest[places] = False
    human, model = truth[places].astype(float), said[places].astype(float)
    found = share_of(human, model, said[rest].astype(float), weights, 0.95)
    alone = share_of(human, model, np.array([]), weights, 0.95)
    return found.low <= share <= found.high, found.high - found.low, alone.high - alone.low


@pytest.mark.slow
@pytest.mark.parametrize("pick", ["random", "stratified", "uncertain"])
@pytest.mark.parametrize("kind", ["good", "biased", "worse than chance", "rare"])
def test_intervals_hold_and_are_never_wider_than_the_humans(kind: str, pick: str) -> None:
    """At 95 % over many tables. The bounds leave room for the luck of 600 draws (two standard
    errors are 1.8 points), and for labels that are rare: of these whole numbers are seen."""
    random = np.random.default_rng(len(kind) * 10 + len(pick))
    for n in (50, 100, 300):
        draws = [a_draw(kind, pick, n, random) for _ in range(600)]
        held = np.mean([holds for holds, _, _ in draws])
        width, alone = np.mean([w for _, w, _ in draws]), np.mean([a for _, _, a in draws])
        assert 0.91 <= held <= 1.0, (kind, pick, n, held)
        assert width <= 1.02 * alone
        if kind == "good":
            assert width < 0.75 * alone


def test_picks_have_the_probabilities_that_are_told() -> None:
    rows, n = 60, 12
    sure = pd.Series(np.linspace(0.4, 1.0, rows))
    strata = pd.Series(["a"] * 50 + ["b"] * 8 + ["c"] * 2)
    for pick in ("random", "stratified", "uncertain"):
        chances = inclusion(pick, n, rows, strata, sure)
        assert chances.sum() == pytest.approx(n)
        assert chances.max() <= 1.0
        counts = np.zeros(rows)
        random = np.random.default_rng(5)
        for _ in range(3000):
            picked = draw(chances, random.random(rows), n)
            assert len(set(picked.tolist())) == n
            counts[picked] += 1
        assert np.abs(counts / 3000 - chances).max() < 0.05
    by_stratum = inclusion("stratified", n, rows, strata, None)
    assert by_stratum[-1] == 1.0, "a stratum of two is taken whole"
    assert by_stratum[:50].sum() == pytest.approx(by_stratum[50:58].sum())


def test_the_same_table_gives_the_same_picks_and_a_longer_one_mostly_the_same() -> None:
    keys = [f"row {i}" for i in range(1000)]
    numbers = permanent_numbers(keys, "picked")
    first = draw(np.full(900, 50 / 900), numbers[:900], 50)
    later = draw(np.full(1000, 50 / 1000), numbers, 50)
    assert numbers.tolist() == permanent_numbers(keys, "picked").tolist()
    assert 0.45 < numbers.mean() < 0.55
    assert len({*first.tolist()} & {*later.tolist()}) > 35
