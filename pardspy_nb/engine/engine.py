"""The engine: rows and a callable in, events out. It knows no model, no table, no display.

Worker coroutines on one event loop pull rows as they become free. There is no task or future
per waiting row, and a row that waits for its next attempt holds no worker.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence

from ..core.clock import Clock
from ..core.events import (
    Answer,
    AttemptFailed,
    AttemptLost,
    Event,
    Row,
    RowStarted,
    RunFinished,
    RunStarted,
    SettingsChanged,
    Status,
)
from .admission import Admission
from .controls import RunControls
from .deduplication import Deduplicator
from .policies import FailurePolicy, HedgePolicy, RetryPolicy, explain
from .protocols import Cache, Limiter
from .row_queue import RowQueue
from .row_task import Attempt, RowTask
from .stragglers import Stragglers

Ask = Callable[[Row], Awaitable[Answer]]
_SWEEP_S = 0.05  # between looks for rows that take too long
_SPARED_A_TURN = 100  # rows settled without an attempt before the loop may see to something else


class Engine(RunControls):
    """One run. Make it and `await run()` on a loop of `clock`; control it from that loop.

    Args:
        rows: the rows, in order; pulled as workers become free.
        ask: makes one attempt at a row. Raises to fail; an error's `retryable`,
            `retry_after_s`, `fatal` and `usage` attributes are honoured.
        emit: receives each event, on the loop's thread; must be quick and must not raise.
        total: the number of rows, or None if unknown.
        max_workers: attempts under way.
        timeout_s: wall clock for one attempt, or None.
        lanes: rows whose numbers are equal modulo `lanes` never run at the same time.
        blocking_source: pull rows in a thread, because the iterator may wait.
        cache: answers that need not be asked for again. Rows of an equal key are asked once: those
            that come while one is under way wait for it and share its outcome.
        gates: are asked before each attempt.
        hedge: when a row under way is asked a second time; not for rows in lanes.
        most_ahead: no row is pulled whose number is this far beyond what was `release`d.
    """

    def __init__(
        self,
        rows: Iterator[Row],
        ask: Ask,
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
        cache: Cache | None = None,
        gates: Sequence[Limiter] = (),
        hedge: HedgePolicy | None = None,
        most_ahead: int | None = None,
    ) -> None:
        super().__init__(max_workers)
        self._ask, self._emit, self._clock, self._total = ask, emit, clock, total
        self._retry, self._failure, self._timeout_s = retry, failure, timeout_s
        self._source, self._limiters = (rows, lanes, blocking_source), gates
        self._deduplicator = None if cache is None else Deduplicator(cache, self._settle)
        self._gates: Admission | None = None
        self._stragglers = Stragglers(hedge)
        self._most_ahead, self._released = most_ahead, 0
        self._in_hand: RowTask | None = None  # out of the queue, and not yet a worker's
        self._queue: RowQueue | None = None  # while the run lasts
        self._tasks: dict[asyncio.Task[None], RowTask] = {}  # and the row each is at
        self._sweeper: asyncio.TimerHandle | None = None
        self._began = False
        self._running = self._max_in_flight = 0
        self._pulled = self._failures = self._settled = 0  # rows

    @property
    def in_flight(self) -> int:
        """Attempts under way."""
        return self._running

    # -- more control (see `RunControls`) --------------------------------------------------------

    def drop_stragglers(self) -> None:
        """From now on cancel rows that are under way for much longer than the others took."""
        if not self._stragglers.dropping:
            self._stragglers.dropping = True
            self._settings_changed()
            self._arm_sweep()

    def stop(self, reason: str, error: BaseException | None = None, *, now: bool) -> None:
        """Start nothing new, and cancel what is in flight if `now`. The first reason counts."""
        self._note_stop(reason, error)
        if now:
            current = asyncio.current_task()
            for task in self._tasks:
                if task is not current:
                    task.cancel()
        self._settings_changed()

    def release(self, number: int) -> None:
        """Rows below this number are done with: pull as many beyond it as `most_ahead` says."""
        self._released = number
        self._fill()

    def leading(self, rows: Iterable[Row]) -> list[Row]:
        """Of rows that come next those that would not wait for an equal one."""
        return list(rows) if self._deduplicator is None else self._deduplicator.leading(rows)

    def wake(self) -> None:
        """The source has rows again, or a gate is open again."""
        if self._gates is not None:
            self._gates.open()
        self._fill()

    def abandoned_events(self) -> list[Event]:
        """How the rows pulled and the run would end if they ended now. Only for who gives up
        on a blocked loop, from another thread."""
        held = [] if self._queue is None else self._queue.close()
        led = [] if self._deduplicator is None else self._deduplicator.followers()
        here = (*self._tasks.values(), *held, *led, *filter(None, [self._in_hand]))
        open_ = [f for f in dict.fromkeys(here) if not f.settled]
        ends: list[Event] = [f.finished("cancelled" if f.attempts else "not_run") for f in open_]
        elapsed_s = self._loop.time() - self._start if self._began else 0.0
        now = self._clock.utc_s()
        return [*ends, RunFinished("cancelled", None, elapsed_s, self._max_in_flight, now)]

    def _settings_changed(self) -> None:
        if self._began:
            self._emit(self._settings_event())
            self._fill()

    def _settings_event(self) -> SettingsChanged:
        dropping = self._stragglers.dropping
        return SettingsChanged(self._workers_wanted, self._paused, dropping, self._stop_reason)

    # -- the run ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run to the end; every row pulled ends in exactly one `RowFinished`."""
        self._loop = asyncio.get_running_loop()
        self._start = self._loop.time()
        self._utc0 = self._clock.utc_s() - self._start
        self._idle = asyncio.Event()
        rows, lanes, blocking = self._source
        self._queue = queue = RowQueue(
            rows,
            self._loop,
            lanes=lanes,
            blocking=blocking,
            wake=self._fill,
            broke=lambda error: self.stop("source", error, now=False),
        )
        if self._limiters:
            self._gates = Admission(self._limiters, self._loop.call_later, self._fill)
        self._began = True
        self._emit(RunStarted(self._total, self._clock.utc_s()))
        self._settings_changed()
        self._arm_sweep()
        await self._idle.wait()
        self._began = False
        if self._sweeper:
            self._sweeper.cancel()
        for row_task in queue.close():
            self._settle(row_task, "cancelled" if row_task.attempts else "not_run")
        elapsed = self._loop.time() - self._start
        self._emit(
            RunFinished(
                self._stop_reason or "done",
                self._stop_error,
                elapsed,
                self._max_in_flight,
                self._clock.utc_s(),
            )
        )

    def _fill(self) -> None:
        """Start workers while there is work for them; notice the end."""
        while len(self._tasks) < self._workers_wanted and (row_task := self._take()):
            task = self._loop.create_task(self._work(row_task, is_duplicate=bool(row_task.calls)))
            self._tasks[task] = row_task
            task.add_done_callback(self._worker_left)
        if self._queue is None or not self._began:
            return
        self._queue.arm()
        over = self._stop_reason is not None or self._settled == self._total
        if not self._tasks and (over or self._queue.is_empty):
            self._idle.set()

    def _take(self) -> RowTask | None:
        """The next row to make an attempt at; rows that need none are settled on the way."""
        for _ in range(_SPARED_A_TURN):
            shut = self._gates is not None and self._gates.shut
            if shut or self._is_held or not self._began or self._queue is None:
                return None
            row_task = self._in_hand = self._queue.take(fresh=self._may_pull())
            if row_task is None:
                return None
            if self._most_ahead is not None:
                self._pulled = max(self._pulled, row_task.row.number + 1)
            spared = self._deduplicator is not None and self._spared(row_task, self._deduplicator)
            taken = not spared and (self._gates is None or self._admitted(row_task, self._gates))
            self._in_hand = None
            if taken:
                return row_task
        self._loop.call_soon(self._fill)
        return None

    def _may_pull(self) -> bool:
        if self._deduplicator is not None and self._deduplicator.is_full:
            return False
        return self._most_ahead is None or self._pulled < self._released + self._most_ahead

    def _spared(self, row_task: RowTask, deduplicator: Deduplicator) -> bool:
        """Whether a row needs no attempt now."""
        try:
            spared = deduplicator.spares(row_task)
        except Exception as error:
            self.stop("store", error, now=False)
            self._settle(row_task, "not_run")
            spared = True
        if spared:
            self._leave_lane(row_task)
        return spared

    def _admitted(self, row_task: RowTask, gates: Admission) -> bool:
        """Whether an attempt may start; else the row goes back, and none starts before the gates
        open. A duplicate holds up nobody: it is let be, for now."""
        now = self._loop.time()
        is_duplicate = bool(row_task.calls)
        try:
            if gates.admit(row_task.next_row, now, shut=not is_duplicate):
                row_task.admitted += 1
                return True
        except Exception as error:
            if not is_duplicate:
                self.stop(getattr(error, "reason", "crashed"), error, now=False)
        if is_duplicate:
            self._stragglers.let_be(row_task)
            return False
        if row_task.held_at is None:
            row_task.held_at = now
        if self._queue is not None:
            self._queue.give_back(row_task)
        return False

    def _left(self, row_task: RowTask, outcome: Answer | BaseException | None) -> None:
        """Tell the gates that an attempt is over."""
        if self._gates is not None:
            row_task.admitted -= 1
            self._gates.leave(row_task.row, outcome, self._loop.time())

    def _leave_lane(self, row_task: RowTask) -> None:
        if self._queue is not None:
            self._queue.leave(row_task)

    def _worker_left(self, task: asyncio.Task[None]) -> None:
        row_task = self._tasks.pop(task)
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error is not None:  # between two attempts, or by itself
            if row_task.admitted > len(row_task.calls):
                self._left(row_task, error)
            if not (row_task.settled or row_task.calls):
                self._settle(row_task, "cancelled" if row_task.attempts else "not_run")
            self._leave_lane(row_task)
        if error is not None:
            self.stop("crashed", error, now=True)  # the engine's own error must not hang the run
        self._fill()

    # -- rows that take too long --------------------------------------------------------------

    def _arm_sweep(self) -> None:
        if self._sweeper:
            self._sweeper.cancel()
        if self._began and self._stragglers.watches:
            self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        self._arm_sweep()
        if self._queue is not None:
            now = self._loop.time()
            for row_task in self._stragglers.drop(self._tasks.values(), self._queue, now):
                self._settle(row_task, "cancelled")
            self._stragglers.ask_again(self._tasks.values(), self._queue, now)
        self._fill()

    # -- one worker ---------------------------------------------------------------------------

    async def _work(self, row_task: RowTask | None, *, is_duplicate: bool) -> None:
        task = asyncio.current_task()
        assert task is not None
        if is_duplicate and row_task is not None and not row_task.may_be_duplicated:
            self._left(row_task, None)  # its first attempt has ended since this task was made
            row_task = self._take()
        while row_task is not None:
            self._tasks[task] = row_task
            call = self._begin(row_task, task)
            try:
                await self._attempt(row_task, call)
            finally:
                self._leave_lane(row_task)
            if (row_task.dropped or call.lost) and task.cancelling():
                task.uncancel()  # the attempt was cancelled, its worker goes on
            row_task = self._take() if len(self._tasks) <= self._workers_wanted else None

    def _begin(self, row_task: RowTask, task: asyncio.Task[None]) -> Attempt:
        start = self._loop.time()
        if row_task.attempts == 0:
            held_at = start if row_task.held_at is None else row_task.held_at
            row_task.began, row_task.started_at = start, self._utc0 + start
            row_task.queued_s, row_task.waited_s = held_at - self._start, start - held_at
            self._stragglers.began()
        elif row_task.calls:
            row_task.duplicates += 1
        else:
            row_task.waited_s += start - row_task.failed_at
        row_task.attempts += 1
        call = Attempt(row_task.attempts, task, start)
        row_task.calls.append(call)
        self._running += 1
        if self._running > self._max_in_flight:
            self._max_in_flight = self._running
        self._emit(RowStarted(row_task.row, row_task.attempts))
        return call

    async def _attempt(self, row_task: RowTask, call: Attempt) -> None:
        outcome: Answer | BaseException
        row = row_task.next_row
        try:
            if self._timeout_s is None:
                outcome = await self._ask(row)
            else:
                async with asyncio.timeout(self._timeout_s):
                    outcome = await self._ask(row)
        except Exception as error:
            outcome = explain(error, self._timeout_s)
        except BaseException as error:  # a cancellation; SystemExit raised by the module
            outcome = error
        self._running -= 1
        row_task.calls.remove(call)
        self._left(row_task, outcome)
        if row_task.won or row_task.settled:
            self._emit(AttemptLost(row_task.row, call.number))
        elif not isinstance(outcome, BaseException):
            await self._succeed(row_task, call, outcome)
        elif row_task.calls:  # the other attempt at this row goes on
            row_task.bill(getattr(outcome, "usage", None))
            self._emit(AttemptLost(row_task.row, call.number))
        elif isinstance(outcome, asyncio.CancelledError) and (
            self._stop_reason or row_task.dropped
        ):
            row_task.latency_s = self._loop.time() - call.began
            self._settle(row_task, "cancelled")
        else:
            row_task.error = outcome
            self._failed(row_task, call)

    async def _succeed(self, row_task: RowTask, call: Attempt, answer: Answer) -> None:
        now = self._loop.time()
        row_task.won, row_task.error, row_task.latency_s = True, None, now - call.began
        row_task.bill(answer.usage)
        for other in row_task.calls:
            # what a request that is broken off was billed is never told: taken to be as much
            row_task.bill(answer.usage)
            other.lost = True
            other.task.cancel()
        self._stragglers.succeeded(now - row_task.began, row_task.latency_s)
        if self._deduplicator is not None:
            try:
                await self._deduplicator.keep(row_task, answer)
            except Exception as error:
                self.stop("store", error, now=False)
        self._settle(row_task, "ok", answer)

    def _failed(self, row_task: RowTask, call: Attempt) -> None:
        """Decide what a failed attempt means: another one, a failed row, the end of the run."""
        error = row_task.error
        assert error is not None
        now = row_task.failed_at = self._loop.time()
        row_task.latency_s = now - call.began
        row_task.bill(getattr(error, "usage", None))
        if row_task.dropped:  # the module turned our cancellation into an error of its own
            self._settle(row_task, "cancelled")
            return
        wait_s = row_task.wait_s(self._retry, error, now)
        if wait_s is not None and self._stop_reason is None and self._queue is not None:
            self._queue.retry(row_task, now + wait_s)
            self._emit(
                AttemptFailed(row_task.row, call.number, error, row_task.latency_s * 1e3, wait_s)
            )
            return
        self._settle(row_task, "failed")
        ending = self._failure.ending(error, self._failures, self._settled, self._total)
        if ending is not None:
            self.stop(ending[0], error, now=ending[1])

    def _settle(self, row_task: RowTask, status: Status, answer: Answer | None = None) -> None:
        if row_task.settled:
            return
        self._settled += 1
        self._failures += status == "failed"
        row_task.settled = True
        if answer is not None and answer.cached:
            row_task.bill(answer.usage)
        self._emit(row_task.finished(status, answer))
        if self._deduplicator is not None:
            self._deduplicator.share(row_task, status, answer, self._stop_reason is not None)
