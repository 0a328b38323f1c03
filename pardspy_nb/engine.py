"""The engine: rows and a callable in, events out. It knows no model, no table, no display.

Worker coroutines on one event loop pull rows as they become free. There is no task or future
per waiting row, and a row that waits for its next attempt holds no worker.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable, Iterator

from .clock import Clock
from .events import (
    Answer,
    AttemptFailed,
    Event,
    Row,
    RowStarted,
    RunFinished,
    RunStarted,
    RunSteered,
    Status,
)
from .hooks import Gate, Memory
from .lineup import Flight, Lineup
from .policy import FailurePolicy, RetryPolicy, straggler_after_s

Call = Callable[[Row], Awaitable[Answer]]
_SWEEP_S = 0.25  # between looks for stragglers
_KNOWN_DURATIONS = 1000  # the latest rows, against which a straggler is judged
_SPARED_A_TURN = 100  # rows settled without an attempt before the loop may see to something else
_MOST_FOLLOWERS = 10_000  # rows that wait for an equal one, before no new ones are pulled


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
        memory: answers that need not be asked for again. Rows of an equal key are asked once: those
            that come while one is under way wait for it and share its outcome.
        gate: is asked before each attempt.
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
        memory: Memory | None = None,
        gate: Gate | None = None,
    ) -> None:
        self._call, self._emit, self._clock = call, emit, clock
        self._total, self._workers_wanted = total, max_workers
        self._retry, self._failure, self._timeout_s = retry, failure, timeout_s
        self._source = (rows, lanes, blocking_source)
        self._memory, self._gate, self._gated = memory, gate, False
        self._asked: dict[bytes, Flight] = {}  # rows under way, by key
        self._in_hand: Flight | None = None  # out of the lineup, and not yet a worker's
        self._following = 0
        self._lineup: Lineup | None = None  # while the run lasts
        self._tasks: dict[asyncio.Task[None], Flight] = {}  # and the row each is at
        self._durations_s: deque[float] = deque(maxlen=_KNOWN_DURATIONS)
        self._sweeper: asyncio.TimerHandle | None = None
        self._began = self._paused = self._dropping = self._halted = False
        self._stop_reason: str | None = None
        self._stop_error: BaseException | None = None
        self._running = self._max_in_flight = self._failures = self._settled = 0

    # -- control (on the loop's thread; before `run` too) -------------------------------------

    def set_workers(self, n: int) -> None:
        """Change the number of rows in flight; surplus rows in flight finish first."""
        self._workers_wanted = n
        self._steered()

    def pause(self) -> None:
        """Start nothing new; rows in flight finish."""
        self._paused = True
        self._steered()

    def resume(self) -> None:
        """Go on after `pause`."""
        self._paused = False
        self._steered()

    def drop_stragglers(self) -> None:
        """From now on cancel rows that are under way for much longer than the others took."""
        if not self._dropping:
            self._dropping = True
            self._steered()
            self._sweep()

    def stop(self, reason: str, error: BaseException | None = None, *, now: bool) -> None:
        """Start nothing new, and cancel what is in flight if `now`. The first reason counts."""
        if self._stop_reason is None:
            self._stop_reason, self._stop_error = reason, error
        if now:
            current = asyncio.current_task()
            for task in self._tasks:
                if task is not current:
                    task.cancel()
        self._steered()

    def halt(self) -> None:
        """Start nothing new. From any thread: a module that blocks the loop keeps the other
        controls waiting, and would be called again before they are heard."""
        self._halted = True

    def ends_now(self) -> list[Event]:
        """How the rows pulled and the run would end if they ended now. Only for who gives up
        on a blocked loop, from another thread."""
        held = [] if self._lineup is None else self._lineup.close()
        led = [f for leader in list(self._asked.values()) for f in leader.followers]
        here = (*self._tasks.values(), *held, *led, *filter(None, [self._in_hand]))
        open_ = [f for f in here if not f.settled]
        ends: list[Event] = [f.finished("cancelled" if f.attempts else "not_run") for f in open_]
        elapsed_s = self._loop.time() - self._start if self._began else 0.0
        now = self._clock.utc_s()
        return [*ends, RunFinished("cancelled", None, elapsed_s, self._max_in_flight, now)]

    def _steered(self) -> None:
        if self._began:
            self._emit(self._steering())
            self._fill()

    def _steering(self) -> RunSteered:
        return RunSteered(self._workers_wanted, self._paused, self._dropping, self._stop_reason)

    # -- the run ------------------------------------------------------------------------------

    async def run(self) -> None:
        """Run to the end; every row pulled ends in exactly one `RowFinished`."""
        self._loop = asyncio.get_running_loop()
        self._start = self._loop.time()
        self._utc0 = self._clock.utc_s() - self._start
        self._idle = asyncio.Event()
        rows, lanes, blocking = self._source
        self._lineup = lineup = Lineup(
            rows, self._loop, lanes=lanes, blocking=blocking, wake=self._fill,
            broke=lambda error: self.stop("source", error, now=False),
        )  # fmt: skip
        self._began = True
        self._emit(RunStarted(self._total, self._clock.utc_s()))
        self._steered()
        self._sweep()
        await self._idle.wait()
        self._began = False
        if self._sweeper:
            self._sweeper.cancel()
        for flight in lineup.close():
            self._settle(flight, "cancelled" if flight.attempts else "not_run")
        elapsed = self._loop.time() - self._start
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
        if self._lineup is None:
            return
        self._lineup.arm()
        over = self._stop_reason is not None or self._settled == self._total
        if not self._tasks and (over or self._lineup.is_empty):
            self._idle.set()

    def _take(self) -> Flight | None:
        """The next row to make an attempt at; rows that need none are settled on the way."""
        for _ in range(_SPARED_A_TURN):
            stopped = self._stop_reason is not None or self._halted or self._paused or self._gated
            if stopped or self._lineup is None:
                return None
            flight = self._in_hand = self._lineup.take(fresh=self._following < _MOST_FOLLOWERS)
            if flight is None or not self._spared(flight):
                taken = flight is not None and self._admitted(flight)
                self._in_hand = None
                return flight if taken else None
        self._in_hand = None
        self._loop.call_soon(self._fill)
        return None

    def _worker_left(self, task: asyncio.Task[None]) -> None:
        flight = self._tasks.pop(task)
        error = None if task.cancelled() else task.exception()
        broken = task.cancelled() or error is not None  # between two attempts, or by itself
        if broken and not flight.settled:
            self._left(flight, error)
            self._settle(flight, "cancelled" if flight.attempts else "not_run")
            self._leave(flight)
        if error is not None:
            self.stop("crashed", error, now=True)  # the engine's own error must not hang the run
        self._fill()

    def _sweep(self) -> None:
        """Cancel the rows that are stragglers now, and look again soon."""
        if not (self._dropping and self._began):
            return
        self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)
        limit_s = straggler_after_s(self._durations_s)
        if limit_s is None:
            return
        began_before = self._loop.time() - limit_s
        for task, flight in self._tasks.items():
            fresh = not (flight.settled or flight.dropped) and flight.attempts
            if fresh and flight.began <= began_before:
                flight.dropped = True
                task.cancel()
        for flight in self._lineup.began_before(began_before) if self._lineup else ():
            self._settle(flight, "cancelled")
        self._fill()

    # -- one worker ---------------------------------------------------------------------------

    async def _work(self, flight: Flight | None) -> None:
        task = asyncio.current_task()
        assert task is not None
        while flight is not None:
            self._tasks[task] = flight
            self._running += 1
            self._max_in_flight = max(self._max_in_flight, self._running)
            try:
                await self._attempt(flight)
            finally:
                self._running -= 1
                self._leave(flight)
            if flight.dropped and task.cancelling():
                task.uncancel()  # the row was cancelled, its worker goes on
            flight = self._take() if len(self._tasks) <= self._workers_wanted else None

    def _spared(self, flight: Flight) -> bool:
        """Settle a row whose answer is remembered; let it follow an equal one under way."""
        if self._memory is None or flight.attempts:
            return False
        try:
            key = flight.key = flight.key or self._memory.key(flight.row)
            leader = None if key is None else self._asked.setdefault(key, flight)
            if leader is not None and leader is not flight:
                leader.followers.append(flight)
                self._following += 1
                self._leave(flight)
                return True
            answer = self._memory.recall(flight.row, key)
        except Exception as error:
            self.stop("store", error, now=False)
            self._settle(flight, "not_run")
        else:
            if answer is None:
                return False
            self._settle(flight, "ok", answer)
        self._leave(flight)
        return True

    def _admitted(self, flight: Flight) -> bool:
        """Whether an attempt may start; else the row goes back, and no other starts before one
        has left."""
        if self._gate is None:
            return True
        try:
            if self._gate.admit(flight.row):
                flight.admitted = True
                return True
        except Exception as error:
            self.stop("budget", error, now=False)
        self._gated = True
        if self._lineup is not None:
            self._lineup.give_back(flight)
        return False

    def _left(self, flight: Flight, outcome: Answer | BaseException | None) -> None:
        """Tell the gate that an attempt is over."""
        if self._gate is not None and flight.admitted:
            flight.admitted = False
            self._gate.leave(flight.row, outcome)
            if self._gated:
                self._gated = False
                self._fill()

    def _leave(self, flight: Flight) -> None:
        if self._lineup is not None:
            self._lineup.leave(flight)

    async def _attempt(self, flight: Flight) -> None:
        start = self._loop.time()
        if flight.attempts == 0:
            flight.began = start
            flight.started_at = self._utc0 + start
            flight.queued_s = start - self._start
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
            self._left(flight, error)
            if self._stop_reason is not None or flight.dropped:  # ours: the row is cancelled
                self._settle(flight, "cancelled")
                return
            flight.error = error  # the module's own: a failure like any other
        except Exception as error:
            flight.error = self._explain(error)
        except BaseException as error:  # SystemExit, KeyboardInterrupt raised by the module
            flight.error = error
        end = self._loop.time()
        flight.latency_s = end - start
        if answer is not None:
            flight.error = None
            flight.bill(answer.usage)
            self._left(flight, answer)
            self._durations_s.append(end - flight.began)
            await self._keep(flight, answer)
            self._settle(flight, "ok", answer)
        else:
            self._failed(flight)

    async def _keep(self, flight: Flight, answer: Answer) -> None:
        if self._memory is None:
            return
        try:
            await self._memory.remember(flight.row, flight.key, flight.billed(answer))
        except asyncio.CancelledError:
            return  # the answer is here and paid for: it counts, and is being written
        except Exception as error:
            self.stop("store", error, now=False)

    def _explain(self, error: Exception) -> Exception:
        if isinstance(error, TimeoutError) and not error.args and self._timeout_s is not None:
            explained = TimeoutError(f"no answer within {self._timeout_s:g} s")
            explained.__cause__ = error
            return explained
        return error

    def _failed(self, flight: Flight) -> None:
        """Decide what a failed attempt means: another one, a failed row, the end of the run."""
        error = flight.error
        assert error is not None
        if not isinstance(error, asyncio.CancelledError):
            self._left(flight, error)
        now = flight.failed_at = self._loop.time()
        flight.bill(getattr(error, "usage", None))
        if not getattr(error, "outage", False):
            flight.out_since = None
        elif flight.out_since is None:
            flight.out_since = now
        if flight.dropped:  # the module turned our cancellation into an error of its own
            self._settle(flight, "cancelled")
            return
        out_s = None if flight.out_since is None else now - flight.out_since
        if self._retry.sits_out(out_s):
            flight.outages += 1
            wait_s = self._retry.wait_s(flight.outages, error, out_s)
        else:
            wait_s = self._retry.wait_s(flight.attempts - flight.outages, error)
        if wait_s is not None and self._stop_reason is None and self._lineup is not None:
            self._lineup.retry(flight, flight.failed_at + wait_s)
            self._emit(
                AttemptFailed(flight.row, flight.attempts, error, flight.latency_s * 1e3, wait_s)
            )
            return
        self._settle(flight, "failed")
        if self._failure.fail_fast:
            self.stop("fail_fast", error, now=True)
        elif getattr(error, "fatal", False):
            self.stop("fatal", error, now=False)
        elif self._failure.exceeded(self._failures, self._settled, self._total):
            self.stop("failures", error, now=False)

    def _settle(self, flight: Flight, status: Status, answer: Answer | None = None) -> None:
        self._settled += 1
        self._failures += status == "failed"
        flight.settled = True
        if answer is not None and answer.cached:
            flight.bill(answer.usage)
        self._emit(flight.finished(status, answer))
        if flight.key is not None and self._asked.get(flight.key) is flight:
            del self._asked[flight.key]
            self._share(flight, status, answer)

    def _share(self, flight: Flight, status: Status, answer: Answer | None) -> None:
        """Settle the rows that waited for an equal one; of a stopped run they did not run."""
        self._following -= len(flight.followers)
        for follower in flight.followers:
            if answer is not None and self._memory is not None:
                shared = self._memory.shared(follower.row, flight.billed(answer))
                self._settle(follower, "ok", shared)
            elif status == "failed" or self._stop_reason is None:
                follower.error = flight.error
                self._settle(follower, status)
            else:
                self._settle(follower, "not_run")
