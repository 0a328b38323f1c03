"""How many rows in flight an endpoint bears, on a virtual clock."""

from __future__ import annotations

import asyncio
import random

import pytest
from support.limit_simulation import Broken, Sim, TooMany

from pardspy_nb.core.events import (
    Answer,
    AttemptFailed,
    Row,
    RowStarted,
)
from pardspy_nb.engine.adaptive_concurrency import AdaptiveConcurrency
from pardspy_nb.engine.rate_limiter import RateLimiter


class Slots:
    """An endpoint that lets so many in at a time, and refuses the others at once."""

    def __init__(self, slots: int, spread: float, network_s: float) -> None:
        self.slots, self.spread, self.network_s = slots, spread, network_s
        self.inside = self.refused = 0
        self.rng = random.Random(slots)

    async def __call__(self, row: Row) -> Answer:
        if self.network_s:
            await asyncio.sleep(self.network_s)
        if self.inside >= self.slots:
            self.refused += 1
            raise TooMany()
        self.inside += 1
        await asyncio.sleep(self.rng.uniform(1 - self.spread, 1 + self.spread))
        self.inside -= 1
        return Answer({})


@pytest.mark.parametrize("spread", [0.0, 0.3, 0.9])
@pytest.mark.parametrize(("slots", "network_s"), [(5, 0.01), (24, 0.0), (24, 0.1), (100, 0.01)])
def test_auto_workers_find_what_an_endpoint_lets_in_without_a_storm(
    slots: int, network_s: float, spread: float
) -> None:
    sim, endpoint = Sim(), Slots(slots, spread, network_s)
    done = sim.run(
        40 * slots,
        endpoint,
        workers=2,
        auto=True,
        attempts=9,
        limiters=[RateLimiter(None, None, lambda _: 1)],
    )
    assert {r.status for r in done.values()} == {"ok"}
    assert endpoint.refused <= slots, "one round trip's worth at most"
    found = [sim.limit_at(sim.end.elapsed_s * (0.5 + k / 250)) for k in range(100)]
    assert all(0.75 * slots <= n <= 1.1 * slots + 1 for n in found)
    assert 0.9 * slots <= sum(found) / 100 <= 1.1 * slots
    assert sim.end.elapsed_s <= 1.5 * 40


@pytest.mark.parametrize("spread", [0.1, 0.3, 0.9])
@pytest.mark.parametrize("slots", [24, 50])
def test_auto_workers_stop_growing_where_more_brings_nothing(slots: int, spread: float) -> None:
    sim, rng = Sim(), random.Random(7)
    served = asyncio.Semaphore(slots)

    async def ask(row: Row) -> Answer:
        async with served:
            await asyncio.sleep(rng.uniform(1 - spread, 1 + spread))
        return Answer({})

    sim.run(60 * slots, ask, workers=2, auto=True)
    assert sim.end.max_in_flight <= 4 * slots
    assert slots <= sim.limit_at(sim.end.elapsed_s) <= 2 * slots
    assert len({sim.limit_at(sim.end.elapsed_s * (0.6 + k / 250)) for k in range(100)}) == 1


def test_a_429_cuts_once_for_all_that_were_sent_before_it() -> None:
    auto = AdaptiveConcurrency(20)
    rows = [Row(i, i, 0, {}) for i in range(40)]
    for row in rows[:20]:
        auto.see(RowStarted(row, 1), 0.0)
    assert auto.see(AttemptFailed(rows[0], 1, TooMany(), 10, 1), 0.1)
    assert auto.limit == 17, "nine tenths of the 19 that were let in"
    auto.see(AttemptFailed(rows[1], 1, TooMany(), 10, 1), 0.2)
    assert auto.limit == 17, "18 are let in yet"
    for row in rows[2:5]:
        auto.see(AttemptFailed(row, 1, TooMany(), 10, 1), 0.3)
    assert auto.limit == 15, "no more than are let in"
    auto.see(RowStarted(rows[20], 1), 0.4)
    auto.see(AttemptFailed(rows[20], 1, TooMany(), 10, 1), 0.5)
    assert auto.limit == 13, "sent after the cut, and refused: another one"


@pytest.mark.slow
@pytest.mark.parametrize(("latency_s", "storm_s", "most_s"), [(1, 6.0, 185), (5, 0.4, 600)])
def test_a_bad_moment_is_not_remembered_for_long(
    latency_s: float, storm_s: float, most_s: float
) -> None:
    """All that is under way is refused for some seconds, at whatever number there is by then."""

    async def ask(row: Row) -> Answer:
        await asyncio.sleep(latency_s)
        if 40 <= asyncio.get_running_loop().time() < 40 + storm_s:
            raise TooMany()
        return Answer({})

    sim = Sim()
    done = sim.run(12_000 if latency_s == 1 else 8000, ask, workers=2, auto=True, attempts=30)
    assert {r.status for r in done.values()} == {"ok"}
    assert min(limit for at, limit in sim.limits if at >= 40) <= 8
    assert sim.end.elapsed_s <= most_s


def test_trouble_pauses_growth_and_does_not_cut() -> None:
    async def ask(row: Row) -> Answer:
        await asyncio.sleep(1)
        if row.number % 40 == 3 and asyncio.get_running_loop().time() < 60:
            raise Broken()
        return Answer({})

    sim = Sim()
    sim.run(4000, ask, workers=2, auto=True, attempts=9)
    limits = [limit for _, limit in sim.limits]
    assert limits == sorted(limits)
    calm = Sim()

    async def fine(row: Row) -> Answer:
        await asyncio.sleep(1)
        return Answer({})

    calm.run(4000, fine, workers=2, auto=True)
    assert sim.limit_at(30) < calm.limit_at(30) / 2


def test_only_a_run_whose_workers_are_all_busy_lets_them_grow() -> None:
    async def ask(row: Row) -> Answer:
        await asyncio.sleep(1)
        return Answer({})

    sim = Sim()
    sim.run(300, ask, workers=2, auto=True, limiters=[RateLimiter(300, None, lambda _: 1)])
    assert sim.limit_at(sim.end.elapsed_s) <= 10, "five a second of one second each"
