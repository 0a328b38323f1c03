"""A run: the wiring from any input to a frame. Sync, async and background share this one path.

The engine lives on its own loop in a helper thread, with the caller's context copied. Its events
cross over in a queue and are drained in batches by whoever waits: the blocked caller, the
caller's own loop, or (in the background) a thread.
"""

from __future__ import annotations

import asyncio
import contextvars
import os
import sys
import threading
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from . import frame
from .batch import Batch, expand
from .clock import Clock, SystemClock
from .endpoint import close_clients
from .engine import Engine
from .errors import FailFast, ParallelError, RunStopped, TooManyFailures
from .events import Event, RowFinished, RunFinished
from .metrics import ParallelMetrics, Tally
from .modules import Module, from_module
from .options import Options
from .policy import FailurePolicy, RetryPolicy
from .portal import adopt
from .prediction import Prediction
from .provenance import provenance
from .sinks import Watchers, choose
from .summary import Summary

_BATCH_S = 0.03  # events are handed over at most this often
_TICK_S = 0.1  # and the display is repainted at least this often
_STOP_ERRORS: dict[str, type[ParallelError]] = {
    "failures": TooManyFailures,
    "fail_fast": FailFast,
    "fatal": RunStopped,
    "source": ParallelError,
}
_last: Run | None = None


class Run:
    """A batch under way or done: what `start_parallel` returns.

    `df` and `metrics` are live snapshots; `pause`, `resume`, `cancel` and `max_workers` steer;
    `result` waits for the frame; `iter` yields completions as rows complete.
    """

    def __init__(
        self, module: Module, data: Any, options: Options, *, clock: Clock | None = None
    ) -> None:
        self.options = options
        self._module = module
        table = frame.as_table(data)
        frame.check_columns(table, module.outputs)
        self._batch: Batch = expand(
            table, module.inputs, batch_key=options.batch_key, repeat=options.repeat,
            columns=options.columns,
        )  # fmt: skip
        cpus = os.cpu_count() or 1
        wanted = options.max_workers
        self._workers = module.auto_workers(cpus) if wanted == "auto" else wanted
        if getattr(module.source, "history", None) is not None and self._workers > 1:
            raise ValueError(
                "this module has a history, which rows in flight would share; use "
                "Parallel.from_factory(lambda i: Predict(…, history=History())), or max_workers=1"
            )
        self._clock = clock or SystemClock()
        self._queue: deque[Event] = deque()
        self._wake, self._done, self._ready = (threading.Event() for _ in range(3))
        self._drain = threading.RLock()
        self._tally = Tally()
        self._finished: list[RowFinished] = []
        self._end: RunFinished | None = None
        self._crash: BaseException | None = None
        self._engine: Engine | None = None
        self._loop: asyncio.AbstractEventLoop | None = None
        self._watchers = Watchers([])
        self._closed = False
        self._frame: Any = None

    # -- steering -----------------------------------------------------------------------------

    @property
    def df(self) -> Any:
        """The rows settled so far, as a frame; every row once the run is done."""
        if self._frame is not None:
            return self._frame
        self._pump()
        with self._drain:
            return self._build(list(self._finished))

    @property
    def metrics(self) -> ParallelMetrics:
        """The figures as they stand."""
        self._pump()
        with self._drain:
            return self._tally.metrics()

    @property
    def is_empty(self) -> bool:
        """Whether there are no rows to run."""
        return self._batch.total == 0

    @property
    def done(self) -> bool:
        """Whether every row is settled."""
        return self._done.is_set()

    @property
    def max_workers(self) -> int:
        """Rows in flight at most; may be set while the run goes on."""
        return self._workers

    @max_workers.setter
    def max_workers(self, n: int) -> None:
        Options(max_workers=n)  # refuses what is no number of workers
        self._workers = n
        self._control(lambda engine: engine.set_workers(n))

    def pause(self) -> None:
        """Start nothing new; rows in flight finish."""
        self._control(Engine.pause)

    def resume(self) -> None:
        """Go on."""
        self._control(Engine.resume)

    def cancel(self) -> None:
        """Stop now: rows in flight are cancelled, finished rows are kept."""
        self._control(lambda engine: engine.stop("cancelled", now=True))

    def _control(self, action: Callable[[Engine], None]) -> None:
        self._ready.wait()
        if self._engine is None or self._loop is None or self._done.is_set():
            return
        engine = self._engine
        try:
            self._loop.call_soon_threadsafe(action, engine)
        except RuntimeError:  # the loop has just closed: there is nothing left to steer
            return

    # -- waiting ------------------------------------------------------------------------------

    def result(self) -> Any:
        """Wait and return the frame. A kernel interrupt returns it as it stands.

        Raises:
            TooManyFailures, FailFast, RunStopped: the run ended early; each carries `.df`.
        """
        while not self._done.is_set():
            try:
                self._wake.wait(_TICK_S)
                self._pump()
                self._done.wait(_BATCH_S)
            except KeyboardInterrupt:
                self.cancel()
        return self._finish()

    async def aresult(self) -> Any:
        """`result` for a running event loop."""
        while not self._done.is_set():
            try:
                await asyncio.sleep(_BATCH_S)
                self._pump()
            except asyncio.CancelledError:
                self.cancel()
                if not _in_kernel():
                    raise
                if (task := asyncio.current_task()) is not None:
                    task.uncancel()  # the kernel's interrupt asks for the partial frame
        return self._finish()

    def iter(self) -> Iterator[Prediction]:
        """Each successful row's `Prediction` as it completes, in order of completion."""
        seen = 0
        while True:
            finished = self._done.is_set()
            self._pump()
            while seen < len(self._finished):
                row = self._finished[seen]
                seen += 1
                if row.answer is not None:
                    yield Prediction(row.answer.outputs, inputs=row.row.inputs, usage=row.usage,
                                     module_name=self._module.name)  # fmt: skip
            if finished:
                self._finish()
                return
            self._wake.wait(_TICK_S)

    # -- the run itself -----------------------------------------------------------------------

    def start(self, *, background: bool = False) -> Run:
        """Begin; with `background` a thread keeps the display up to date."""
        global _last
        _last = self
        if self._batch.total != 0:
            self._watchers = choose(self.options.progress)
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._thread,), name="pardspy-run",
                         daemon=True).start()  # fmt: skip
        if background:
            threading.Thread(target=self._tick, name="pardspy-progress", daemon=True).start()
        return self

    def _thread(self) -> None:
        self._loop = self._clock.new_event_loop()
        adopt(self._loop)
        try:
            self._loop.run_until_complete(self._main())
        except BaseException as error:
            self._crash = error
        finally:
            self._done.set()
            self._ready.set()
            self._wake.set()
            self._loop.close()

    async def _main(self) -> None:
        loop = asyncio.get_running_loop()
        call, pool = self._module.caller(loop)
        engine = Engine(
            self._batch.rows, call, self._emit, clock=self._clock, total=self._batch.total,
            max_workers=self._workers, retry=RetryPolicy(self.options.max_attempts),
            failure=FailurePolicy(self.options.max_failures, self.options.fail_fast),
            timeout_s=self.options.timeout_s or self._module.timeout_s, lanes=self._module.lanes,
            blocking_source=self._batch.blocking,
        )  # fmt: skip
        try:
            if self._batch.total != 0:
                for lm in self._module.lms:
                    if (prepare := getattr(lm, "prepare", None)) is not None:
                        await prepare()
            self._engine = engine
            loop.call_soon(self._ready.set)
            await engine.run()
            if self._batch.total is not None:
                for row in self._batch.rows:  # never pulled: they keep their place
                    self._emit(RowFinished(row, "not_run", None, None, 0, None, None, None, None,
                                           None))  # fmt: skip
        finally:
            pool.close()
            await close_clients()

    def _emit(self, event: Event) -> None:
        self._queue.append(event)
        if not self._wake.is_set():
            self._wake.set()

    def _pump(self) -> None:
        """Fold in what happened since the last time. Any thread may call it."""
        with self._drain:
            self._wake.clear()
            events: list[Event] = []
            while self._queue:
                event = self._queue.popleft()
                events.append(event)
                self._tally.add(event)
                if isinstance(event, RowFinished):
                    self._finished.append(event)
                elif isinstance(event, RunFinished):
                    self._end = event
            self._watchers.update(self._tally, events)

    def _tick(self) -> None:
        while not self._done.wait(_TICK_S):
            self._pump()
        self._close()

    # -- the end ------------------------------------------------------------------------------

    def _close(self) -> None:
        """Build the frame and give the display its final state, once."""
        with self._drain:
            if self._closed:
                return
            self._pump()
            self._closed = True
            rows = self._build(list(self._finished))
            self._frame = self._select(rows)
            notice = self._notice()
            summary = Summary(self._tally.metrics(), frame.error_groups(rows), notice)
            self._watchers.close(self._tally, summary._repr_html_())
            if notice:
                print(notice, file=sys.stderr)

    def _finish(self) -> Any:
        self._close()
        if self._crash is not None:
            raise self._crash
        end = self._end
        if end is not None and end.reason == "crashed" and end.error is not None:
            raise end.error
        if end is not None and (kind := _STOP_ERRORS.get(end.reason)):
            # the error carries every row, whatever the result would have left out
            raise self.explained(kind, end.error) from end.error
        return self._frame

    def explained(self, kind: type[ParallelError], cause: BaseException | None) -> ParallelError:
        """A `ParallelError` of this run: what happened, to how many rows, and what to do."""
        failed = [f.error for f in self.in_order() if f.status == "failed" and f.error is not None]
        t = self._tally
        distinct = list(dict.fromkeys(f"{type(e).__name__}: {e}" for e in failed))[:3]
        text = (
            f"{kind.why}: {t.ok} rows done, {t.failed} failed, "
            f"{t.cancelled} cancelled, {t.not_run} not run. {' | '.join(distinct)}"
        )
        if not failed and cause is not None:
            text += f"{type(cause).__name__}: {cause}"
        return kind(f"{text} (every row is in this error's .df)", df=self._build(self._finished),
                    errors=failed)  # fmt: skip

    def in_order(self) -> list[RowFinished]:
        """The settled rows, in input order."""
        return sorted(self._finished, key=lambda f: f.row.number)

    def _notice(self) -> str:
        if self._end is None or self._end.reason != "cancelled":
            return ""
        t = self._tally
        total = "" if t.total is None else f" of {t.total:,}"
        return (f"Stopped before the end: {t.ok:,}{total} rows are done and in the frame; the "
                "others are marked in its status column.")  # fmt: skip

    def _build(self, rows: list[RowFinished]) -> Any:
        df = frame.build(rows, self._batch, self._module.outputs)
        metrics = self._tally.metrics()
        df.attrs["pardspy"] = provenance(self._module, self.options, self._workers, metrics)
        return df

    def _select(self, df: Any) -> Any:
        ok = df["status"] == "ok"
        if self.options.only_successful:
            df = df[ok]
        if not self.options.return_all:
            df = df[df["status"] == "ok"].head(1)
        return df

    def __repr__(self) -> str:
        m = self.metrics
        state = "done" if self.done else "running"
        return f"<Run {state}: {m.successes} ok, {m.failures} failed of {m.total} rows>"


def _in_kernel() -> bool:
    ipython = sys.modules.get("IPython")
    return ipython is not None and hasattr(ipython.get_ipython(), "kernel")


def start_parallel(module: Any, inputs: Any, **options: Any) -> Run:
    """Start a batch in the background and return its `Run` at once; see `run_parallel`."""
    return Run(from_module(module), inputs, Options.of(options)).start(background=True)


def run_parallel(module: Any, inputs: Any, **options: Any) -> Any:
    """Run every row through a module, concurrently; return one row per completion.

    Args:
        module: `Predict` and its kin, any sync or async function `f(**inputs)`, or an object
            with `acall(**inputs)`.
        inputs: a dict of lists (equal lengths; scalars and strings broadcast),
            `{"_batch": [dict, …]}`, a list of dicts, a list / Series / array where the module
            has one input, a DataFrame (pandas, polars, pyarrow), a path to a .parquet, .csv or
            .jsonl, or an iterator of dicts. One dict of scalars is one row.
        options: see `Options`.

    Returns:
        A DataFrame in input order with the input's index: inputs, outputs, then
        `status error_type error attempts cached`, times (ms), tokens and `cost_usd`.
        `df.parallel` has metrics, summary, failures and plots. A kernel interrupt returns the
        frame as it stands.

    Raises:
        ValueError, TypeError: bad input or options; nothing was sent.
        TooManyFailures, FailFast, RunStopped: the run ended early; `.df` has every row.
        LocalModelError, LMError: the model cannot be started or reached; nothing was sent.
    """
    return Run(from_module(module), inputs, Options.of(options)).start().result()


async def arun_parallel(module: Any, inputs: Any, **options: Any) -> Any:
    """`run_parallel`, awaited: the caller's event loop stays free."""
    return await Run(from_module(module), inputs, Options.of(options)).start().aresult()


def last_run() -> Run | None:
    """The run started last in this process, None before the first."""
    return _last
