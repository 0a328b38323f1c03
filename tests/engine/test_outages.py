"""Outages, and sources and stores that break, on a virtual clock."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import pytest
from support.engine_runs import Flaky, Keyed, finished, one_second, rows, run

from pardspy_nb.core.clock import SystemClock
from pardspy_nb.core.events import (
    Answer,
    Event,
    Row,
    RunFinished,
)
from pardspy_nb.engine.config import EngineConfig
from pardspy_nb.engine.engine import Engine
from pardspy_nb.engine.policies import FailurePolicy, RetryPolicy


class Out(Exception):
    retryable = outage = True


def test_an_outage_shorter_than_two_minutes_only_waits() -> None:
    flaky: list[int] = []

    async def call(row: Row) -> Answer:
        if 2 <= asyncio.get_running_loop().time() < 100:
            raise Out()
        if row.number == 5 and len(flaky) < 3:
            flaky.append(5)
            raise Flaky()
        await asyncio.sleep(1)
        return Answer({})

    done = finished(run(6, call))
    assert {r.status for r in done.values()} == {"ok"}
    assert done[4].attempts > 4, "attempts that could not be sent do not use up the four"


def test_a_longer_outage_fails_its_rows_and_one_attempt_is_one() -> None:
    async def call(row: Row) -> Answer:
        raise Out()

    done = finished(run(1, call))
    assert done[0].status == "failed"
    assert 120 <= (done[0].waited_ms or 0) / 1e3 <= 130
    assert done[0].attempts < 40, "the waits grow to five seconds"
    once = finished(run(1, call, retry=RetryPolicy(1)))
    assert (once[0].status, once[0].attempts) == ("failed", 1)


@pytest.mark.parametrize("broken", ["recall", "remember"])
def test_a_store_that_breaks_stops_the_run_and_keeps_the_answer(broken: str) -> None:
    class Broken(Keyed):
        def get(self, row: Row, key: bytes | None) -> Answer | None:
            if broken == "recall" and row.number == 2:
                raise OSError("gone")
            return None

        async def put(self, row: Row, key: bytes | None, answer: Answer, *made: Any) -> None:
            if broken == "remember" and row.number == 2:
                raise OSError("full")

    events = run(9, one_second, workers=1, cache=Broken())
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert (end.reason, type(end.error)) == ("store", OSError)
    expected = "not_run" if broken == "recall" else "ok"
    assert [r.status for r in finished(events).values()] == ["ok", "ok", expected]


def test_a_source_that_waits_does_not_hold_up_a_cancel() -> None:
    release = threading.Event()

    def source() -> Any:
        yield from rows(2)
        release.wait(30)

    async def main() -> list[Event]:
        events: list[Event] = []
        engine = Engine(
            source(),
            call,
            events.append,
            EngineConfig(
                total=None,
                max_workers=4,
                retry=RetryPolicy(),
                failure=FailurePolicy(None),
                blocking_source=True,
            ),
            clock=SystemClock(),
        )
        running = asyncio.ensure_future(engine.run())
        while len(finished(events)) < 2:
            await asyncio.sleep(0.01)
        engine.controls.stop("cancelled", now=True)
        await asyncio.wait_for(running, 10)
        return events

    async def call(row: Row) -> Answer:
        return Answer({})

    events = asyncio.run(main())
    release.set()
    assert isinstance(events[-1], RunFinished)
    assert events[-1].reason == "cancelled"


def test_a_pause_after_the_last_row_has_started_does_not_keep_the_run_open() -> None:
    def control(engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(0.5, engine.controls.pause)

    events = run(2, one_second, workers=2, control=control)
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert end.elapsed_s == 1


def test_a_row_cancelled_before_its_retry_began_frees_its_lane() -> None:
    """The sweep may meet a row whose worker has not taken its first step yet."""
    seen: dict[int, int] = {}

    async def call(row: Row) -> Answer:
        seen[row.number] = seen.get(row.number, 0) + 1
        if row.number == 0 and seen[0] == 1:
            raise Flaky(retry_after_s=5)
        await asyncio.sleep(0.1)
        return Answer({})

    def control(engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(0.35, engine.controls.pause)
        loop.call_later(10, lambda: (engine.controls.resume(), engine.controls.drop_stragglers()))

    done = finished(run(40, call, workers=2, lanes=2, control=control))
    assert done[0].status == "cancelled"
    assert {done[n].status for n in range(1, 40)} == {"ok"}


def test_a_dropped_row_is_cancelled_once_and_may_tidy_up() -> None:
    tidied: list[int] = []

    async def call(row: Row) -> Answer:
        if row.number == 0:
            try:
                await asyncio.sleep(1000)
            finally:
                await asyncio.sleep(2)
                tidied.append(row.number)
        await asyncio.sleep(1)
        return Answer({})

    def control(engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        engine.controls.drop_stragglers()

    assert finished(run(3, call, workers=3, control=control))[0].status == "cancelled"
    assert tidied == [0]


def test_a_source_that_raises_anything_ends_the_run() -> None:
    def source() -> Any:
        yield from rows(2)
        raise asyncio.CancelledError("from the source")

    end = run(5, one_second, source=source())[-1]
    assert isinstance(end, RunFinished)
    assert (end.reason, type(end.error)) == ("source", asyncio.CancelledError)
