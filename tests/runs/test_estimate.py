"""What a run would cost, from a pilot of rows."""

from __future__ import annotations

import random
from typing import Any

import pytest
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn
from pardspy_nb.runs.estimate import _sum_of

QUIET: dict[str, Any] = {"progress": "none"}


@pytest.mark.slow
def test_an_estimate_is_near_the_truth_and_its_pilot_is_not_paid_again(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    def script(marker: int, attempt: int) -> Reply:
        dice = random.Random(marker)
        if marker % 10 == 3:
            return Reply("status", code=400)
        return Reply(usage=(dice.randint(100, 300), dice.randint(10, 50), 0))

    server.script = script
    rows = [f"row-{i}" for i in range(400)]
    estimate = pn.estimate(predict, rows, sample=40, seed=2, **QUIET)
    assert len(server.requests) == 40
    assert len(estimate.pilot) == 40
    assert estimate.rows == 400
    pilot_ok = int((estimate.pilot["status"] == "ok").sum())
    assert (estimate.remembered, estimate.to_ask) == (pilot_ok, 400 - pilot_ok)

    df = pn.run_parallel(predict, rows, max_failures=None, **QUIET)
    tokens, cost = df["total_tokens"].sum(), df["cost_usd"].sum()
    assert df["cached"].sum() == pilot_ok
    assert estimate.tokens is not None
    assert estimate.cost_usd is not None
    assert estimate.tokens.low < tokens < estimate.tokens.high
    assert estimate.cost_usd.low < cost < estimate.cost_usd.high
    assert estimate.tokens.high < 2 * estimate.tokens.expected
    assert estimate.failure_rate.low < 0.1 < estimate.failure_rate.high
    assert estimate.time_s is not None
    assert estimate.time_s.expected > 0


def test_a_second_estimate_costs_nothing_and_tells_the_same(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    rows = [f"row-{i}" for i in range(100)] + ["row-5"] * 30
    first = pn.estimate(predict, rows, sample=10, **QUIET)
    server.requests.clear()
    second = pn.estimate(predict, rows, sample=10, **QUIET)
    assert not server.requests
    assert second.pilot_cost_usd == 0
    assert (second.tokens, second.cost_usd) == (first.tokens, first.cost_usd)
    assert second.time_s == pytest.approx(first.time_s, rel=0.5)
    assert second.equal + second.remembered + second.to_ask == 130
    assert second.equal in (29, 30, 0), "all of row-5, but for the one that is asked"
    assert "130" in repr(second)
    assert "95 %" in second._repr_html_()


def test_the_pilot_is_a_random_choice_in_order(predict: pn.Predict, server: ScriptedServer) -> None:
    rows = [f"row-{i}" for i in range(200)]
    chosen = [
        pn.estimate(predict, rows, seed=seed, store=None, **QUIET).pilot.index.tolist()
        for seed in (0, 0, 1)
    ]
    assert chosen[0] == chosen[1] != chosen[2]
    assert len(set(chosen[0])) == 20
    assert chosen[0] == sorted(chosen[0])
    assert max(chosen[0]) > 100


def test_without_a_store_all_rows_are_projected(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    estimate = pn.estimate(predict, [f"row-{i}" for i in range(50)], store=None, **QUIET)
    assert estimate.to_ask == 50
    assert estimate.tokens == (900, 900, 900)


def test_what_cannot_be_estimated_is_refused(predict: pn.Predict) -> None:
    with pytest.raises(ValueError, match="list"):
        pn.estimate(predict, iter([{"review": "x"}]), **QUIET)
    with pytest.raises(ValueError, match="at least 2"):
        pn.estimate(predict, ["x"], sample=1, **QUIET)
    with pytest.raises(ValueError, match="rows"):
        pn.estimate(predict, [], **QUIET)


def test_functions_have_time_and_failures_but_no_tokens() -> None:
    def half(x: int) -> int:
        if x % 2:
            raise ValueError("odd")
        return x

    estimate = pn.estimate(half, list(range(100)), **QUIET)
    assert (estimate.tokens, estimate.cost_usd) == (None, None)
    assert estimate.failure_rate.low < 0.5 < estimate.failure_rate.high
    assert "unknown" in repr(estimate)


def test_the_interval_of_a_sum_covers_what_it_promises() -> None:
    """Ninety-five in a hundred, give or take."""
    dice = random.Random(1)
    covered = 0
    for _ in range(400):
        seen = [dice.lognormvariate(5, 0.4) for _ in range(20)]
        rest = sum(dice.lognormvariate(5, 0.4) for _ in range(200))
        interval = _sum_of(seen, 200)
        assert interval is not None
        covered += interval.low <= rest <= interval.high
    assert 0.91 <= covered / 400 <= 0.98


def test_a_pilot_without_an_answer_tells_no_cost(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    server.script = lambda marker, attempt: Reply("status", code=400)
    estimate = pn.estimate(predict, [f"row-{i}" for i in range(30)], sample=5, **QUIET)
    assert (estimate.tokens, estimate.cost_usd) == (None, None)
    assert estimate.failure_rate.expected == 1
    server.script = lambda marker, attempt: Reply()
    few = pn.estimate(predict, ["row-1", "row-2"], return_all=False, **QUIET)
    assert (len(few.pilot), few.to_ask, few.tokens) == (2, 0, (0, 0, 0))
