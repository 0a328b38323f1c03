"""Limiters in front of attempts, on a virtual clock."""

from __future__ import annotations

import asyncio
from typing import Any

from support.engine_runs import Flaky, finished, one_second, run

from pardspy_nb.core.events import (
    Answer,
    Row,
    RunFinished,
)
from pardspy_nb.engine.engine import Engine
from pardspy_nb.engine.protocols import UNTIL_ONE_LEAVES


class Enough(Exception):
    reason = "budget"


class Narrow:
    """A gate for two attempts at a time, and so many in all."""

    def __init__(self, most: int = 1000) -> None:
        self.inside, self.most, self.refused = set[int](), most, 0

    def wait_s(self, row: Row, now: float) -> float:
        if len(self.inside) == 2:
            self.refused += 1
            return UNTIL_ONE_LEAVES
        if not self.most:
            raise Enough("that was all")
        return 0.0

    def enter(self, row: Row, now: float) -> None:
        self.most -= 1
        self.inside.add(row.number)

    def leave(self, row: Row, outcome: Any, now: float) -> None:
        self.inside.remove(row.number)


def test_a_gate_holds_rows_back_in_order_and_none_is_lost() -> None:
    order: list[int] = []

    async def call(row: Row) -> Answer:
        order.append(row.number)
        await asyncio.sleep(1)
        if row.number == 1 and order.count(1) == 1:
            raise Flaky()
        return Answer({})

    gate = Narrow()
    events = run(10, call, workers=8, limiters=[gate])
    assert order == [0, 1, 2, 3, 4, 1, 5, 6, 7, 8, 9]
    assert {r.status for r in finished(events).values()} == {"ok"}
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert end.max_in_flight == 2
    assert gate.refused <= 10, "nobody asks again before another has left"


def test_a_gate_that_closes_ends_the_run_once_rows_in_flight_are_done() -> None:
    events = run(10, one_second, workers=8, limiters=[Narrow(most=3)])
    statuses = [finished(events)[n].status for n in range(4)]
    assert statuses == ["ok", "ok", "ok", "not_run"]
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert (end.reason, type(end.error)) == ("budget", Enough)


def test_a_straggler_cancelled_before_its_retry_began_leaves_the_gate() -> None:
    """Its timer and the look for stragglers (at 0.1, 0.35 and 0.6 s) fall due in one turn of
    the loop, the timer first."""
    gate = Narrow()

    def control(engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(0.1, engine.controls.drop_stragglers)

    async def call(row: Row) -> Answer:
        await asyncio.sleep(0.05 if row.number else 0.2)
        if row.number == 1:
            raise Flaky(retry_after_s=0.55 - 5e-10)
        return Answer({})

    done = finished(run(2, call, limiters=[gate], control=control))
    assert (done[1].status, done[1].attempts) == ("cancelled", 1)
    assert gate.inside == set()
