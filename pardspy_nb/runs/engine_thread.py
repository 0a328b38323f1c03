"""The thread of a run's engine, which has its own event loop and a copy of the caller's context.

Events go into a queue. The thread that waits for the run drains the queue in batches.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
from collections import deque
from collections.abc import Callable, Iterator
from itertools import islice

from ..core.errors import StoreError
from ..core.events import Event, Preparing, Row, RowFinished
from ..core.notices import told_to
from ..core.threads import Flag
from ..engine.adaptive_concurrency import MOST, AdaptiveConcurrency
from ..engine.controls import RunControls
from ..engine.protocols import Runner
from ..executors.base import Executor
from ..llm.background_loop import adopt
from ..store.cache import AnswerCache, open_cache
from .plan import RunPlan

_LOOK_AHEAD = 100  # rows


class EngineThread:
    """Runs a plan's rows in a thread, which opens and closes what the run needs.

    Args:
        executor: the place where attempts are made.
        workers: the number of rows in flight at the start.
        adapts: whether this number then adapts to the load that the endpoint can take.

    Attributes:
        begun: set once the thread runs and the store is open, or cannot be opened.
        wake: set when there are events to drain.
        done: set when no further event will come.
        crash: the error that broke the engine itself, or kept the run from starting.
    """

    def __init__(self, executor: Executor, plan: RunPlan, *, workers: int, adapts: bool) -> None:
        self._executor, self._plan, self._batch = executor, plan, plan.batch
        self._names_rest = plan.batch.names_rest
        self._adaptive = AdaptiveConcurrency(workers, _max_workers()) if adapts else None
        self._rows = _SharedRows(plan.batch.rows)
        self._cache: AnswerCache | None = None
        self._events: deque[Event] = deque()
        self._muted = self._is_ending = self._is_complete = False
        self._lock = threading.Lock()
        self._early: list[Callable[[RunControls], None]] = []  # called before the engine exists
        self._engine: Runner | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._preparing: asyncio.Future[None] | None = None
        self.begun, self.wake, self.done = (Flag() for _ in range(3))
        self.crash: BaseException | None = None

    @property
    def remembers(self) -> bool:
        """Whether answers are kept in a store."""
        return self._cache is not None and self._cache.store is not None

    @property
    def is_abandoned(self) -> bool:
        """Whether the engine was given up; its later events are discarded."""
        return self._muted

    def start(self) -> None:
        """Start the thread, with a copy of the caller's context.

        Raises:
            StoreError: the store cannot be opened.
        """
        context = contextvars.copy_context()
        threading.Thread(
            target=context.run, args=(self._main_thread,), name="pardspy-run", daemon=True
        ).start()
        self.begun.wait()
        if isinstance(self.crash, StoreError) and self._engine is None:
            raise self.crash.with_traceback(None)

    def drain(self) -> list[Event]:
        """The events since the last call. Only one thread at a time may call it."""
        self.wake.clear()
        return [self._events.popleft() for _ in range(len(self._events))]

    def control(self, action: Callable[[RunControls], None]) -> None:
        """Change the run's settings, in the run's thread; returns at once."""
        with self._lock:
            if self._engine is None or self._loop is None:
                self._early.append(action)
                return
        with contextlib.suppress(RuntimeError):  # the loop is closed: the run is over
            self._loop.call_soon_threadsafe(action, self._engine.controls)

    def set_workers(self, n: int, *, adapts: bool) -> None:
        """Have n rows in flight: permanently, or with `adapts` at first."""
        self._adaptive = AdaptiveConcurrency(n, _max_workers()) if adapts else None
        self.control(lambda controls: controls.set_workers(n))

    def cancel(self) -> None:
        """Stop now: rows in flight are cancelled."""
        if self._engine is not None:
            self._engine.controls.stop_taking()
        self.control(self._stop)

    def abandon(self) -> list[Event]:
        """Abandon an engine that does not react to `cancel` because a module blocks its loop. The
        engine's later events are discarded. Returns closing events for the rows still open.

        An engine that is already ending is not abandoned. If only closing takes time (connections,
        a store that another process locks), closing continues in the background.
        """
        if self._is_ending:
            if self._is_complete:
                self.done.set()
            return []
        self._muted = True
        if self._batch.listener is not None:
            self._batch.listener.close()
        left = [_not_run(row) for row in self._rows.rest()] if self._names_rest else []
        ends = self._engine.abandoned_events() if self._engine is not None else []
        self.done.set()
        return [*left, *ends]

    def _stop(self, controls: RunControls) -> None:
        controls.stop("cancelled", now=True)
        if self._preparing is not None:
            self._preparing.cancel()

    def _main_thread(self) -> None:
        loop = self._plan.clock.new_event_loop()
        adopt(loop)
        try:
            self._open_cache()
            self.begun.set()
            loop.run_until_complete(self._main(loop))
        except BaseException as error:
            self.crash = error
        finally:
            try:
                if self._cache is not None:
                    self._cache.close()
            except Exception as error:  # the rows are settled; the store may lack the last ones
                self.crash = self.crash or error
            finally:
                self.done.set()
                self.begun.set()
                self.wake.set()
                loop.close()

    def _open_cache(self) -> None:
        plan = self._plan
        total = None if plan.batch.in_chunks else plan.batch.total
        self._cache = open_cache(
            plan.options,
            plan.module,
            plan.sources,
            total=total,
            claims=plan.options.executor is None,
        )
        if self._cache is not None and plan.looks_ahead:
            self._rows.prefetch = self._cache.prefetch

    async def _main(self, loop: asyncio.AbstractEventLoop) -> None:
        async with self._executor.engine(self._rows, self._emit, self._cache) as engine:
            if self._batch.total != 0:
                with told_to(lambda what: self._tell(loop, what)):
                    self._preparing = asyncio.ensure_future(self._executor.prepare())
            self._take_over(loop, engine)
            if self._preparing is not None:
                with contextlib.suppress(asyncio.CancelledError):
                    await self._preparing
            await engine.run()
            self._is_ending = True
            if self._names_rest:
                for row in self._rows.rest():  # rows never pulled keep their place
                    self._emit(_not_run(row))
            self._is_complete = True

    def _tell(self, loop: asyncio.AbstractEventLoop, what: str) -> None:
        with contextlib.suppress(RuntimeError):  # the loop is closed: the run is over
            loop.call_soon_threadsafe(self._emit, Preparing(what))

    def _take_over(self, loop: asyncio.AbstractEventLoop, engine: Runner) -> None:
        with self._lock:
            self._loop, self._engine = loop, engine
        for action in self._early:
            loop.call_soon(action, engine.controls)

    def _emit(self, event: Event) -> None:
        if self._muted:
            return
        self._events.append(event)
        if self._engine is None:
            return
        try:
            if self._batch.listener is not None:
                self._batch.listener.hear(event)
            if self._adaptive is not None and self._loop is not None:
                self._adaptive.observe(event, self._loop, self._follow)
        except Exception as error:
            self._engine.controls.broke(error)
        if not self.wake.is_set():
            self.wake.set()

    def _follow(self, adaptive: AdaptiveConcurrency) -> None:
        if adaptive is self._adaptive and self._engine is not None:
            self._engine.controls.set_workers(adaptive.limit)


def _max_workers() -> int:
    """The most rows in flight that leave file handles and sockets for the rest of the process."""
    try:
        import resource
    except ImportError:  # Windows has no such limit
        return MOST
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return MOST if soft == resource.RLIM_INFINITY else max(1, min(MOST, soft // 2))


def _not_run(row: Row) -> RowFinished:
    return RowFinished(row, "not_run", None, None, 0, *[None] * 5)


class _SharedRows:
    """The rows. The engine pulls them; the thread that ends the run takes the rest.

    Attributes:
        prefetch: called with the next rows, a hundred at a time; None to pull single rows.
    """

    def __init__(self, rows: Iterator[Row]) -> None:
        self.prefetch: Callable[[list[Row]], None] | None = None
        self._rows, self._lock = rows, threading.Lock()
        self._next: deque[Row] = deque()
        self._rest: list[Row] | None = None
        self._broken: Exception | None = None

    def __iter__(self) -> Iterator[Row]:
        return self

    def __next__(self) -> Row:
        with self._lock:
            if self._rest is not None:
                raise StopIteration
            if self.prefetch is None:
                return next(self._rows)
            if not self._next:
                self._look_ahead(self.prefetch)
            return self._next.popleft()

    def _look_ahead(self, prefetch: Callable[[list[Row]], None]) -> None:
        if self._broken is not None:
            raise self._broken
        try:
            self._next.extend(islice(self._rows, _LOOK_AHEAD))
        except Exception as error:  # raised once the rows before it were pulled
            self._broken = error
        if not self._next:
            raise self._broken or StopIteration
        prefetch(list(self._next))

    def rest(self) -> list[Row]:
        """The rows that were never pulled. After this call no row can be pulled."""
        with self._lock:
            if self._rest is None:
                self._rest = [*self._next, *self._rows]
            return self._rest
