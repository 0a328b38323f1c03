"""A run: from any input to a frame. Sync, async and background calls share this one path."""

from __future__ import annotations

import asyncio
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from ..core.error_groups import ErrorGroup
from ..core.errors import ParallelError, PardspyError, StoreError
from ..core.fixed_names import FixedNames
from ..core.metrics import ParallelMetrics
from ..core.options import Options
from ..display import notebook
from ..display.live_html import head_html
from ..display.progress import RunProgress
from ..display.sinks import Watchers, choose, has_stderr
from ..engine.controls import RunControls
from ..modules.prediction import Prediction
from ..tables.frame import metrics_of
from ..tables.results import Results
from .attempts import FailedAttempts
from .collectors.collector import Collector, Destination
from .collectors.frame import FrameDestination
from .engine_thread import EngineThread
from .later_retry import AskAgain, LaterRetry
from .open_runs import open_runs, set_last
from .plan import MakeExecutor, RunPlan, Workers, executor_for
from .registry import register
from .row_story import RowStory, row_story
from .signals import interrupts_held
from .stories import stories_of

_BATCH_S = 0.03  # events are drained at most this often
_TICK_S = 0.1  # and the display can repaint at least this often
_GRACE_S = 0.7  # a cancelled run may take this long to end: an interrupt returns within a second


class Run(FixedNames):
    """A run that goes on or is done: the result of `start_parallel`.

    `df` and `metrics` are live snapshots. `pause`, `resume`, `cancel`, `drop_stragglers` and
    `max_workers` control the run. `result` waits for the frame; `iter` yields predictions as rows
    complete. A notebook shows a run as the panel, and as the summary once the run is done.
    """

    def __init__(
        self,
        plan: RunPlan,
        *,
        ask_again: AskAgain | None = None,
        destination: Destination | None = None,
        make_executor: MakeExecutor | None = None,
        attempts: FailedAttempts | None = None,
    ) -> None:
        self._plan = plan
        self._workers, self._adapts = plan.workers(plan.options.max_workers)
        make = make_executor or executor_for(plan.options)
        self._thread = EngineThread(
            make(plan.work(self._workers)), plan, workers=self._workers, adapts=self._adapts
        )
        self._collector = Collector(
            plan,
            self._workers,
            destination or FrameDestination(plan),
            remembers=lambda: self._thread.remembers,
            attempts=attempts,
        )
        self._drain = threading.RLock()
        self._watchers = Watchers()
        self._wait_mode: notebook.WaitMode = "blocking"
        self._cancelled_at: float | None = None
        self._ending = threading.RLock()  # one thread concludes the run; taken before _drain
        self._later = LaterRetry(ask_again)
        self._rows: Any = None  # every row, once all are settled
        self._frame: Any = None
        self._summary: Any = None

    # -- reading ------------------------------------------------------------------------------

    @property
    def df(self) -> Any:
        """The rows settled so far, as a frame; every row once the run is done."""
        if self._frame is not None:
            return self._frame
        self._pump()
        with self._drain:
            return self._collector.frame()

    @property
    def metrics(self) -> ParallelMetrics:
        """The current figures."""
        if self._frame is not None and self._later.has_run:
            return metrics_of(self._rows)
        self._pump()
        with self._drain:
            return self._collector.progress.metrics()

    def row(self, label: Any, *, sample: int | None = None) -> RowStory:
        """A settled row's story so far; see `row_story`."""
        return row_story(self.df, label, sample=sample)

    @property
    def progress(self) -> RunProgress:
        """The accumulated state, which the displays show."""
        return self._collector.progress

    @property
    def options(self) -> Options:
        """The run's options."""
        return self._plan.options

    @property
    def is_empty(self) -> bool:
        """Whether there are no rows to run."""
        return self._plan.batch.total == 0

    @property
    def done(self) -> bool:
        """Whether every row is settled."""
        return self._thread.done.is_set() and not self._later.is_running

    @property
    def can_retry(self) -> bool:
        """Whether `retry_failed` is possible: the result is a frame with the failed rows."""
        o, c = self.options, self._collector
        return o.return_all and not o.only_successful and self._later.is_possible and c.keeps_rows

    def story(self, group: ErrorGroup) -> str | None:
        """What became of a group's first row, in short; None if that row is not in this process."""
        with self._drain:
            df = self._collector.first_of(group)
        return None if df is None else stories_of(df, [group]).get(repr(group.example))

    # -- steering -----------------------------------------------------------------------------

    @property
    def max_workers(self) -> int:
        """The most rows in flight. It may be set while the run goes on, also to `"auto"`."""
        return (self._adapts and self._collector.progress.max_workers) or self._workers

    @max_workers.setter
    def max_workers(self, n: Workers) -> None:
        Options(max_workers=n)  # refuses an invalid number of workers
        self._workers, self._adapts = self._plan.workers(n, at_least=self._workers)
        self._thread.set_workers(self._workers, adapts=self._adapts)

    def pause(self) -> None:
        """Start nothing new; rows in flight finish."""
        self._thread.control(RunControls.pause)

    def resume(self) -> None:
        """Start new rows again."""
        self._thread.control(RunControls.resume)

    def drop_stragglers(self) -> None:
        """Finish without the slowest rows. From now on a row is cancelled once it takes twice the
        90th percentile of the successful rows' times; as long as no row succeeded, no row is
        cancelled."""
        self._thread.control(RunControls.drop_stragglers)

    def cancel(self) -> None:
        """Stop now: rows in flight are cancelled, finished rows are kept."""
        self._later.drop()
        self._cancelled_at = self._cancelled_at or time.monotonic()
        self._thread.cancel()

    def retry_failed(self, error: str | ErrorGroup | None = None) -> None:
        """Once the other rows are through, ask failed rows again, as `df.parallel.retry_failed`
        does: those of one `error`, or all. A run that ends early asks none again. ValueError if the
        result has no failed rows, or the run is over."""
        if not self.can_retry or self._frame is not None:
            why = "the run is over" if self.can_retry else "this result has no failed rows"
            raise ValueError(f"{why}; use df.parallel.retry_failed(), or run the same call again")
        self._later.ask(error)

    # -- waiting ------------------------------------------------------------------------------

    def result(self) -> Any:
        """Wait and return the frame. A kernel interrupt returns the frame with its settled rows.

        Raises:
            TooManyFailures, FailFast, RunStopped: the run ended early; each carries `.df`.
        """
        while True:
            try:
                while not self.done:
                    self._thread.wake.wait(_TICK_S)
                    self._pump()
                    self._thread.done.wait(_BATCH_S)
                return self._finish()
            except KeyboardInterrupt:
                self.cancel()

    async def aresult(self) -> Any:
        """`result` for a running event loop."""
        ends_elsewhere = False
        while not self.done or self._later.is_asked:
            try:
                await asyncio.sleep(_BATCH_S)
                self._pump()
                if self.done and self._later.is_asked and not ends_elsewhere:
                    self._tick_in_background()  # to ask rows again must not block this loop
                    ends_elsewhere = True
            except asyncio.CancelledError:
                self.cancel()
                if not notebook.in_kernel():
                    self._tick_in_background()
                    raise
                if (task := asyncio.current_task()) is not None:
                    task.uncancel()  # a kernel interrupt asks for the partial frame
        return self._finish()

    def iter(self) -> Iterator[Prediction]:
        """Each successful row's `Prediction`, in order of completion. The run does not wait for
        the iteration: if you leave the loop early, `cancel` the run unless it should go on."""
        results = self._collector.results
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
                        module_name=self._plan.module.name,
                    )
            if done:
                self._finish()
                return
            self._thread.wake.wait(_TICK_S)

    # -- the run itself -----------------------------------------------------------------------

    def start(self, wait_mode: notebook.WaitMode = "blocking") -> Run:
        """Start the run. For a run in the background a thread keeps the display up to date.

        Raises:
            StoreError: the given store cannot be used; nothing was sent.
            RuntimeError: the system gives no thread. What was sent by then is in `last_run()`.
        """
        self._wait_mode = wait_mode
        self._collector.prepare(self._thread.control)
        before = set_last(self)
        try:
            self._thread.start()
        except (StoreError, RuntimeError):  # it never began
            set_last(before)
            self._collector.drop()
            raise
        except KeyboardInterrupt:  # the thread may still have begun, with rows in flight
            self.cancel()
            if not self._thread.begun.wait(_GRACE_S):
                raise
        run, attempts = self._collector.run, self._collector.attempts
        register(run, self._plan.module, self.options, attempts)
        open_runs.add(self)
        try:
            if not self.is_empty:
                self._watchers = choose(self.options.progress, self, wait_mode)
            if wait_mode == "background":
                self._tick_in_background()
        except BaseException:  # nobody gets this run, so it must not go on paying
            self.cancel()
            raise
        return self

    def _pump(self) -> None:
        """Add the events since the last call. Any thread may call it."""
        with self._drain:
            with interrupts_held():  # all drained events must be added
                # an event that was on its way when the run was abandoned has its row's end already
                events = [] if self._thread.is_abandoned else self._thread.drain()
                self._collector.add(events)
            if self._collector.broken is not None and self._cancelled_at is None:
                self.cancel()
            self._watchers.update(self._collector.progress, events)
        if self._cancelled_at is not None and time.monotonic() - self._cancelled_at > _GRACE_S:
            self._abandon()

    def _abandon(self) -> None:
        """End a cancelled run whose engine does not react, with the rows settled so far."""
        with self._drain:
            if self.done:
                return
            left = self._thread.abandon()
            self._collector.add(self._thread.drain())
            self._collector.add_missing(left)

    def _tick_in_background(self) -> None:
        thread = notebook.thread_class()
        thread(target=self._tick, name="pardspy-progress", daemon=True).start()

    def _tick(self) -> None:
        while not self._thread.done.wait(_TICK_S):
            self._pump()
        self._close()

    def leave(self, wait_s: float) -> None:
        """Conclude the run, if it is over within so many seconds."""
        if self._thread.done.wait(wait_s):
            self._close()

    def _close(self) -> None:
        """Build the frame and give the display its final state, once."""
        with self._ending:
            if self._frame is not None:
                return
            self._pump()
            with self._drain, interrupts_held():
                if self._rows is None:
                    open_runs.discard(self)
                    with self._collector.guarded():
                        self._collector.finish()
                    self._rows = self._collector.frame()
            if not self._collector.is_whole:
                self._later.drop()
            if self._later.is_asked:
                self.progress.asks_again = True
                self._pump()
                self._later.run(self._rows, self._wait_mode, self.options.name)
                set_last(self)
            with self._drain, interrupts_held():
                self._conclude(self._rows)

    def _conclude(self, rows: Any) -> None:
        collector, guarded = self._collector, self._collector.guarded
        with guarded():
            self._conclude_display(rows)
        with guarded():
            collector.warn_of_renamed(rows)
        whole = self.options.return_all and not self.options.only_successful
        self._frame = rows if whole else collector.frame(selected=True)

    def _conclude_display(self, rows: Any) -> None:
        self._summary = self._collector.summary(rows)
        if (crash := self._thread.crash) is not None:
            words = f"The run could not start or broke down: {type(crash).__name__}: {crash}"
            self._summary = replace(self._summary, trouble=words)
        self._watchers.close(self._collector.progress, self._summary)
        if self._summary.notice and not self._watchers.has_panel and has_stderr():
            print(self._summary.notice, file=sys.stderr)

    def _finish(self) -> Any:
        self._close()
        end = self._collector.end
        if (crash := self._thread.crash) is not None:
            if len(self.results):
                raise self.explained(ParallelError) from crash
            # the message of our own errors is complete; a traceback of the engine would hide it
            raise crash.with_traceback(None) if isinstance(crash, PardspyError) else crash
        if end is not None and (error := self._collector.stopped_by()) is not None:
            raise error from None  # the text names what went wrong; .errors has it
        return self._collector.result(self._frame)

    # -- for code built on a run, and for display ---------------------------------------------

    @property
    def results(self) -> Results:
        """The settled rows. Read them once the run is done."""
        return self._collector.results

    def explained(self, kind: type[ParallelError]) -> ParallelError:
        """An error of this class about this run, with every row in its `df`."""
        return self._collector.explained(kind, self._thread.crash)

    def _ipython_display_(self) -> None:
        from IPython.display import display

        if not notebook.has_widgets() or self.is_empty:
            print(repr(self))
            return
        if self.done:
            self._close()
        with self._drain:
            if self._frame is not None:
                display(self._summary or repr(self))  # type: ignore[no-untyped-call]
            else:
                self._watchers.show_panel(self, self._wait_mode)

    def _mime_(self) -> tuple[str, str]:
        """What marimo shows: the run's state now; at its end, the summary."""
        if self.done:
            self._close()
        with self._drain:
            shown = self._summary._repr_html_() if self._summary else head_html(self.progress)
        return "text/html", shown

    def __repr__(self) -> str:
        m = self.metrics
        state = "done" if self.done else "running"
        return f"<Run {state}: {m.successes} ok, {m.failures} failed of {m.total} rows>"
