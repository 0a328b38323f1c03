"""The engine on a virtual clock: exact times, no models, no tables."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.engine_runs import Flaky, finished, one_second, rows, run

from pardspy_nb.core.events import (
    Answer,
    AttemptFailed,
    Event,
    Row,
    RowStarted,
    RunFinished,
    RunStarted,
    SettingsChanged,
)
from pardspy_nb.engine.config import EngineConfig
from pardspy_nb.engine.engine import Engine
from pardspy_nb.engine.policies import FailurePolicy, RetryPolicy
from pardspy_nb.testing import VirtualClock


def test_two_workers_take_rows_in_order_as_they_become_free() -> None:
    events = run(3, one_second)
    assert isinstance(events[0], RunStarted)
    assert events[0].total == 3
    started = [(e.row.number, e.attempt) for e in events if isinstance(e, RowStarted)]
    assert started == [(0, 1), (1, 1), (2, 1)]
    done = finished(events)
    assert [done[i].queued_ms for i in range(3)] == [0, 0, 1000]
    assert [done[i].latency_ms for i in range(3)] == [1000, 1000, 1000]
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert (end.reason, end.elapsed_s, end.max_in_flight) == ("done", 2, 2)


def test_retries_back_off_exponentially_and_the_wait_is_counted() -> None:
    times: list[float] = []

    async def call(row: Row) -> Answer:
        times.append(asyncio.get_running_loop().time())
        raise Flaky

    done = finished(run(1, call))
    assert times == [0, 0.5, 1.5, 3.5]
    assert done[0].status == "failed"
    assert (done[0].attempts, done[0].waited_ms) == (4, 3500)


def test_jitter_halves_the_wait_at_most() -> None:
    low = RetryPolicy(rand=lambda: 0.0)
    assert low.wait_s(1, Flaky()) == 0.25
    assert low.wait_s(3, Flaky()) == 1.0
    assert RetryPolicy(cap_s=30, max_attempts=99, rand=lambda: 1.0).wait_s(20, Flaky()) == 30


def test_retry_after_is_obeyed_and_frees_the_worker() -> None:
    at: list[tuple[int, float]] = []

    async def call(row: Row) -> Answer:
        at.append((row.number, asyncio.get_running_loop().time()))
        if row.number == 0 and len([n for n, _ in at if n == 0]) == 1:
            raise Flaky(retry_after_s=10)
        await asyncio.sleep(1)
        return Answer({})

    done = finished(run(3, call, workers=1))
    assert at == [(0, 0), (1, 0), (2, 1), (0, 10)]
    assert done[0].status == "ok"
    assert done[0].waited_ms == 10_000


def test_errors_that_cannot_be_retried_are_tried_once() -> None:
    async def call(row: Row) -> Answer:
        raise KeyError("x")

    assert finished(run(1, call))[0].attempts == 1


def test_timeout_is_an_attempt_that_failed_and_is_tried_again() -> None:
    async def call(row: Row) -> Answer:
        await asyncio.sleep(60)
        return Answer({})

    events = run(1, call, timeout_s=5.0)
    row = finished(events)[0]
    assert row.attempts == 4
    assert type(row.error) is TimeoutError
    assert str(row.error) == "no answer within 5 s"
    assert row.latency_ms == 5000
    assert len([e for e in events if isinstance(e, AttemptFailed)]) == 3


def test_usage_of_every_billed_attempt_is_summed() -> None:
    tries = [0]

    async def call(row: Row) -> Answer:
        tries[0] += 1
        if tries[0] < 3:
            raise Flaky(usage=10)
        return Answer({}, usage=1)

    assert finished(run(1, call))[0].usage == 21


@pytest.mark.parametrize(
    ("limit", "failed_rows"), [(0, 1), (2, 3), (0.25, 6), (None, 20)]
)  # share: more than 5 of 20
def test_max_failures_stops_new_rows_once_exceeded(limit: Any, failed_rows: int) -> None:
    async def call(row: Row) -> Answer:
        raise ValueError

    events = run(20, call, workers=1, failure=FailurePolicy(limit))
    assert len(finished(events)) == failed_rows
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert end.reason == ("done" if limit is None else "failures")


def test_rows_in_flight_finish_after_too_many_failures() -> None:
    async def call(row: Row) -> Answer:
        if row.number == 0:
            raise ValueError
        await asyncio.sleep(1)
        return Answer({})

    done = finished(run(9, call, workers=3, failure=FailurePolicy(0)))
    assert {n: r.status for n, r in done.items()} == {0: "failed", 1: "ok", 2: "ok"}


def test_fail_fast_cancels_what_is_in_flight_at_once() -> None:
    async def call(row: Row) -> Answer:
        if row.number == 1:
            await asyncio.sleep(1)
            raise ValueError
        await asyncio.sleep(100)
        return Answer({})

    events = run(9, call, workers=3, failure=FailurePolicy(None, fail_fast=True))
    assert {n: r.status for n, r in finished(events).items()} == {
        0: "cancelled",
        1: "failed",
        2: "cancelled",
    }
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert (end.reason, end.elapsed_s) == ("fail_fast", 1)


def test_a_fatal_error_stops_the_run_after_the_first_rows() -> None:
    class Refused(Exception):
        fatal = True

    async def call(row: Row) -> Answer:
        await asyncio.sleep(1)
        raise Refused

    assert len(finished(run(100, call, workers=4))) == 4


def test_cancel_settles_waiting_and_running_rows() -> None:
    async def call(row: Row) -> Answer:
        if row.number == 0:
            raise Flaky(retry_after_s=1000)
        await asyncio.sleep(100)
        return Answer({})

    def control(engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(5, lambda: engine.controls.stop("cancelled", now=True))

    events = run(9, call, workers=2, control=control)
    assert {n: r.status for n, r in finished(events).items()} == dict.fromkeys(
        range(3), "cancelled"
    )
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert end.elapsed_s == 5


def test_pause_lets_rows_finish_and_starts_none_until_resume() -> None:
    def control(engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(0.5, engine.controls.pause)
        loop.call_later(10, engine.controls.resume)

    done = finished(run(4, one_second, workers=2, control=control))
    assert [done[i].queued_ms for i in range(4)] == [0, 0, 10_000, 10_000]


def test_workers_can_be_raised_and_lowered() -> None:
    def control(engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(0.5, lambda: engine.controls.set_workers(4))
        loop.call_later(1.2, lambda: engine.controls.set_workers(1))

    done = finished(run(8, one_second, workers=1, control=control))
    starts = [(done[i].queued_ms or 0) / 1000 for i in range(8)]
    assert starts == [0, 0.5, 0.5, 0.5, 1, 2, 3, 4]


def test_lanes_never_overlap_and_do_not_block_each_other() -> None:
    busy: set[int] = set()

    async def call(row: Row) -> Answer:
        lane = row.number % 2
        assert lane not in busy
        busy.add(lane)
        await asyncio.sleep(10 if lane == 0 else 1)
        busy.discard(lane)
        return Answer({})

    done = finished(run(6, call, workers=2, lanes=2))
    assert all(r.status == "ok" for r in done.values())
    assert [done[i].queued_ms for i in (1, 3, 5)] == [0, 1000, 2000]
    assert [done[i].queued_ms for i in (0, 2, 4)] == [0, 10_000, 20_000]


def test_a_module_that_raises_cancelled_or_systemexit_fails_its_row_only() -> None:
    async def call(row: Row) -> Answer:
        if row.number == 0:
            raise asyncio.CancelledError
        if row.number == 1:
            raise SystemExit(1)
        return Answer({})

    done = finished(run(3, call))
    assert [done[i].status for i in range(3)] == ["failed", "failed", "ok"]


def test_a_source_that_breaks_keeps_the_rows_before_it() -> None:
    def source() -> Any:
        yield from rows(2)
        raise OSError("disk gone")

    events = run(5, one_second, source=source())
    assert len(finished(events)) == 2
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert end.reason == "source"
    assert isinstance(end.error, OSError)


def test_nothing_is_kept_per_row_that_is_done_or_waiting() -> None:
    """Tasks and heap stay as small as the number of workers over 5,000 rows."""
    sizes: list[int] = []
    held: list[Engine] = []

    async def call(row: Row) -> Answer:
        engine = held[0]
        sizes.append(len(engine._tasks) + len(engine._queue))
        await asyncio.sleep(1)
        return Answer({})

    run(5000, call, workers=8, control=lambda engine, loop: held.append(engine))
    assert max(sizes) <= 8


def test_a_stream_is_consumed_only_as_workers_free_up() -> None:
    pulled: list[int] = []

    def source() -> Any:
        for row in rows(50):
            pulled.append(row.number)
            yield row

    ahead: list[int] = []

    async def call(row: Row) -> Answer:
        ahead.append(len(pulled) - row.number)
        await asyncio.sleep(1)
        return Answer({})

    run(50, call, workers=4, source=source())
    assert max(ahead) <= 4


def steering(events: list[Event]) -> list[tuple[int, bool, bool, str | None]]:
    return [tuple(e) for e in events if isinstance(e, SettingsChanged)]  # type: ignore[misc]


def test_every_change_of_course_is_an_event() -> None:
    def control(engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(0.1, engine.controls.pause)
        loop.call_later(0.2, engine.controls.resume)
        loop.call_later(0.3, lambda: engine.controls.set_workers(5))
        loop.call_later(0.4, engine.controls.drop_stragglers)
        loop.call_later(0.5, lambda: engine.controls.stop("cancelled", now=True))

    assert steering(run(9, one_second, workers=2, control=control)) == [
        (2, False, False, None),
        (2, True, False, None),
        (2, False, False, None),
        (5, False, False, None),
        (5, False, True, None),
        (5, False, True, "cancelled"),
    ]


def test_steering_before_the_run_holds_from_its_first_row() -> None:
    clock = VirtualClock()
    loop = clock.new_event_loop()
    events: list[Event] = []
    engine = Engine(
        rows(3),
        one_second,
        events.append,
        EngineConfig(total=3, max_workers=1, retry=RetryPolicy(), failure=FailurePolicy(None)),
        clock=clock,
    )
    engine.controls.set_workers(3)
    engine.controls.pause()
    loop.call_later(10, engine.controls.resume)
    loop.run_until_complete(engine.run())
    loop.close()
    began = next(i for i, event in enumerate(events) if isinstance(event, RunStarted))
    assert steering(events[:began])[-1] == (3, True, False, None), "told at once"
    assert steering(events[began:])[0] == (3, True, False, None)
    assert [finished(events)[i].queued_ms for i in range(3)] == [10_000] * 3
