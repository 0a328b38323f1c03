"""Rows that take much longer than the others."""

from __future__ import annotations

import asyncio

from support.engine_runs import Flaky, finished, run

from pardspy_nb.core.events import (
    Answer,
    Row,
    RunFinished,
)
from pardspy_nb.engine.engine import Engine


def test_stragglers_are_dropped_and_the_others_go_on() -> None:
    """Rows take 1 s, so from 2 s on a row is a straggler; the sweep looks every 0.25 s."""
    ends: dict[int, float] = {}

    async def call(row: Row) -> Answer:
        task = asyncio.current_task()
        assert task is not None
        assert not task.cancelling(), "a dropped row's cancellation reached the next one"
        await asyncio.sleep(1000 if row.number in (2, 5) else 1)
        ends[row.number] = asyncio.get_running_loop().time()
        return Answer({})

    def control(engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(1.5, engine.controls.drop_stragglers)

    events = run(12, call, workers=3, control=control)
    done = finished(events)
    assert {n for n, r in done.items() if r.status == "cancelled"} == {2, 5}
    assert all(done[n].status == "ok" for n in range(12) if n not in (2, 5))
    assert (done[2].latency_ms, done[2].error) == (2000, None)
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert end.reason == "done"
    assert end.elapsed_s < 10


def test_a_straggler_may_wait_for_a_retry_and_a_cancelled_row_is_not_tried_again() -> None:
    async def call(row: Row) -> Answer:
        if row.number == 0:
            raise Flaky(retry_after_s=1000)
        if row.number == 1:
            try:
                await asyncio.sleep(1000)
            except asyncio.CancelledError:
                raise ValueError from None  # as a client that wraps what it does not know
        await asyncio.sleep(1)
        return Answer({})

    def control(engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        engine.controls.drop_stragglers()

    events = run(5, call, workers=3, control=control)
    done = finished(events)
    assert {n: r.status for n, r in done.items()} == {
        0: "cancelled",
        1: "cancelled",
        2: "ok",
        3: "ok",
        4: "ok",
    }
    assert [done[0].attempts, done[1].attempts] == [1, 1]
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert end.elapsed_s < 5


def test_without_a_finished_row_nothing_is_a_straggler() -> None:
    async def call(row: Row) -> Answer:
        await asyncio.sleep(50)
        return Answer({})

    def control(engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        engine.controls.drop_stragglers()

    assert all(r.status == "ok" for r in finished(run(4, call, control=control)).values())
