"""A worker engine in a Dask worker: its thread, and the Dask tasks that host and feed it."""

from __future__ import annotations

import contextlib
import contextvars
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

from ...core.clock import SystemClock
from ...core.events import Row, RowFinished
from ...core.options import Options
from ...llm.background_loop import adopt
from ...modules.module import Module
from ...modules.provenance import Sources
from ...store.cache import AnswerCache, open_cache
from .messages import Command, PartitionError, Report, loads, report_as_bytes
from .worker_engine import WorkerEngine

CONNECT_S = 30
_ECHO_S = 0.05  # how long to wait for an echo before it is sent again
_hosted: dict[tuple[str, str], HostedEngine] = {}  # in this process, by run and worker
_ended: deque[str] = deque(maxlen=1000)  # ended runs, whose tasks may still arrive


class WorkerSpec(NamedTuple):
    """What a worker runs. With `remembers` the worker uses a store itself."""

    run: str
    module: Module
    options: Options
    remembers: bool = False

    @classmethod
    def of(cls, module: Module, options: Options, *, remembers: bool = False) -> WorkerSpec:
        """The spec of a new run, with the options for a worker; only the run itself displays."""
        store = options.store  # a relative path means this process's directory, not the worker's
        if isinstance(store, str | Path):
            store = Path(store).expanduser().absolute()
        worker_options = replace(
            options,
            executor=None,
            result="pandas",
            progress="none",
            truth=None,
            columns=None,
            store=store,
        )
        return cls(uuid.uuid4().hex[:12], module, worker_options, remembers)


def topic_of(run: str, worker: str) -> str:
    """The topic on which a worker receives its commands."""
    return f"pardspy-{run}-{worker}"


class HostedEngine:
    """A worker engine in a thread of a Dask worker process."""

    def __init__(self, spec: WorkerSpec, worker: Any) -> None:
        self._worker, self._name = worker, worker.address
        self._up = f"pardspy-{spec.run}"
        self._cache = self._remembering(spec)
        self._clock = SystemClock()
        self._loop = self._clock.new_event_loop()
        adopt(self._loop)
        self.engine = WorkerEngine(
            spec.module, spec.options, self._send, clock=self._clock, cache=self._cache
        )
        self.over = threading.Event()
        self.is_unwanted = False  # whether the run is over
        self._echoed = threading.Event()

    @staticmethod
    def _remembering(spec: WorkerSpec) -> AnswerCache | None:
        if not spec.remembers:
            return None
        sources = Sources(spec.module, spec.options.cache_key)
        return open_cache(spec.options, spec.module, sources, total=None)

    def listen(self, client: Any, topic: str) -> bool:
        """Receive commands from now on. Returns whether the subscription works.

        Dask does not report when a subscription takes effect. So this method sends itself an echo
        until the echo arrives.
        """
        client.subscribe_topic(topic, self._on_command)
        until = time.monotonic() + CONNECT_S
        while not self._echoed.wait(_ECHO_S):
            if self.is_unwanted or time.monotonic() > until:
                return False
            client.log_event(topic, b"")
        return True

    def start(self) -> None:
        """Start the worker engine's thread. `over` is set at the end."""
        context = contextvars.copy_context()
        threading.Thread(
            target=context.run, args=(self._thread,), name="pardspy-worker", daemon=True
        ).start()

    def soon(self, action: Callable[..., None], *args: Any) -> None:
        """Call `action` on the worker engine's thread."""
        with contextlib.suppress(RuntimeError):  # the loop is closed: the run is over
            self._loop.call_soon_threadsafe(action, *args)

    def run_to_end(self, rows: Iterable[Row], keep: Callable[[RowFinished], None]) -> None:
        """Run rows, and wait until `keep` was called with the end of each.

        Raises:
            PartitionError: the worker engine ended before all rows did.
        """
        rows = list(rows)
        open_ = {row.number for row in rows}
        settled = threading.Event()

        def entered(event: RowFinished) -> None:
            keep(event)
            open_.discard(event.row.number)
            if not open_:
                settled.set()

        self.soon(self.engine.add, rows, entered)
        while open_ and not settled.wait(1.0):
            if self.over.is_set():
                raise PartitionError("crashed", "the worker broke down")

    def _thread(self) -> None:
        try:
            self._loop.run_until_complete(self.engine.run())
        finally:
            if self._cache is not None:
                self._cache.close()
            self.over.set()
            self._loop.close()

    def _on_command(self, event: Any) -> None:
        _, dumped = event
        self._echoed.set()
        if dumped:
            self.soon(self.engine.obey, loads(dumped))

    def _send(self, report: Report) -> None:
        self._worker.log_event(self._up, (self._name, report_as_bytes(report)))


def end(run: str) -> None:
    """End a run's worker engines in this process. Engines that start late end at once."""
    _ended.append(run)
    for (of, _), hosted in list(_hosted.items()):
        if of == run:
            hosted.is_unwanted = True
            hosted.soon(hosted.engine.obey, Command(0, stop="now"))


def host(spec_bytes: bytes) -> None:
    """The task that hosts a worker engine. It lasts as long as the engine, and takes no thread from
    other tasks."""
    from distributed import get_worker, secede

    spec: WorkerSpec = loads(spec_bytes)
    worker = get_worker()
    hosted = HostedEngine(spec, worker)
    key, topic = (spec.run, worker.address), topic_of(spec.run, worker.address)
    _hosted[key] = hosted
    hosted.is_unwanted = spec.run in _ended
    try:
        client = _connected_client()
        secede()
        try:
            if hosted.listen(client, topic):
                hosted.start()
                hosted.over.wait()
        finally:
            client.unsubscribe_topic(topic)
    finally:
        del _hosted[key]


def _connected_client() -> Any:
    """The client of this Dask worker. It may fail to connect while other workers die: Distributed
    then meets a message that it does not expect."""
    from distributed import get_client

    for pause_s in (0.1, 0.3, 1.0, None):
        try:
            return get_client()
        except (AssertionError, OSError):
            if pause_s is None:
                raise
            time.sleep(pause_s)
    raise AssertionError


def hosted_here(run: str) -> HostedEngine:
    """The worker engine of a run in this Dask worker.

    Raises:
        PartitionError: the engine has ended.
    """
    from distributed import get_worker

    try:
        return _hosted[run, get_worker().address]
    except KeyError:
        raise PartitionError(
            "cluster",
            "this partition was lost with its worker after the run was over; run it again: "
            "rows that are remembered (store=) are not asked again",
        ) from None


def bring_rows(run: str, rows_bytes: bytes) -> None:
    """The task that brings rows to the worker engine in a Dask worker."""
    from distributed import get_worker

    rows = loads(rows_bytes)
    hosted = _hosted.get((run, get_worker().address))
    if hosted is not None:  # else it has ended, as its last report says
        hosted.soon(hosted.engine.add, rows)
