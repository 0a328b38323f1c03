"""The engine on a virtual clock: exact times, no models, no tables."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from typing import Any

import pytest

from pardspy_nb.core.clock import SystemClock
from pardspy_nb.core.events import (
    Answer,
    AttemptFailed,
    Event,
    Origin,
    Row,
    RowFinished,
    RowStarted,
    RunFinished,
    RunStarted,
    SettingsChanged,
)
from pardspy_nb.engine.config import EngineConfig
from pardspy_nb.engine.engine import Engine
from pardspy_nb.engine.policies import FailurePolicy, RetryPolicy
from pardspy_nb.engine.protocols import UNTIL_ONE_LEAVES
from pardspy_nb.testing import VirtualClock


class Flaky(Exception):
    retryable = True

    def __init__(self, retry_after_s: float | None = None, usage: Any = None) -> None:
        super().__init__("flaky")
        self.retry_after_s, self.usage = retry_after_s, usage


def rows(n: int) -> Any:
    return (Row(i, i, 0, {"i": i}) for i in range(n))


def run(
    n: int,
    call: Callable[[Row], Any],
    *,
    workers: int = 2,
    retry: RetryPolicy | None = None,
    failure: FailurePolicy | None = None,
    control: Callable[[Engine, asyncio.AbstractEventLoop], None] | None = None,
    source: Any = None,
    **more: Any,
) -> list[Event]:
    events: list[Event] = []
    clock = VirtualClock()
    loop = clock.new_event_loop()
    engine = Engine(
        rows(n) if source is None else source,
        call,
        events.append,
        EngineConfig(
            total=n,
            max_workers=workers,
            retry=retry or RetryPolicy(rand=lambda: 1.0),
            failure=failure or FailurePolicy(None),
            **{k: v for k, v in more.items() if k not in ("cache", "limiters")},
        ),
        clock=clock,
        cache=more.get("cache"),
        limiters=more.get("limiters", ()),
    )
    if control:
        loop.call_soon(control, engine, loop)
    try:
        loop.run_until_complete(asyncio.wait_for(engine.run(), 10_000))
    finally:
        loop.close()
    return events


def finished(events: list[Event]) -> dict[int, RowFinished]:
    done = [e for e in events if isinstance(e, RowFinished)]
    assert len({e.row.number for e in done}) == len(done), "a row was settled twice"
    return {e.row.number: e for e in done}


async def one_second(row: Row) -> Answer:
    await asyncio.sleep(1)
    return Answer({"i": row.inputs["i"]})


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
    assert steering(events)[0] == (3, True, False, None)
    assert [finished(events)[i].queued_ms for i in range(3)] == [10_000] * 3


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


class Keyed:
    """A memory that lasts as long as a run; rows of equal inputs are equal."""

    def __init__(self) -> None:
        self.kept: dict[bytes | None, Answer] = {}

    def key(self, row: Row) -> bytes | None:
        return repr((row.inputs, row.sample)).encode()

    def get(self, row: Row, key: bytes | None) -> Answer | None:
        return self.kept.get(key)

    def copy_for(self, row: Row, answer: Answer) -> Answer:
        return answer._replace(usage=0, origin=Origin(answer.usage, "source", 0.0))

    async def put(self, row: Row, key: bytes | None, answer: Answer) -> None:
        self.kept[key] = self.copy_for(row, answer)


def test_remembered_rows_take_no_attempt_and_new_ones_settle_once_kept() -> None:
    asked: list[int] = []
    kept: list[tuple[int, float]] = []

    async def call(row: Row) -> Answer:
        asked.append(row.number)
        await asyncio.sleep(1)
        return Answer({}, usage=5)

    class Half(Keyed):
        def get(self, row: Row, key: bytes | None) -> Answer | None:
            return self.copy_for(row, Answer({})) if row.number % 2 == 0 else None

        async def put(self, row: Row, key: bytes | None, answer: Answer) -> None:
            await asyncio.sleep(0.5)
            kept.append((row.number, asyncio.get_running_loop().time()))

    events = run(1000, call, workers=500, cache=Half())
    done = finished(events)
    assert sorted(asked) == list(range(1, 1000, 2)) == sorted(n for n, _ in kept)
    assert {when for _, when in kept} == {1.5}
    assert (done[0].attempts, done[0].latency_ms, done[0].started_at) == (0, None, None)
    assert (done[1].attempts, done[1].latency_ms) == (1, 1000)
    assert {r.usage for n, r in done.items() if n % 2} == {5}


def alike(n: int, kinds: int) -> Any:
    return (Row(i, i, 0, {"kind": i % kinds}) for i in range(n))


def test_equal_rows_are_asked_once_and_share_the_answer() -> None:
    asked: list[int] = []

    async def call(row: Row) -> Answer:
        asked.append(row.number)
        await asyncio.sleep(1 + row.inputs["kind"])
        return Answer({"kind": row.inputs["kind"]}, usage=5)

    events = run(12, call, workers=3, source=alike(12, 3), cache=Keyed())
    done = finished(events)
    assert asked == [0, 1, 2]
    assert [done[n].answer.outputs["kind"] for n in range(12)] == [0, 1, 2] * 4
    assert [done[n].answer.cached for n in range(12)] == [False] * 3 + [True] * 9
    assert [done[n].usage for n in range(12)] == [5] * 3 + [0] * 9
    assert {done[n].attempts for n in range(3, 12)} == {0}


def test_equal_rows_share_a_failure_too_and_each_counts() -> None:
    async def call(row: Row) -> Answer:
        await asyncio.sleep(1)
        raise ValueError("hopeless") if row.inputs["kind"] else Flaky()

    events = run(
        8,
        call,
        source=alike(8, 2),
        cache=Keyed(),
        failure=FailurePolicy(7),
        workers=2,
        retry=RetryPolicy(2, base_s=1, rand=lambda: 1.0),
    )
    done = finished(events)
    assert {r.status for r in done.values()} == {"failed"}
    assert {type(done[n].error) for n in (1, 3, 5, 7)} == {ValueError}
    assert [done[n].attempts for n in range(8)] == [2, 1, 0, 0, 0, 0, 0, 0]
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert end.reason == "failures", "each of the eight is a failed row"


def test_rows_that_wait_for_an_equal_one_did_not_run_in_a_stopped_run() -> None:
    def control(engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(0.5, lambda: engine.controls.stop("cancelled", now=True))

    done = finished(run(4, one_second, source=alike(4, 1), cache=Keyed(), control=control))
    assert [done[n].status for n in range(4)] == ["cancelled", "not_run", "not_run", "not_run"]


def test_a_leader_that_fails_in_a_run_that_is_stopping_tells_its_followers() -> None:
    def control(engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(0.5, lambda: engine.controls.stop("cancelled", now=False))

    async def call(row: Row) -> Answer:
        await asyncio.sleep(1)
        raise ValueError("hopeless")

    done = finished(run(3, call, source=alike(3, 1), cache=Keyed(), control=control))
    assert [done[n].status for n in range(3)] == ["failed"] * 3


def test_a_stream_of_equal_rows_is_not_pulled_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pardspy_nb.engine import deduplication

    monkeypatch.setattr(deduplication, "_MOST_FOLLOWERS", 5)
    pulled: list[int] = []
    ahead: list[int] = []

    def source() -> Any:
        for row in alike(500, 1):
            pulled.append(row.number)
            yield row

    async def call(row: Row) -> Answer:
        await asyncio.sleep(1)
        ahead.append(len(pulled))
        if len(ahead) == 1:
            raise Flaky()  # the leader's retry is not held up
        return Answer({})

    done = finished(run(500, call, source=source(), cache=Keyed(), workers=4))
    assert ahead == [6, 6]
    assert {r.status for r in done.values()} == {"ok"}
    assert len(done) == 500


def test_samples_are_asked_singly() -> None:
    asked: list[int] = []

    async def call(row: Row) -> Answer:
        asked.append(row.number)
        return Answer({})

    samples = (Row(i, 0, i, {"kind": 0}) for i in range(5))
    run(5, call, source=samples, cache=Keyed())
    assert sorted(asked) == [0, 1, 2, 3, 4]


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
    assert done[4].attempts > 20, "attempts that could not be sent do not use up the four"


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

        async def put(self, row: Row, key: bytes | None, answer: Answer) -> None:
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
