"""Slow rows asked a second time, on a virtual clock."""

from __future__ import annotations

import asyncio
import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.limit_simulation import Broken, Sim, TooMany

from pardspy_nb.core.events import (
    Answer,
    AttemptLost,
    Row,
    RowFinished,
)
from pardspy_nb.core.usage import Usage
from pardspy_nb.engine.engine import Engine
from pardspy_nb.engine.policies import HedgePolicy
from pardspy_nb.engine.protocols import Limiter
from pardspy_nb.engine.rate_limiter import RateLimiter


def test_a_slow_request_is_asked_once_more_and_the_first_answer_counts() -> None:
    asked: list[int] = []
    broken_off: list[int] = []

    async def ask(row: Row) -> Answer:
        asked.append(row.number)
        try:
            await asyncio.sleep(30 if row.number == 50 and asked.count(50) == 1 else 1)
        except asyncio.CancelledError:
            broken_off.append(row.number)
            raise
        return Answer({}, Usage(100, 10, 110, 0.5))

    sim = Sim()
    done = sim.run(100, ask, workers=10, hedge=HedgePolicy(0.95))
    assert sim.end.elapsed_s < 12
    assert asked.count(50) == 2
    assert broken_off == [50]
    row = done[50]
    assert (row.status, row.attempts, row.usage.total_tokens) == ("ok", 2, 220)
    assert row.usage.cost_usd == 1.0, "the one broken off counts as much"
    assert row.latency_ms == pytest.approx(1000)
    assert [e.row.number for _, e in sim.events if isinstance(e, AttemptLost)] == [50]
    assert {r.attempts for n, r in done.items() if n != 50} == {1}


def test_duplicates_are_at_most_one_a_row_and_five_percent_of_the_rows() -> None:
    rng = random.Random(3)
    asked: list[int] = []

    async def ask(row: Row) -> Answer:
        asked.append(row.number)
        await asyncio.sleep(20 if rng.random() < 0.3 else 1)
        return Answer({})

    sim = Sim()
    done = sim.run(400, ask, workers=50, hedge=HedgePolicy(0.5))
    assert {r.status for r in done.values()} == {"ok"}
    twice = [n for n in range(400) if asked.count(n) == 2]
    assert max(asked.count(n) for n in range(400)) == 2
    assert 10 <= len(twice) <= 20
    so_far: dict[int, int] = {}
    for n in asked:
        so_far[n] = so_far.get(n, 0) + 1
        assert sum(c - 1 for c in so_far.values()) <= 0.05 * len(so_far)


def test_the_usual_rows_do_not_use_up_the_duplicates() -> None:
    """One in twenty is beyond the 95th percentile by definition; it is the last row that hangs."""
    rng = random.Random(4)
    asked: list[int] = []

    async def ask(row: Row) -> Answer:
        asked.append(row.number)
        hangs = row.number == 380 and asked.count(380) == 1
        await asyncio.sleep(60 if hangs else rng.uniform(0.5, 1.5))
        return Answer({})

    sim = Sim()
    sim.run(400, ask, workers=20, hedge=HedgePolicy(0.95))
    assert asked.count(380) == 2
    assert sim.end.elapsed_s < 25
    assert len(asked) - 400 <= 10, "half of what is allowed"


def test_a_failed_attempt_leaves_its_row_to_the_duplicate() -> None:
    tries: dict[int, int] = {}

    async def ask(row: Row) -> Answer:
        tries[row.number] = tries.get(row.number, 0) + 1
        if row.number == 60:
            await asyncio.sleep(5 if tries[60] == 1 else 8)
            if tries[60] < 3:
                raise Broken()
            return Answer({})
        await asyncio.sleep(1)
        return Answer({})

    sim = Sim()
    done = sim.run(120, ask, workers=10, hedge=HedgePolicy(0.9), attempts=2)
    assert (done[60].status, done[60].attempts) == ("failed", 2) or done[60].status == "ok"
    assert tries[60] == 3, "a duplicate is no attempt of the retry policy's"
    assert done[60].attempts == 3


def test_duplicates_pass_the_gates_and_a_stop_ends_both() -> None:
    inside: list[int] = []

    class Count(Limiter):
        def wait_s(self, row: Row, now: float) -> float:
            return 0.0

        def enter(self, row: Row, now: float) -> None:
            inside.append(row.number)

        def leave(self, row: Row, outcome: Any, now: float) -> None:
            inside.remove(row.number)

    sim = Sim()
    most: list[int] = []

    async def ask(row: Row) -> Answer:
        most.append(inside.count(40))
        await asyncio.sleep(1000 if row.number == 40 else 1)
        return Answer({})

    done = sim.run(
        41, ask, workers=4, hedge=HedgePolicy(0.9), limiters=[Count()], timeout_s=60, attempts=1
    )
    assert max(most) == 2
    assert inside == []
    assert done[40].status == "failed"
    assert sim.end.max_in_flight <= 4, "a duplicate takes a worker"


@pytest.mark.parametrize("fails", [False, True])
def test_a_duplicate_is_let_be_whose_row_ends_before_it_begins(fails: bool) -> None:
    """Row 3's attempt ends in the very turn of the loop in which its duplicate gets a worker."""
    sim = Sim()
    sent: list[int] = []
    sweep_s = next(k * 0.05 for k in range(1, 100) if k * 0.05 > 2.06)

    class Late(HedgePolicy):
        def after_s(self, latencies_s: Any, duplicates: int, rows: int) -> float | None:
            return 2.06 if len(latencies_s) >= 20 else None

    async def ask(row: Row) -> Answer:
        sent.append(row.number)
        if row.number != 3 or sent.count(3) > 1:
            await asyncio.sleep(1)
            return Answer({})
        ended = sim.loop.create_future()
        sim.loop.call_at(sweep_s - 5e-10, ended.set_result, None)
        await ended
        if fails:
            raise TooMany(retry_after_s=5)
        return Answer({})

    done = sim.run(40, ask, workers=50, hedge=Late(0.95))
    assert (done[3].status, done[3].attempts) == ("ok", sent.count(3))
    assert sent.count(3) == (2 if fails else 1)
    assert sum(isinstance(e, RowFinished) for _, e in sim.events) == 40


def test_a_dropped_straggler_is_not_asked_again() -> None:
    sim = Sim()

    async def ask(row: Row) -> Answer:
        await asyncio.sleep(100_000 if row.number in (30, 31) else 1)
        return Answer({})

    def drop(engine: Engine) -> None:
        sim.loop.call_at(60, engine.controls.drop_stragglers)

    done = sim.run(40, ask, workers=2, hedge=HedgePolicy(0.9), control=drop)
    assert sim.end.elapsed_s < 80
    assert [done[n].status for n in (30, 31)] == ["cancelled"] * 2


def test_a_duplicate_that_the_budget_refuses_holds_up_nobody() -> None:
    class Two(Limiter):
        """Two rows' worth; row 25 and its duplicate would be one too many."""

        def __init__(self) -> None:
            self.inside: list[int] = []

        def wait_s(self, row: Row, now: float) -> float:
            dear = row.number in self.inside
            return math.inf if dear or len(self.inside) == 2 else 0.0

        def enter(self, row: Row, now: float) -> None:
            self.inside.append(row.number)

        def leave(self, row: Row, outcome: Any, now: float) -> None:
            self.inside.remove(row.number)

    sim = Sim()

    async def ask(row: Row) -> Answer:
        await asyncio.sleep(50 if row.number == 25 else 1)
        return Answer({})

    done = sim.run(60, ask, workers=4, hedge=HedgePolicy(0.9), limiters=[Two()])
    assert {r.attempts for r in done.values()} == {1}
    assert sim.end.elapsed_s == pytest.approx(25 / 2 + 50, abs=3), "the others go on beside it"


@pytest.mark.slow
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**30), st.integers(1, 40), st.sampled_from([None, 0.5, 0.9]))
def test_under_any_faults_each_row_ends_once_and_counts_add_up(
    seed: int, workers: int, hedge: float | None
) -> None:
    rng = random.Random(seed)
    started: list[int] = []

    async def ask(row: Row) -> Answer:
        started.append(row.number)
        fate = rng.random()
        await asyncio.sleep(rng.choice([0.1, 1, 1, 1, 10]))
        if fate < 0.05:
            raise TooMany(rng.choice([None, 0.0, 2.0]))
        if fate < 0.1:
            raise Broken()
        if fate < 0.12:
            raise ValueError("no more tries")
        return Answer({"n": row.number}, Usage(1, 1, 2))

    sim = Sim()
    limiters = [RateLimiter(6000, None, lambda _: 1)]
    done = sim.run(
        120,
        ask,
        workers=workers,
        limiters=limiters,
        timeout_s=8,
        hedge=None if hedge is None else HedgePolicy(hedge),
    )
    ends = [e.row.number for _, e in sim.events if isinstance(e, RowFinished)]
    assert sorted(ends) == list(range(120))
    assert {r.status for r in done.values()} <= {"ok", "failed"}
    assert all(r.answer.outputs["n"] == n for n, r in done.items() if r.answer)
    for n, r in done.items():
        assert r.attempts == started.count(n)
    lost = sum(isinstance(e, AttemptLost) for _, e in sim.events)
    assert lost <= 0.05 * 120
