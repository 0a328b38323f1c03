"""A run: from any input to a frame. Sync, async and background calls share this one path."""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from operator import methodcaller
from typing import Any, Literal

from ..core.clock import Clock, SystemClock
from ..core.errors import ParallelError, PardspyError
from ..core.metrics import ParallelMetrics
from ..core.options import Options
from ..display import notebook
from ..display.sinks import Watchers, choose
from ..executors.base import Executor
from ..executors.local import LocalExecutor
from ..modules.cost_bounds import refuse_unknown
from ..modules.module import Module
from ..modules.prediction import Prediction
from ..modules.provenance import Sources
from ..store.cache import open_cache
from ..tables.export import check_kind
from ..tables.inputs import RowBatch
from ..tables.results import Results
from ..tables.rows import read_rows
from .collectors.frame import Ledger
from .engine_thread import EngineThread
from .registry import register
from .signals import interrupts_held

_BATCH_S = 0.03  # events are handed over at most this often
_TICK_S = 0.1  # and the display is offered a chance to repaint at least this often
_GRACE_S = 0.7  # how long a cancelled run may take to end: an interrupt is answered in a second
_LEAVE_S = 2.0  # how long the interpreter's end waits for runs left alone
_last: Run | None = None
_open_runs: weakref.WeakSet[Run] = weakref.WeakSet()


class Run:
    """A batch under way or done: what `start_parallel` returns.

    `df` and `metrics` are live snapshots; `pause`, `resume`, `cancel`, `drop_stragglers` and
    `max_workers` steer; `result` waits for the frame; `iter` yields completions as rows
    complete. In a notebook it shows itself as the panel, and as the summary once it is done.
    """

    def __init__(
        self,
        module: Module,
        data: Any,
        options: Options,
        *,
        clock: Clock | None = None,
        ledger: Callable[..., Ledger] = Ledger,
        place: Callable[..., Executor] | None = None,
        most_ahead: int | None = None,
    ) -> None:
        self.options = options
        check_kind(options.result)
        module = module.with_confidence() if options.confidence else module
        self._module = module
        self._batch = (
            data
            if isinstance(data, RowBatch)
            else read_rows(data, module.inputs, module.outputs, options)
        )
        self._workers = 1
        self._set_workers(options.max_workers)
        if module.has_history and self._workers > 1:
            raise ValueError(
                "this module has a history, which rows in flight would share; use "
                "Parallel.from_factory(lambda i: Predict(…, history=History())), or max_workers=1"
            )
        if module.has_history and options.executor is not None:
            raise ValueError(
                "this module has a history, which would stay on the workers: it "
                "cannot be run with executor="
            )
        if options.hedge is not None and module.lanes:
            raise ValueError(
                "hedge asks a row twice at once, and an instance of from_instances "
                "serves one row at a time; use from_factory"
            )
        if options.max_cost_usd is not None:
            refuse_unknown(module)
        sources = Sources(module, options.cache_key)
        total = None if self._batch.in_parts else self._batch.total
        cache = open_cache(options, module, sources, total=total)
        clock = clock or SystemClock()
        where = (place or _place_for(options))(
            module,
            self._batch,
            options,
            workers=self._workers,
            cache=cache,
            clock=clock,
            most_ahead=most_ahead,
        )
        # rows of busy lanes wait, and what was looked up for them would be out of date
        looks_ahead = not self._batch.blocking and module.lanes is None
        self._backend = EngineThread(
            where,
            self._batch,
            workers=self._workers,
            adapts=self._adapts,
            cache=cache,
            looks_ahead=looks_ahead,
            clock=clock,
        )
        self._ledger = ledger(
            module,
            self._batch,
            options,
            sources,
            workers=self._workers,
            remembers=cache is not None and cache.store is not None,
            control=self._backend.control,
        )
        self._drain = threading.RLock()
        self._watchers = Watchers()
        self._waits: notebook.Waits = "blocking"
        self._cancelled_at: float | None = None
        self._frame: Any = None
        self._summary: Any = None

    def _set_workers(self, n: int | Literal["auto"]) -> None:
        known = self._known_workers() if n == "auto" else n
        self._adapts = known is None
        self._workers = max(os.cpu_count() or 1, self._workers) if known is None else known

    def _known_workers(self) -> int | None:
        client = self.options.executor
        if client is None or self._module.waits or self._module.lanes:
            return self._module.known_workers
        threads: list[int] = list(client.nthreads().values())
        return max(1, sum(threads))  # one for each synchronous call

    # -- reading ------------------------------------------------------------------------------

    @property
    def df(self) -> Any:
        """The rows settled so far, as a frame; every row once the run is done."""
        if self._frame is not None:
            return self._frame
        self._pump()
        with self._drain:
            return self._ledger.frame()

    @property
    def metrics(self) -> ParallelMetrics:
        """The figures as they stand."""
        self._pump()
        with self._drain:
            return self._ledger.progress.metrics()

    @property
    def is_empty(self) -> bool:
        """Whether there are no rows to run."""
        return self._batch.total == 0

    @property
    def done(self) -> bool:
        """Whether every row is settled."""
        return self._backend.done.is_set()

    # -- steering -----------------------------------------------------------------------------

    @property
    def max_workers(self) -> int:
        """Rows in flight at most; may be set while the run goes on, `"auto"` included."""
        return (self._adapts and self._ledger.progress.max_workers) or self._workers

    @max_workers.setter
    def max_workers(self, n: int | Literal["auto"]) -> None:
        Options(max_workers=n)  # refuses what is no number of workers
        self._set_workers(n)
        self._backend.set_workers(self._workers, adapts=self._adapts)

    def pause(self) -> None:
        """Start nothing new; rows in flight finish."""
        self._backend.control(methodcaller("pause"))

    def resume(self) -> None:
        """Go on."""
        self._backend.control(methodcaller("resume"))

    def drop_stragglers(self) -> None:
        """Finish without the slowest: from now on a row is cancelled once it is under way for
        twice the 90th percentile of the rows that succeeded; while there are none, none is."""
        self._backend.control(methodcaller("drop_stragglers"))

    def cancel(self) -> None:
        """Stop now: rows in flight are cancelled, finished rows are kept."""
        self._cancelled_at = self._cancelled_at or time.monotonic()
        self._backend.cancel()

    # -- waiting ------------------------------------------------------------------------------

    def result(self) -> Any:
        """Wait and return the frame. A kernel interrupt returns it as it stands.

        Raises:
            TooManyFailures, FailFast, RunStopped: the run ended early; each carries `.df`.
        """
        while True:
            try:
                while not self.done:
                    self._backend.wake.wait(_TICK_S)
                    self._pump()
                    self._backend.done.wait(_BATCH_S)
                return self._finish()
            except KeyboardInterrupt:
                self.cancel()

    async def aresult(self) -> Any:
        """`result` for a running event loop."""
        while not self.done:
            try:
                await asyncio.sleep(_BATCH_S)
                self._pump()
            except asyncio.CancelledError:
                self.cancel()
                if not notebook.in_kernel():
                    self._tick_in_background()
                    raise
                if (task := asyncio.current_task()) is not None:
                    task.uncancel()  # the kernel's interrupt asks for the partial frame
        return self._finish()

    def iter(self) -> Iterator[Prediction]:
        """Each successful row's `Prediction` as it completes, in order of completion. The run does
        not wait for whoever iterates: one who leaves early may want to `cancel` it."""
        results = self._ledger.results
        seen = 0
        while True:
            done = self.done
            self._pump()
            while seen < len(results):
                place, seen = seen, seen + 1
                if results.is_ok(place):
                    row = results.at(place)
                    yield Prediction(
                        row.outputs or {},
                        inputs=row.inputs,
                        usage=row.usage,
                        module_name=self._module.name,
                    )
            if done:
                self._finish()
                return
            self._backend.wake.wait(_TICK_S)

    # -- the run itself -----------------------------------------------------------------------

    def start(self, waits: notebook.Waits = "blocking") -> Run:
        """Begin; in the background a thread keeps the display up to date."""
        global _last
        _last = self
        register(self._ledger.run, self._module, self.options)
        _open_runs.add(self)
        self._waits = waits
        if not self.is_empty:
            self._watchers = choose(self.options.progress, self, waits)
        try:
            self._backend.start()
        except KeyboardInterrupt:  # it may have begun all the same, and rows be on their way
            self.cancel()
            if not self._backend.begun.wait(_GRACE_S):
                raise
        if waits == "background":
            self._tick_in_background()
        return self

    def _pump(self) -> None:
        """Fold in what happened since the last time. Any thread may call it."""
        with self._drain:
            with interrupts_held():  # what is drained must be entered, whole
                events = self._backend.drain()
                self._ledger.add(events)
            self._watchers.update(self._ledger.progress, events)
        if self._cancelled_at is not None and time.monotonic() - self._cancelled_at > _GRACE_S:
            self._abandon()

    def _abandon(self) -> None:
        """End a cancelled run whose engine does not answer, with what is there."""
        with self._drain:
            if self.done:
                return
            left = self._backend.abandon()
            self._ledger.add(self._backend.drain())
            self._ledger.add_missing(left)

    def _tick_in_background(self) -> None:
        threading.Thread(target=self._tick, name="pardspy-progress", daemon=True).start()

    def _tick(self) -> None:
        while not self._backend.done.wait(_TICK_S):
            self._pump()
        self._close()

    def _close(self) -> None:
        """Build the frame and give the display its final state, once."""
        with self._drain:
            if self._frame is not None:
                return
            self._pump()
            with interrupts_held():
                self._conclude()

    def _conclude(self) -> None:
        _open_runs.discard(self)
        self._ledger.finish()
        rows = self._ledger.frame()
        self._summary = self._ledger.summary(rows)
        if (crash := self._backend.crash) is not None:
            words = f"The run could not start or broke down: {type(crash).__name__}: {crash}"
            self._summary = replace(self._summary, trouble=words)
        self._watchers.close(self._ledger.progress, self._summary)
        whole = self.options.return_all and not self.options.only_successful
        self._frame = rows if whole else self._ledger.frame(selected=True)
        if self._summary.notice and not self._watchers.has_panel:
            print(self._summary.notice, file=sys.stderr)

    def _finish(self) -> Any:
        self._close()
        end = self._ledger.end
        if (crash := self._backend.crash) is not None:
            # our own errors tell all in their message; the engine's frames would only hide it
            raise crash.with_traceback(None) if isinstance(crash, PardspyError) else crash
        if end is not None and (error := self._ledger.stopped_by()) is not None:
            raise error from end.error
        return self._ledger.result(self._frame)

    # -- for those who build on it, and for show ----------------------------------------------

    @property
    def results(self) -> Results:
        """The settled rows; to be read once the run is done."""
        return self._ledger.results

    def explained(self, kind: type[ParallelError]) -> ParallelError:
        """An error of this kind about this run, with every row in its `df`."""
        return self._ledger.explained(kind, None)

    def _ipython_display_(self) -> None:
        from IPython.display import display

        if not notebook.has_widgets() or self.is_empty:
            print(repr(self))
            return
        with self._drain:
            if self.done:
                self._close()
                display(self._summary)  # type: ignore[no-untyped-call]
            else:
                self._watchers.show_panel(self, self._waits)

    def __repr__(self) -> str:
        m = self.metrics
        state = "done" if self.done else "running"
        return f"<Run {state}: {m.successes} ok, {m.failures} failed of {m.total} rows>"


def _place_for(options: Options) -> Callable[..., Executor]:
    if options.executor is None:
        return LocalExecutor
    from ..executors.cluster.executor import ClusterExecutor

    return ClusterExecutor


@atexit.register
def _leave() -> None:
    """End the runs that were left alone, so that displays and stores get their final state."""
    until = time.monotonic() + _LEAVE_S
    left = list(_open_runs)
    for run in left:
        run.cancel()
    for run in left:
        if run._backend.done.wait(max(0.0, until - time.monotonic())):
            run._close()


def last_run() -> Run | None:
    """The run started last in this process, None before the first."""
    return _last
