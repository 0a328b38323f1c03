"""Where a run's engine is: an event loop of its own, in a thread with the caller's context. Events
cross over in a queue and are drained in batches by whoever waits for the run.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice

from ..core.clock import Clock
from ..core.events import Event, Row, RowFinished
from ..engine.adaptive_concurrency import MOST, AdaptiveConcurrency
from ..engine.protocols import Controllable, Runner
from ..executors.base import Executor
from ..llm.background_loop import adopt
from ..store.cache import AnswerCache
from ..tables.inputs import RowBatch

_LOOK_AHEAD = 100  # rows


class EngineThread:
    """Runs a batch in a thread.

    Args:
        place: where attempts are made.
        workers: rows in flight, to begin with.
        adapts: whether the number then follows what the endpoint bears.
        looks_ahead: whether the cache is shown rows before they are pulled.

    Attributes:
        begun: set once its thread runs.
        wake: set when there are events to drain.
        done: set when no event will come any more.
        crash: what broke the machinery itself, or kept the run from starting.
    """

    def __init__(
        self,
        place: Executor,
        batch: RowBatch,
        *,
        workers: int,
        adapts: bool,
        cache: AnswerCache | None,
        looks_ahead: bool,
        clock: Clock,
    ) -> None:
        self._place, self._batch, self._cache, self._clock = place, batch, cache, clock
        self._named = batch.names_rest
        self._auto = AdaptiveConcurrency(workers, _most_workers()) if adapts else None
        prefetch = cache.prefetch if cache is not None and looks_ahead else None
        self._rows = _Shared(batch.rows, prefetch)
        self._events: deque[Event] = deque()
        self._muted = self._ending = self._told = False
        self._lock = threading.Lock()
        self._early: list[
            Callable[[Controllable], None]
        ] = []  # asked for before there is an engine
        self._engine: Runner | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._preparing: asyncio.Future[None] | None = None
        self.begun, self.wake, self.done = (threading.Event() for _ in range(3))
        self.crash: BaseException | None = None

    def start(self) -> None:
        """Begin, with a copy of the caller's context."""
        context = contextvars.copy_context()
        threading.Thread(
            target=context.run, args=(self._thread,), name="pardspy-run", daemon=True
        ).start()

    def drain(self) -> list[Event]:
        """The events since the last time. For one thread at a time."""
        self.wake.clear()
        return [self._events.popleft() for _ in range(len(self._events))]

    def control(self, action: Callable[[Controllable], None]) -> None:
        """Do something to the engine, on its thread; returns at once."""
        with self._lock:
            if self._engine is None or self._loop is None:
                self._early.append(action)
                return
        with contextlib.suppress(RuntimeError):  # the loop is closed: nothing is left to steer
            self._loop.call_soon_threadsafe(action, self._engine)

    def set_workers(self, n: int, *, adapts: bool) -> None:
        """Have n rows in flight; for good, or to begin with."""
        self._auto = AdaptiveConcurrency(n, _most_workers()) if adapts else None
        self.control(lambda engine: engine.set_workers(n))

    def cancel(self) -> None:
        """Stop now: rows in flight are cancelled."""
        if self._engine is not None:
            self._engine.stop_taking()
        self.control(self._stop)

    def abandon(self) -> list[Event]:
        """Give up an engine that does not hear `cancel`, because a module blocks its loop. It
        ends unheard once the module returns; here are the ends of the rows it leaves open.

        An engine that is ending by itself is left to it; where only its closing takes time
        (connections, a store that another process locks), that goes on behind the scenes.
        """
        if self._ending:
            if self._told:
                self.done.set()
            return []
        self._muted = True
        if self._batch.listener is not None:
            self._batch.listener.close()
        left = [_not_run(row) for row in self._rows.rest()] if self._named else []
        ends = self._engine.abandoned_events() if self._engine is not None else []
        self.done.set()
        return [*left, *ends]

    def _stop(self, engine: Controllable) -> None:
        engine.stop("cancelled", now=True)
        if self._preparing is not None:
            self._preparing.cancel()

    def _thread(self) -> None:
        self.begun.set()
        loop = self._clock.new_event_loop()
        adopt(loop)
        try:
            loop.run_until_complete(self._main(loop))
        except BaseException as error:
            self.crash = error
        finally:
            if self._cache is not None:
                self._cache.close()
            self.done.set()
            self.wake.set()
            loop.close()

    async def _main(self, loop: asyncio.AbstractEventLoop) -> None:
        async with self._place.engine(self._rows, self._emit) as engine:
            if self._batch.total != 0:
                self._preparing = asyncio.ensure_future(self._place.prepare())
            self._take_over(loop, engine)
            if self._preparing is not None:
                with contextlib.suppress(asyncio.CancelledError):
                    await self._preparing
            await engine.run()
            self._ending = True
            if self._named:
                for row in self._rows.rest():  # never pulled: they keep their place
                    self._emit(_not_run(row))
            self._told = True

    def _take_over(self, loop: asyncio.AbstractEventLoop, engine: Runner) -> None:
        with self._lock:
            self._loop, self._engine = loop, engine
        for action in self._early:
            loop.call_soon(action, engine)

    def _emit(self, event: Event) -> None:
        if self._muted:
            return
        self._events.append(event)
        if self._batch.listener is not None:
            self._batch.listener.hear(event)
        if self._auto is not None and self._loop is not None:
            self._auto.steer(event, self._loop, self._follow)
        if not self.wake.is_set():
            self.wake.set()

    def _follow(self, auto: AdaptiveConcurrency) -> None:
        if auto is self._auto and self._engine is not None:
            self._engine.set_workers(auto.limit)


def _most_workers() -> int:
    """Rows in flight that leave files and sockets for the rest of the process."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return MOST
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else max(1, min(MOST, soft // 2))


def _not_run(row: Row) -> RowFinished:
    return RowFinished(row, "not_run", None, None, 0, *[None] * 5)


class _Shared:
    """The rows, for the engine to pull and for whoever closes the run to take the rest.

    Args:
        prefetch: is shown the rows that come next, a hundred at a time.
    """

    def __init__(
        self, rows: Iterator[Row], prefetch: Callable[[list[Row]], None] | None = None
    ) -> None:
        self._rows, self._look_up, self._lock = rows, prefetch, threading.Lock()
        self._next: deque[Row] = deque()
        self._rest: list[Row] | None = None
        self._broken: Exception | None = None

    def __iter__(self) -> Iterator[Row]:
        return self

    def __next__(self) -> Row:
        with self._lock:
            if self._rest is not None:
                raise StopIteration
            if self._look_up is None:
                return next(self._rows)
            if not self._next:
                self._look_ahead(self._look_up)
            return self._next.popleft()

    def _look_ahead(self, prefetch: Callable[[list[Row]], None]) -> None:
        if self._broken is not None:
            raise self._broken
        try:
            self._next.extend(islice(self._rows, _LOOK_AHEAD))
        except Exception as error:  # told once the rows before it are through
            self._broken = error
        if not self._next:
            raise self._broken or StopIteration
        prefetch(list(self._next))

    def rest(self) -> list[Row]:
        """What was never pulled; nothing can be pulled any more."""
        with self._lock:
            if self._rest is None:
                self._rest = [*self._next, *self._rows]
            return self._rest
