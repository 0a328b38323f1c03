"""The engine takes rows and a callable, and emits events. It knows no model, table or display.

Worker coroutines on one event loop pull a row whenever they are free. A waiting row has no task
and no future, and a row that waits for its next attempt holds no worker.
"""

from __future__ import annotations

import asyncio
import contextvars
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
    Status,
)
from .admission import Admission
from .config import EngineConfig
from .controls import RunControls
from .deduplication import Deduplicator
from .outage import Outage
from .outcomes import abandoned
from .policies import explain
from .protocols import Cache, Limiter
from .row_queue import RowQueue
from .row_task import Attempt, RowTask
from .stages import Router, outcomes_for
from .stragglers import Stragglers

AskRow = Callable[[Row], Awaitable[Answer]]
_SWEEP_S = 0.05  # seconds between two searches for rows that take too long
# rows that may be settled without an attempt before the loop gets time for other work
_MAX_SETTLED_A_TURN = 100


class Engine:
    """One run. Create it and `await run()` on a loop of `clock`; control it from that loop.

    Args:
        rows: the rows, in order; pulled as workers become free.
        ask: makes one attempt at a row. Raises to fail; an error's `retryable`,
            `retry_after_s`, `fatal` and `usage` attributes are honoured.
        emit: receives each event, on the loop's thread; must be quick and must not raise.
        cache: the answers that are known. Rows with equal keys are asked once: a row that comes
            while an equal row is under way waits, and shares the outcome of that row.
        limiters: decide, before each attempt, when the attempt may start.
        router: decides, if rows pass several stages, what follows each answer.

    Attributes:
        controls: the run's settings, which may change while the run goes on.
    """

    def __init__(
        self,
        rows: Iterator[Row],
        ask: AskRow,
        emit: Callable[[Event], None],
        config: EngineConfig,
        *,
        clock: Clock,
        cache: Cache | None = None,
        limiters: Sequence[Limiter] = (),
        router: Router | None = None,
    ) -> None:
        self._rows, self._ask, self._emit = rows, ask, emit
        self._config, self._clock = config, clock
        self._outage = Outage(config.retry)
        limiters = [*limiters, self._outage]
        self.controls = RunControls(
            config.max_workers,
            changed=self._settings_changed,
            cancel=self._cancel_in_flight,
            released=self._release,
        )
        ends = emit, config.failure, config.total, self.controls, self._row_settled
        self._outcomes = outcomes_for(router, self._come_again, *ends)
        to_end = self._outcomes.settle, self._outcomes.fail, self._come_again
        self._deduplicator = None if cache is None else Deduplicator(cache, *to_end)
        # the loop is known only once the run begins
        self._admission = Admission(limiters, lambda *at: self._loop.call_later(*at), self._fill)
        self._stragglers = Stragglers(config.hedge)
        self._in_hand: RowTask | None = None  # taken from the queue, not yet given to a worker
        self._queue: RowQueue | None = None  # while the run lasts
        self._tasks: dict[asyncio.Task[None], RowTask] = {}  # workers, each with its current row
        self._sweeper: asyncio.TimerHandle | None = None
        self._is_running = False
        self._running = self._max_in_flight = self._pulled = self._released = 0

    @property
    def in_flight(self) -> int:
        """Attempts under way."""
        return self._running

    # -- controls -----------------------------------------------------------------------------

    def _settings_changed(self) -> None:
        self._emit(self.controls.event())
        if self._is_running:
            if self._sweeper is None:
                self._arm_sweep()
            self._fill()

    def _cancel_in_flight(self) -> None:
        for task in [t for t in self._tasks if t is not asyncio.current_task()]:
            task.cancel()

    def _release(self, number: int) -> None:
        self._released = number
        self._fill()

    def next_to_ask(self, rows: Iterable[Row]) -> list[Row]:
        """Those of the given rows that would not wait for an equal row."""
        return list(rows) if self._deduplicator is None else self._deduplicator.next_to_ask(rows)

    def wake(self) -> None:
        """Look for work again: the source has new rows, or a limiter may let rows in."""
        self._admission.open()
        self._fill()

    def abandoned_events(self) -> list[Event]:
        """The closing events of the open rows and of the run, as if they ended now. Only for a
        caller on another thread that gives up a blocked loop."""
        rows = [*self._tasks.values(), *filter(None, [self._in_hand]), *self._outcomes.held]
        rows += [] if self._queue is None else self._queue.close()
        rows += [] if self._deduplicator is None else self._deduplicator.followers()
        return [*abandoned(rows), self._finished("cancelled", None)]

    def _finished(self, reason: str, error: BaseException | None) -> RunFinished:
        elapsed_s = self._loop.time() - self._start if self._is_running else 0.0
        now = self._clock.utc_s()
        return RunFinished(reason, error, elapsed_s, self._max_in_flight, now)

    # -- the run ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run to the end. Every pulled row ends with exactly one `RowFinished`."""
        self._loop, self._context = asyncio.get_running_loop(), contextvars.copy_context()
        self._start = self._loop.time()
        self._utc0 = self._clock.utc_s() - self._start
        self._idle = asyncio.Event()
        self._queue = queue = RowQueue(
            self._rows,
            self._loop,
            lanes=self._config.lanes,
            blocking=self._config.blocking_source,
            wake=self._fill,
            broke=lambda error: self.controls.stop("source", error, now=False),
        )
        self._is_running = True
        self._emit(RunStarted(self._config.total, self._clock.utc_s()))
        self._settings_changed()
        await self._idle.wait()
        end = self._finished(self.controls.stop_reason or "done", self.controls.stop_error)
        self._is_running = False
        for row_task in [*queue.close(), *self._outcomes.held]:
            self._outcomes.cut_short(row_task)
        self._emit(end)

    def _fill(self) -> None:
        """Start workers while there is work for them, and end the run when no work is left."""
        try:
            self._start_workers()
        except Exception as error:
            self.controls.broke(error)
        if self._queue is None or not self._is_running or self._tasks:
            return
        over = bool(self.controls.stop_reason) or self._outcomes.n_settled == self._config.total
        if not over and self._queue.is_empty and self._outcomes.release():
            self._loop.call_soon(self._fill)
        elif over or self._queue.is_empty:
            self._idle.set()
        elif self._queue.has_due and not (self._admission.is_closed or self.controls.is_held):
            self._loop.call_soon(self._fill)  # it became due since the workers looked

    def _start_workers(self) -> None:
        while len(self._tasks) < self.controls.max_workers and (row_task := self._take()):
            # whoever woke the engine up may have another context
            work = self._work(row_task, is_duplicate=bool(row_task.in_flight))
            task = self._loop.create_task(work, context=self._context.copy())
            self._tasks[task] = row_task
            task.add_done_callback(self._worker_left)
        if self._queue is not None and self._is_running:
            self._queue.arm()

    def _take(self) -> RowTask | None:
        """The next row that needs an attempt. Rows before it that need none are settled."""
        for _ in range(_MAX_SETTLED_A_TURN):
            is_held = self._admission.is_closed or self.controls.is_held
            if is_held or not self._is_running or self._queue is None:
                return None
            row_task = self._in_hand = self._queue.take(fresh=self._may_pull())
            if row_task is None:
                return None
            if self._config.most_ahead is not None:
                self._pulled = max(self._pulled, row_task.row.number + 1)
            is_done = self._needs_no_attempt(row_task)
            taken = not is_done and self._admitted(row_task)
            self._in_hand = None
            if taken:
                return row_task
        self._loop.call_soon(self._fill)
        return None

    def _come_again(self, row_task: RowTask, wait_s: float) -> None:
        self._queue.retry(row_task, self._loop.time() + wait_s)  # type: ignore[union-attr]

    def _may_pull(self) -> bool:
        if self._deduplicator is not None and self._deduplicator.is_full:
            return False
        ahead = self._config.most_ahead
        return ahead is None or self._pulled < self._released + ahead

    def _needs_no_attempt(self, row_task: RowTask) -> bool:
        """Whether a row needs no attempt now: it is blank, or the deduplicator has found so."""
        if is_done := row_task.row.is_blank:
            self._outcomes.settle(row_task, "skipped")
        elif self._deduplicator is not None:
            try:
                is_done = self._deduplicator.needs_no_attempt(row_task)
            except Exception as error:
                self.controls.stop("store", error, now=False)
                self._outcomes.settle(row_task, "not_run")
                is_done = True
        if is_done:
            self._leave_lane(row_task)
        return is_done

    def _admitted(self, row_task: RowTask) -> bool:
        """Whether an attempt may start now. If not, the row goes back to the queue, and no other
        is let in before it. A hedged duplicate blocks no other row: it may be tried later."""
        now = self._loop.time()
        is_duplicate = bool(row_task.in_flight)
        try:
            if self._admission.admit(row_task.next_row, now, closes=not is_duplicate):
                row_task.admitted += 1
                return True
        except Exception as error:
            if not is_duplicate:
                self.controls.stop(getattr(error, "reason", "crashed"), error, now=False)
        if is_duplicate:
            self._stragglers.postpone_duplicate(row_task)
            return False
        if row_task.held_at is None:
            row_task.held_at = now
        if self._queue is not None:
            self._queue.give_back(row_task)
        return False

    def _leave_limiters(self, row_task: RowTask, outcome: Answer | BaseException | None) -> None:
        """Tell the limiters that an attempt is over."""
        row_task.admitted -= 1
        try:
            self._admission.leave(row_task.row, outcome, self._loop.time())
        except Exception as error:
            self.controls.broke(error)

    def _leave_lane(self, row_task: RowTask) -> None:
        if self._queue is not None:
            self._queue.leave(row_task)

    def _worker_left(self, task: asyncio.Task[None]) -> None:
        row_task = self._tasks.pop(task)
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error is not None:  # cancelled between attempts, or an engine error
            if row_task.admitted > len(row_task.in_flight):
                self._leave_limiters(row_task, error)
            if not (row_task.settled or row_task.in_flight):
                self._outcomes.cut_short(row_task)
            self._leave_lane(row_task)
        if error is not None:
            # without a stop, an error of the engine itself would hang the run
            self.controls.stop("crashed", error, now=True)
        self._fill()

    # -- rows that take too long --------------------------------------------------------------

    def _arm_sweep(self) -> None:
        watches = self.controls.drops_stragglers or self._stragglers.may_hedge
        if self._is_running and watches:
            self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        self._arm_sweep()
        if self._is_running and self._queue is not None:
            now = self._loop.time()
            if self.controls.drops_stragglers:
                for row_task in self._stragglers.drop(self._tasks.values(), self._queue, now):
                    self._outcomes.settle(row_task, "cancelled")
            self._stragglers.hedge(self._tasks.values(), self._queue, now)
        self._fill()

    # -- one worker ---------------------------------------------------------------------------

    async def _work(self, row_task: RowTask | None, *, is_duplicate: bool) -> None:
        task = asyncio.current_task()
        assert task is not None
        if is_duplicate and row_task is not None and not row_task.may_be_duplicated:
            # the first attempt has ended since this task was made
            self._leave_limiters(row_task, None)
            row_task = self._take()
        while row_task is not None:
            self._tasks[task] = row_task
            attempt = self._begin(row_task, task)
            try:
                await self._make_attempt(row_task, attempt)
            finally:
                self._leave_lane(row_task)
            if (row_task.dropped or attempt.lost) and task.cancelling():
                task.uncancel()  # only the attempt was cancelled; the worker goes on
            row_task = self._take() if len(self._tasks) <= self.controls.max_workers else None

    def _begin(self, row_task: RowTask, task: asyncio.Task[None]) -> Attempt:
        if row_task.attempts == 0:
            self._stragglers.began()
        attempt = row_task.begin(task, self._loop.time(), self._start, self._utc0)
        self._running += 1
        self._max_in_flight = max(self._max_in_flight, self._running)
        self._emit(RowStarted(row_task.row, row_task.attempts))
        return attempt

    async def _make_attempt(self, row_task: RowTask, attempt: Attempt) -> None:
        outcome: Answer | BaseException
        row = row_task.next_row
        try:
            if self._config.timeout_s is None:
                outcome = await self._ask(row)
            else:
                async with asyncio.timeout(self._config.timeout_s):
                    outcome = await self._ask(row)
        except Exception as error:
            outcome = explain(error, self._config.timeout_s)
        except BaseException as error:  # a cancellation; SystemExit raised by the module
            outcome = error
        self._running -= 1
        row_task.in_flight.remove(attempt)
        self._leave_limiters(row_task, outcome)
        if row_task.won or row_task.settled:
            self._emit(AttemptLost(row_task.row, attempt.number))
        elif not isinstance(outcome, BaseException):
            await self._succeed(row_task, attempt, outcome)
        elif row_task.in_flight:  # the other attempt at this row goes on
            row_task.bill(getattr(outcome, "usage", None))
            self._emit(AttemptLost(row_task.row, attempt.number))
        elif isinstance(outcome, asyncio.CancelledError) and (
            self.controls.stop_reason or row_task.dropped
        ):
            row_task.latency_s = self._loop.time() - attempt.began
            self._outcomes.settle(row_task, "cancelled")
        else:
            row_task.error = outcome
            self._failed(row_task, attempt)

    async def _succeed(self, row_task: RowTask, attempt: Attempt, answer: Answer) -> None:
        now = self._loop.time()
        row_task.won, row_task.error, row_task.latency_s = True, None, now - attempt.began
        try:
            row_task.bill_winner(answer.usage)
            self._stragglers.succeeded(now - row_task.began, row_task.latency_s)
        except Exception as error:
            self.controls.broke(error)
        if self._deduplicator is not None:
            try:
                await self._deduplicator.keep(row_task, answer)
            except Exception as error:
                self.controls.stop("store", error, now=False)
        self._outcomes.settle(row_task, "ok", answer)

    def _failed(self, row_task: RowTask, attempt: Attempt) -> None:
        """Decide what follows a failed attempt: a retry, a failed row, or the end of the run."""
        error = row_task.error
        assert error is not None
        now = row_task.failed_at = self._loop.time()
        row_task.latency_s = now - attempt.began
        row_task.bill(getattr(error, "usage", None))
        if row_task.dropped:  # the module turned our cancellation into an error of its own
            self._outcomes.settle(row_task, "cancelled")
            return
        if (too_long := self._config.retry.too_long(error)) is not None:
            self.controls.stop("outage", too_long, now=False)
        wait_s = self._outage.retry_s(row_task, attempt.began, error, now)
        if wait_s is not None and self.controls.stop_reason is None and self._queue is not None:
            self._queue.retry(row_task, now + wait_s)
            latency_ms = row_task.latency_s * 1e3
            self._emit(AttemptFailed(row_task.row, attempt.number, error, latency_ms, wait_s))
            return
        self._outcomes.fail(row_task)

    def _row_settled(
        self, row_task: RowTask, status: Status, answer: Answer | None, stopping: bool
    ) -> None:
        if self._deduplicator is not None:
            self._deduplicator.share(row_task, status, answer, stopping)
