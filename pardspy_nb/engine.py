"""The engine: rows and a callable in, events out. It knows no model, no table, no display.

Worker coroutines on one event loop pull rows as they become free. There is no task or future
per waiting row, and nothing grows with the number of rows already done: a row that waits for
its next attempt is one entry in a heap and holds no worker.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

from .clock import Clock
from .events import (
    Answer,
    AttemptFailed,
    Event,
    Row,
    RowFinished,
    RowStarted,
    RunFinished,
    RunStarted,
    Status,
)
from .policy import FailurePolicy, RetryPolicy

Call = Callable[[Row], Awaitable[Answer]]
_END = object()


class _Flight:
    """A row under way: what must survive from one attempt to the next."""

    __slots__ = (
        "attempts", "error", "failed_at", "latency_s", "queued_s", "row", "started_at", "usage",
        "waited_s",
    )  # fmt: skip

    def __init__(self, row: Row) -> None:
        self.row = row
        self.attempts = 0
        self.error: BaseException | None = None
        self.usage: Any = None
        self.queued_s = self.waited_s = self.latency_s = self.failed_at = 0.0
        self.started_at: float | None = None

    def bill(self, usage: Any) -> None:
        """Add what one attempt was billed; None is an attempt that reported nothing."""
        if usage is not None:
            self.usage = usage if self.usage is None else self.usage + usage


class Engine:
    """One run. Make it and `await run()` on a loop of `clock`; control it from that loop.

    Args:
        rows: the rows, in order; pulled as workers become free.
        call: makes one attempt at a row. Raises to fail; an error's `retryable`,
            `retry_after_s`, `fatal` and `usage` attributes are honoured.
        emit: receives each event, on the loop's thread; must be quick and must not raise.
        total: the number of rows, or None if unknown.
        max_workers: rows in flight.
        timeout_s: wall clock for one attempt, or None.
        lanes: rows whose numbers are equal modulo `lanes` never run at the same time.
        blocking_source: pull rows in a thread, because the iterator may wait.
    """

    def __init__(
        self,
        rows: Iterator[Row],
        call: Call,
        emit: Callable[[Event], None],
        *,
        clock: Clock,
        total: int | None,
        max_workers: int,
        retry: RetryPolicy,
        failure: FailurePolicy,
        timeout_s: float | None = None,
        lanes: int | None = None,
        blocking_source: bool = False,
    ) -> None:
        self._rows, self._call, self._emit, self._clock = rows, call, emit, clock
        self._total, self._workers_wanted = total, max_workers
        self._retry, self._failure, self._timeout_s = retry, failure, timeout_s
        self._lanes, self._busy_lanes = lanes, set[int]()
        self._parked: deque[_Flight] = deque()  # pulled, but their lane is busy
        self._due: list[tuple[float, int, _Flight]] = []  # heap of rows that wait for a retry
        self._buffer: deque[Row] = deque()  # rows a blocking source has delivered
        self._blocking, self._feeding = blocking_source, False
        self._tasks: dict[asyncio.Task[None], _Flight] = {}  # and the row each began with
        self._timer: asyncio.TimerHandle | None = None
        self._exhausted = self._paused = False
        self._stop_reason: str | None = None
        self._stop_error: BaseException | None = None
        self._running = self._max_in_flight = self._failures = self._settled = 0

    # -- control (on the loop's thread) -------------------------------------------------------

    def set_workers(self, n: int) -> None:
        """Change the number of rows in flight; surplus rows in flight finish first."""
        self._workers_wanted = n
        self._fill()

    def pause(self) -> None:
        """Start nothing new; rows in flight finish."""
        self._paused = True

    def resume(self) -> None:
        """Go on after `pause`."""
        self._paused = False
        self._fill()

    def stop(self, reason: str, error: BaseException | None = None, *, now: bool) -> None:
        """Start nothing new, and cancel what is in flight if `now`. The first reason counts."""
        if self._stop_reason is None:
            self._stop_reason, self._stop_error = reason, error
        if now:
            current = asyncio.current_task()
            for task in self._tasks:
                if task is not current:
                    task.cancel()
        self._fill()

    # -- the run ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run to the end; every row pulled ends in exactly one `RowFinished`."""
        self._loop = asyncio.get_running_loop()
        self._begin = self._loop.time()
        self._utc0 = self._clock.utc_s() - self._begin
        self._idle = asyncio.Event()
        self._emit(RunStarted(self._total, self._clock.utc_s()))
        self._fill()
        await self._idle.wait()
        if self._timer:
            self._timer.cancel()
        for flight in [*(f for _, _, f in sorted(self._due)), *self._parked]:
            self._settle(flight, "cancelled" if flight.attempts else "not_run")
        for row in self._buffer:
            self._settle(_Flight(row), "not_run")
        elapsed = self._loop.time() - self._begin
        self._emit(
            RunFinished(
                self._stop_reason or "done", self._stop_error, elapsed, self._max_in_flight,
                self._clock.utc_s(),
            )
        )  # fmt: skip

    def _fill(self) -> None:
        """Start workers while there is work for them; notice the end."""
        while len(self._tasks) < self._workers_wanted and (flight := self._take()):
            task = self._loop.create_task(self._work(flight))
            self._tasks[task] = flight
            task.add_done_callback(self._worker_left)
        self._arm_timer()
        waiting = self._stop_reason is None and (
            not self._exhausted or self._due or self._parked or self._buffer
        )
        if not self._tasks and not self._feeding and not waiting:
            self._idle.set()

    def _worker_left(self, task: asyncio.Task[None]) -> None:
        first = self._tasks.pop(task)
        if task.cancelled():  # before it took its first step
            self._settle(first, "cancelled" if first.attempts else "not_run")
        elif error := task.exception():
            self.stop("crashed", error, now=True)  # the engine's own error must not hang the run
        self._fill()

    def _take(self) -> _Flight | None:
        """The next row that may start now."""
        if self._stop_reason is not None or self._paused:
            return None
        for index, parked in enumerate(self._parked):
            if self._lane(parked.row) not in self._busy_lanes:
                del self._parked[index]
                return self._occupy(parked)
        now = self._loop.time()
        if self._due and self._due[0][0] <= now:
            flight = heapq.heappop(self._due)[2]
            if self._lanes and self._lane(flight.row) in self._busy_lanes:
                self._parked.append(flight)
                return self._take()
            return self._occupy(flight)
        while not self._exhausted and (not self._lanes or len(self._parked) < 4 * self._lanes):
            row = self._pull()
            if row is None:
                return None
            flight = _Flight(row)
            if not self._lanes or self._lane(row) not in self._busy_lanes:
                return self._occupy(flight)
            self._parked.append(flight)
        return None

    def _lane(self, row: Row) -> int:
        return row.number % self._lanes if self._lanes else row.number

    def _occupy(self, flight: _Flight) -> _Flight:
        if self._lanes:
            self._busy_lanes.add(self._lane(flight.row))
        return flight

    def _pull(self) -> Row | None:
        """The source's next row; None when it has ended, failed or is still waiting."""
        if self._buffer:
            return self._buffer.popleft()
        if not self._blocking:
            return self._accept(self._next())
        if not self._feeding:
            self._feeding = True
            self._loop.run_in_executor(None, self._next).add_done_callback(self._fed)
        return None

    def _next(self) -> Any:
        try:
            return next(self._rows, _END)
        except Exception as error:  # the user's iterator broke: keep what is done, tell why
            return error

    def _accept(self, item: Any) -> Row | None:
        if isinstance(item, Row):
            return item
        self._exhausted = True
        if item is not _END:
            self.stop("source", item, now=False)
        return None

    def _fed(self, future: asyncio.Future[Any]) -> None:
        self._feeding = False
        if (row := self._accept(future.result())) is not None:
            self._buffer.append(row)
        self._fill()

    def _arm_timer(self) -> None:
        """Wake when the earliest retry is due, unless it already is (a worker will take it)."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._due and self._stop_reason is None and self._due[0][0] > self._loop.time():
            self._timer = self._loop.call_at(self._due[0][0], self._fill)

    # -- one worker ---------------------------------------------------------------------------

    async def _work(self, flight: _Flight | None) -> None:
        while flight is not None:
            self._running += 1
            self._max_in_flight = max(self._max_in_flight, self._running)
            try:
                await self._attempt(flight)
            finally:
                self._running -= 1
                if self._lanes:
                    self._busy_lanes.discard(self._lane(flight.row))
            flight = self._take() if len(self._tasks) <= self._workers_wanted else None

    async def _attempt(self, flight: _Flight) -> None:
        start = self._loop.time()
        if flight.attempts == 0:
            flight.started_at = self._utc0 + start
            flight.queued_s = start - self._begin
        else:
            flight.waited_s += start - flight.failed_at
        flight.attempts += 1
        self._emit(RowStarted(flight.row, flight.attempts))
        answer = None
        try:
            if self._timeout_s is None:
                answer = await self._call(flight.row)
            else:
                async with asyncio.timeout(self._timeout_s):
                    answer = await self._call(flight.row)
        except asyncio.CancelledError as error:
            flight.latency_s = self._loop.time() - start
            if self._stop_reason is not None:  # ours: the row is cancelled, the worker ends
                self._settle(flight, "cancelled")
                return
            flight.error = error  # the module's own: a failure like any other
        except Exception as error:
            flight.error = self._explain(error)
        except BaseException as error:  # SystemExit, KeyboardInterrupt raised by the module
            flight.error = error
        flight.latency_s = self._loop.time() - start
        if answer is not None:
            flight.error = None
            flight.bill(answer.usage)
            self._settle(flight, "ok", answer)
        else:
            self._failed(flight)

    def _explain(self, error: Exception) -> Exception:
        if isinstance(error, TimeoutError) and not error.args and self._timeout_s is not None:
            explained = TimeoutError(f"no answer within {self._timeout_s:g} s")
            explained.__cause__ = error
            return explained
        return error

    def _failed(self, flight: _Flight) -> None:
        """Decide what a failed attempt means: another one, a failed row, the end of the run."""
        error = flight.error
        assert error is not None
        flight.failed_at = self._loop.time()
        flight.bill(getattr(error, "usage", None))
        wait_s = self._retry.wait_s(flight.attempts, error)
        if wait_s is not None and self._stop_reason is None:
            heapq.heappush(self._due, (flight.failed_at + wait_s, flight.row.number, flight))
            self._emit(
                AttemptFailed(flight.row, flight.attempts, error, flight.latency_s * 1e3, wait_s)
            )
            self._arm_timer()
            return
        self._failures += 1
        self._settle(flight, "failed")
        if self._failure.fail_fast:
            self.stop("fail_fast", error, now=True)
        elif getattr(error, "fatal", False):
            self.stop("fatal", error, now=False)
        elif self._failure.exceeded(self._failures, self._settled, self._total):
            self.stop("failures", error, now=False)

    def _settle(self, flight: _Flight, status: Status, answer: Answer | None = None) -> None:
        self._settled += 1
        tried = flight.attempts > 0
        self._emit(
            RowFinished(
                flight.row, status, answer, flight.error, flight.attempts,
                flight.latency_s * 1e3 if tried else None,
                flight.queued_s * 1e3 if tried else None,
                flight.waited_s * 1e3 if tried else None,
                flight.started_at, flight.usage,
            )
        )  # fmt: skip
