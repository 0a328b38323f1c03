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
    RunSteered,
    Status,
)
from .admission import Gates
from .controls import Steering
from .deduplication import Sparing
from .policies import FailurePolicy, HedgePolicy, RetryPolicy, explain
from .protocols import Gate, Memory
from .row_queue import Lineup
from .row_task import Call, Flight
from .stragglers import Overtime

Ask = Callable[[Row], Awaitable[Answer]]
_SWEEP_S = 0.05  # between looks for rows that take too long
_SPARED_A_TURN = 100  # rows settled without an attempt before the loop may see to something else


class Engine(Steering):
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
        memory: answers that need not be asked for again. Rows of an equal key are asked once: those
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
        memory: Memory | None = None,
        gates: Sequence[Gate] = (),
        hedge: HedgePolicy | None = None,
        most_ahead: int | None = None,
    ) -> None:
        super().__init__(max_workers)
        self._ask, self._emit, self._clock, self._total = ask, emit, clock, total
        self._retry, self._failure, self._timeout_s = retry, failure, timeout_s
        self._source, self._gate_list = (rows, lanes, blocking_source), gates
        self._sparing = None if memory is None else Sparing(memory, self._settle)
        self._gates: Gates | None = None
        self._overtime = Overtime(hedge)
        self._most_ahead, self._released = most_ahead, 0
        self._in_hand: Flight | None = None  # out of the lineup, and not yet a worker's
        self._lineup: Lineup | None = None  # while the run lasts
        self._tasks: dict[asyncio.Task[None], Flight] = {}  # and the row each is at
        self._sweeper: asyncio.TimerHandle | None = None
        self._began = False
        self._running = self._max_in_flight = 0
        self._pulled = self._failures = self._settled = 0  # rows

    @property
    def in_flight(self) -> int:
        """Attempts under way."""
        return self._running

    # -- more control (see `Steering`) --------------------------------------------------------

    def drop_stragglers(self) -> None:
        """From now on cancel rows that are under way for much longer than the others took."""
        if not self._overtime.dropping:
            self._overtime.dropping = True
            self._steered()
            self._arm_sweep()

    def stop(self, reason: str, error: BaseException | None = None, *, now: bool) -> None:
        """Start nothing new, and cancel what is in flight if `now`. The first reason counts."""
        self._note_stop(reason, error)
        if now:
            current = asyncio.current_task()
            for task in self._tasks:
                if task is not current:
                    task.cancel()
        self._steered()

    def release(self, number: int) -> None:
        """Rows below this number are done with: pull as many beyond it as `most_ahead` says."""
        self._released = number
        self._fill()

    def leading(self, rows: Iterable[Row]) -> list[Row]:
        """Of rows that come next those that would not wait for an equal one."""
        return list(rows) if self._sparing is None else self._sparing.leading(rows)

    def poke(self) -> None:
        """The source has rows again, or a gate is open again."""
        if self._gates is not None:
            self._gates.open()
        self._fill()

    def ends_now(self) -> list[Event]:
        """How the rows pulled and the run would end if they ended now. Only for who gives up
        on a blocked loop, from another thread."""
        held = [] if self._lineup is None else self._lineup.close()
        led = [] if self._sparing is None else self._sparing.followers()
        here = (*self._tasks.values(), *held, *led, *filter(None, [self._in_hand]))
        open_ = [f for f in dict.fromkeys(here) if not f.settled]
        ends: list[Event] = [f.finished("cancelled" if f.attempts else "not_run") for f in open_]
        elapsed_s = self._loop.time() - self._start if self._began else 0.0
        now = self._clock.utc_s()
        return [*ends, RunFinished("cancelled", None, elapsed_s, self._max_in_flight, now)]

    def _steered(self) -> None:
        if self._began:
            self._emit(self._steering())
            self._fill()

    def _steering(self) -> RunSteered:
        dropping = self._overtime.dropping
        return RunSteered(self._workers_wanted, self._paused, dropping, self._stop_reason)

    # -- the run ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run to the end; every row pulled ends in exactly one `RowFinished`."""
        self._loop = asyncio.get_running_loop()
        self._start = self._loop.time()
        self._utc0 = self._clock.utc_s() - self._start
        self._idle = asyncio.Event()
        rows, lanes, blocking = self._source
        self._lineup = lineup = Lineup(
            rows,
            self._loop,
            lanes=lanes,
            blocking=blocking,
            wake=self._fill,
            broke=lambda error: self.stop("source", error, now=False),
        )
        if self._gate_list:
            self._gates = Gates(self._gate_list, self._loop.call_later, self._fill)
        self._began = True
        self._emit(RunStarted(self._total, self._clock.utc_s()))
        self._steered()
        self._arm_sweep()
        await self._idle.wait()
        self._began = False
        if self._sweeper:
            self._sweeper.cancel()
        for flight in lineup.close():
            self._settle(flight, "cancelled" if flight.attempts else "not_run")
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
        while len(self._tasks) < self._workers_wanted and (flight := self._take()):
            task = self._loop.create_task(self._work(flight, is_twin=bool(flight.calls)))
            self._tasks[task] = flight
            task.add_done_callback(self._worker_left)
        if self._lineup is None or not self._began:
            return
        self._lineup.arm()
        over = self._stop_reason is not None or self._settled == self._total
        if not self._tasks and (over or self._lineup.is_empty):
            self._idle.set()

    def _take(self) -> Flight | None:
        """The next row to make an attempt at; rows that need none are settled on the way."""
        for _ in range(_SPARED_A_TURN):
            shut = self._gates is not None and self._gates.shut
            if shut or self._is_held or not self._began or self._lineup is None:
                return None
            flight = self._in_hand = self._lineup.take(fresh=self._may_pull())
            if flight is None:
                return None
            if self._most_ahead is not None:
                self._pulled = max(self._pulled, flight.row.number + 1)
            spared = self._sparing is not None and self._spared(flight, self._sparing)
            taken = not spared and (self._gates is None or self._admitted(flight, self._gates))
            self._in_hand = None
            if taken:
                return flight
        self._loop.call_soon(self._fill)
        return None

    def _may_pull(self) -> bool:
        if self._sparing is not None and self._sparing.is_full:
            return False
        return self._most_ahead is None or self._pulled < self._released + self._most_ahead

    def _spared(self, flight: Flight, sparing: Sparing) -> bool:
        """Whether a row needs no attempt now."""
        try:
            spared = sparing.spares(flight)
        except Exception as error:
            self.stop("store", error, now=False)
            self._settle(flight, "not_run")
            spared = True
        if spared:
            self._leave_lane(flight)
        return spared

    def _admitted(self, flight: Flight, gates: Gates) -> bool:
        """Whether an attempt may start; else the row goes back, and none starts before the gates
        open. A duplicate holds up nobody: it is let be, for now."""
        now = self._loop.time()
        is_twin = bool(flight.calls)
        try:
            if gates.admit(flight.next_row, now, shut=not is_twin):
                flight.admitted += 1
                return True
        except Exception as error:
            if not is_twin:
                self.stop(getattr(error, "reason", "crashed"), error, now=False)
        if is_twin:
            self._overtime.let_be(flight)
            return False
        if flight.held_at is None:
            flight.held_at = now
        if self._lineup is not None:
            self._lineup.give_back(flight)
        return False

    def _left(self, flight: Flight, outcome: Answer | BaseException | None) -> None:
        """Tell the gates that an attempt is over."""
        if self._gates is not None:
            flight.admitted -= 1
            self._gates.leave(flight.row, outcome, self._loop.time())

    def _leave_lane(self, flight: Flight) -> None:
        if self._lineup is not None:
            self._lineup.leave(flight)

    def _worker_left(self, task: asyncio.Task[None]) -> None:
        flight = self._tasks.pop(task)
        error = None if task.cancelled() else task.exception()
        if task.cancelled() or error is not None:  # between two attempts, or by itself
            if flight.admitted > len(flight.calls):
                self._left(flight, error)
            if not (flight.settled or flight.calls):
                self._settle(flight, "cancelled" if flight.attempts else "not_run")
            self._leave_lane(flight)
        if error is not None:
            self.stop("crashed", error, now=True)  # the engine's own error must not hang the run
        self._fill()

    # -- rows that take too long --------------------------------------------------------------

    def _arm_sweep(self) -> None:
        if self._sweeper:
            self._sweeper.cancel()
        if self._began and self._overtime.watches:
            self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)

    def _sweep(self) -> None:
        self._arm_sweep()
        if self._lineup is not None:
            now = self._loop.time()
            for flight in self._overtime.drop(self._tasks.values(), self._lineup, now):
                self._settle(flight, "cancelled")
            self._overtime.ask_again(self._tasks.values(), self._lineup, now)
        self._fill()

    # -- one worker ---------------------------------------------------------------------------

    async def _work(self, flight: Flight | None, *, is_twin: bool) -> None:
        task = asyncio.current_task()
        assert task is not None
        if is_twin and flight is not None and not flight.may_be_twinned:
            self._left(flight, None)  # its first attempt has ended since this task was made
            flight = self._take()
        while flight is not None:
            self._tasks[task] = flight
            call = self._begin(flight, task)
            try:
                await self._attempt(flight, call)
            finally:
                self._leave_lane(flight)
            if (flight.dropped or call.lost) and task.cancelling():
                task.uncancel()  # the attempt was cancelled, its worker goes on
            flight = self._take() if len(self._tasks) <= self._workers_wanted else None

    def _begin(self, flight: Flight, task: asyncio.Task[None]) -> Call:
        start = self._loop.time()
        if flight.attempts == 0:
            held_at = start if flight.held_at is None else flight.held_at
            flight.began, flight.started_at = start, self._utc0 + start
            flight.queued_s, flight.waited_s = held_at - self._start, start - held_at
            self._overtime.began()
        elif flight.calls:
            flight.twins += 1
        else:
            flight.waited_s += start - flight.failed_at
        flight.attempts += 1
        call = Call(flight.attempts, task, start)
        flight.calls.append(call)
        self._running += 1
        if self._running > self._max_in_flight:
            self._max_in_flight = self._running
        self._emit(RowStarted(flight.row, flight.attempts))
        return call

    async def _attempt(self, flight: Flight, call: Call) -> None:
        outcome: Answer | BaseException
        row = flight.next_row
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
        flight.calls.remove(call)
        self._left(flight, outcome)
        if flight.won or flight.settled:
            self._emit(AttemptLost(flight.row, call.number))
        elif not isinstance(outcome, BaseException):
            await self._succeed(flight, call, outcome)
        elif flight.calls:  # the other attempt at this row goes on
            flight.bill(getattr(outcome, "usage", None))
            self._emit(AttemptLost(flight.row, call.number))
        elif isinstance(outcome, asyncio.CancelledError) and (self._stop_reason or flight.dropped):
            flight.latency_s = self._loop.time() - call.began
            self._settle(flight, "cancelled")
        else:
            flight.error = outcome
            self._failed(flight, call)

    async def _succeed(self, flight: Flight, call: Call, answer: Answer) -> None:
        now = self._loop.time()
        flight.won, flight.error, flight.latency_s = True, None, now - call.began
        flight.bill(answer.usage)
        for other in flight.calls:
            # what a request that is broken off was billed is never told: taken to be as much
            flight.bill(answer.usage)
            other.lost = True
            other.task.cancel()
        self._overtime.succeeded(now - flight.began, flight.latency_s)
        if self._sparing is not None:
            try:
                await self._sparing.keep(flight, answer)
            except Exception as error:
                self.stop("store", error, now=False)
        self._settle(flight, "ok", answer)

    def _failed(self, flight: Flight, call: Call) -> None:
        """Decide what a failed attempt means: another one, a failed row, the end of the run."""
        error = flight.error
        assert error is not None
        now = flight.failed_at = self._loop.time()
        flight.latency_s = now - call.began
        flight.bill(getattr(error, "usage", None))
        if flight.dropped:  # the module turned our cancellation into an error of its own
            self._settle(flight, "cancelled")
            return
        wait_s = flight.wait_s(self._retry, error, now)
        if wait_s is not None and self._stop_reason is None and self._lineup is not None:
            self._lineup.retry(flight, now + wait_s)
            self._emit(
                AttemptFailed(flight.row, call.number, error, flight.latency_s * 1e3, wait_s)
            )
            return
        self._settle(flight, "failed")
        ending = self._failure.ending(error, self._failures, self._settled, self._total)
        if ending is not None:
            self.stop(ending[0], error, now=ending[1])

    def _settle(self, flight: Flight, status: Status, answer: Answer | None = None) -> None:
        if flight.settled:
            return
        self._settled += 1
        self._failures += status == "failed"
        flight.settled = True
        if answer is not None and answer.cached:
            flight.bill(answer.usage)
        self._emit(flight.finished(status, answer))
        if self._sparing is not None:
            self._sparing.share(flight, status, answer, self._stop_reason is not None)
