"""A Dask cluster as a fleet's sites: one in each worker process. The only importer of distributed.

Rows reach a worker as tasks, orders and reports go by the scheduler's topics: no connection but
Dask's own is needed. A run has a client of its own, so what the user's does is left alone.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import threading
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

from ..clock import SystemClock
from ..events import Row, RowFinished
from ..memory import Memory, open_memory
from ..modules import Module
from ..options import Options
from ..portal import adopt
from ..provenance import Sources
from .fleet import ClusterError, Fleet
from .site import Site
from .sources import Parcel
from .wire import (
    Orders,
    PartError,
    Report,
    dumps,
    loads,
    report_as_bytes,
    report_from_bytes,
)

_CONNECT_S = 30
_ECHO_S = 0.05  # until a site that hears nothing of itself speaks again
_FAREWELL_S = 5.0  # what a run's end lets its sites finish
_MOST_KEPT = 2**24  # bytes of reports that the scheduler remembers
_FIRST = 10  # before the user's own tasks
_MOMENT_S, _LOOKS = 0.5, 25
_CLUSTER = "all"  # Dask's own topic, of workers that come and go
_sites: dict[tuple[str, str], _Hosted] = {}  # of this process, by run and worker
_ended: deque[str] = deque(maxlen=1000)  # runs, whose tasks may come late


class Spec(NamedTuple):
    """What a site is to run. With `remembers` it has a store of its own."""

    run: str
    module: Module
    options: Options
    remembers: bool = False

    @classmethod
    def of(cls, module: Module, options: Options, *, remembers: bool = False) -> Spec:
        """A new run's: of the options what is a site's business. Displays are the run's."""
        store = options.store  # a relative path is of the directory here
        if isinstance(store, str | Path):
            store = Path(store).expanduser().absolute()
        here = replace(options, executor=None, result="pandas", progress="none", truth=None,
                       columns=None, store=store)  # fmt: skip
        return cls(uuid.uuid4().hex[:12], module, here, remembers)


class DaskLink:
    """See `fleet.Link`.

    Args:
        given: the user's client.
        spec: what sites run.
        ship: brings a part of a table to a site, as a task that lasts until it is done with.
    """

    def __init__(
        self, given: Any, spec: Spec, ship: Callable[[str, str, Parcel], Any] | None = None
    ) -> None:
        self._given, self._run, self._ship = given, spec.run, ship
        try:
            self._spec = dumps(spec)
        except Exception as error:  # of any kind: __reduce__ is the user's
            raise TypeError(
                f"{spec.module.name} cannot be sent to the workers: {type(error).__name__}: "
                f"{error}; make what it holds inside the function, or at its first call"
            ) from error
        self._client: Any = None
        self._fleet: Fleet | None = None
        self._futures: dict[str, dict[int, Any]] = {}  # parcels on their way, by site
        self._sites: dict[str, Any] = {}  # the tasks that hold sites
        self._letters: deque[tuple[str, bytes]] = deque()
        self._sending, self._joined, self._received = False, 0, 0
        self._lock = threading.Lock()
        self._up, self._closed, self._is_lost = f"pardspy-{self._run}", False, False

    async def connect(self) -> None:
        """Be connected to the scheduler."""
        await asyncio.to_thread(self._connect)

    def _connect(self) -> None:
        from distributed import Client

        client = Client(
            self._given.scheduler.address, security=self._given.security, timeout=_CONNECT_S,
            set_as_default=False, name=self._up,
        )  # fmt: skip
        with self._lock:
            is_late = self._closed
            self._client = None if is_late else client
        if is_late:  # the run was cancelled in the meantime
            client.close(timeout=_FAREWELL_S)

    def open(self, fleet: Fleet) -> None:
        """See `fleet.Link`."""
        self._fleet, self._loop = fleet, asyncio.get_running_loop()
        self._client.subscribe_topic(self._up, self._on_report)
        self._client.subscribe_topic(_CLUSTER, self._on_change)
        for worker in self._client.scheduler_info(n_workers=-1)["workers"]:
            self._join(worker)

    def _soon(self, action: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the run is over, and its loop closed
            self._loop.call_soon_threadsafe(action, *args)

    def _on_change(self, event: Any) -> None:
        _, told = event
        if told.get("action") == "add-worker":
            self._soon(self._join, told["worker"])
        elif told.get("action") == "remove-worker":
            self._soon(self._gone, told["worker"])

    def _on_report(self, event: Any) -> None:
        _, (site, dumped) = event
        self._received += len(dumped)
        if self._received > _MOST_KEPT:
            self._received = 0
            self._write("", b"")
        self._soon(self._hear, site, dumped)

    def _hear(self, site: str, dumped: bytes) -> None:
        if self._fleet is not None:
            self._fleet.heard(site, report_from_bytes(dumped))

    def _join(self, worker: str) -> None:
        wanted = worker not in self._sites and not self._closed and self._fleet is not None
        if not (wanted and self._fleet and self._fleet.joined(worker)):
            return
        self._futures[worker] = {}
        self._joined += 1
        future = self._client.submit(
            host, self._spec, workers=[worker], pure=False, allow_other_workers=False, retries=0,
            key=f"pardspy-site-{self._run}-{self._joined}",
        )  # fmt: skip
        self._sites[worker] = future
        future.add_done_callback(lambda done: self._soon(self._site_ended, worker, done))

    def _site_ended(self, worker: str, future: Any) -> None:
        known = self._sites.get(worker)
        if self._fleet is None or self._closed or known is None or known is not future:
            return
        if future.status == "error":
            self._fleet.left(worker, future.exception())
        elif future.status == "finished":  # it heard nothing for too long; its worker is there
            self._gone(worker, died=False)
            self._join(worker)

    def _gone(self, worker: str, *, died: bool = True) -> None:
        self._sites.pop(worker, None)
        for future in self._futures.pop(worker, {}).values():
            future.cancel()
        if self._fleet is not None:
            self._fleet.left(worker, died=died)

    def send(self, site: str, parcel: Parcel) -> None:
        """See `fleet.Link`."""
        if self._ship is not None:
            future = self._ship(self._run, site, parcel)
        else:
            future = self._bring(site, parcel)
        self._futures[site][parcel.number] = future
        future.add_done_callback(lambda done: self._soon(self._arrived, site, parcel, done))

    def _bring(self, site: str, parcel: Parcel) -> Any:
        rows = dumps([flight.row for flight in parcel.flights.values()])
        return self._client.submit(
            bring_rows, self._run, rows, workers=[site], pure=False, allow_other_workers=False,
            retries=0, priority=_FIRST, key=f"pardspy-rows-{self._run}-{parcel.number}",
        )  # fmt: skip

    def _arrived(self, site: str, parcel: Parcel, future: Any) -> None:
        if self._fleet is None or self._futures.get(site, {}).pop(parcel.number, None) is None:
            return
        error = future.exception() if future.status == "error" else None
        if parcel.is_told and future.status == "finished" and "PartError" in str(future.type):
            error = future.result()
        if parcel.is_told:
            if error is not None and not isinstance(error, PartError):  # whatever the table is of
                error = PartError("source", f"partition {parcel.number}: "
                                            f"{type(error).__name__}: {error}")  # fmt: skip
            self._fleet.delivered(site, parcel.number, error)
        elif error is not None:
            self._fleet.returned(site, parcel, error)

    def tell(self, site: str, orders: Orders) -> None:
        """See `fleet.Link`."""
        if self._client.status == "closed":
            if self._fleet is not None and not self._is_lost:
                self._is_lost = True
                gone = ClusterError("the cluster's scheduler is gone")
                self._loop.call_soon(partial(self._fleet.stop, "cluster", gone, now=True))
            return
        self._write(_down(self._run, site), dumps(orders))

    def _write(self, topic: str, letter: bytes) -> None:
        with self._lock:
            self._letters.append((topic, letter))
            if self._sending:
                return
            self._sending = True
        asyncio.run_coroutine_threadsafe(self._post(), self._client.loop.asyncio_loop)

    async def _post(self) -> None:
        """Send letters one after the other, so that they arrive in order."""
        while True:
            with self._lock:
                if not self._letters:
                    self._sending = False
                    return
                topic, letter = self._letters.popleft()
            with contextlib.suppress(Exception):  # the scheduler is gone, and with it all sites
                if topic:
                    await self._client.scheduler.log_event(topic=topic, msg=letter)
                else:
                    await self._client._run_on_scheduler(_trim, self._run)

    async def close(self) -> None:
        """Let go of all sites. What takes longer than a moment goes on behind the scenes."""
        with self._lock:
            self._closed = True
        if self._client is None:
            return
        leaving = threading.Thread(target=self._leave, name="pardspy-farewell", daemon=True)
        leaving.start()
        for _ in range(_LOOKS):
            if not leaving.is_alive():
                return
            await asyncio.sleep(_MOMENT_S / _LOOKS)

    def _leave(self) -> None:
        from distributed import wait

        tasks = [f for here in self._futures.values() for f in list(here.values())]
        with contextlib.suppress(Exception), self._client.as_current():  # what is left of a cluster
            self._client.unsubscribe_topic(_CLUSTER)
            self._client.run(_end, self._run, on_error="ignore")
            wait([*self._sites.values(), *tasks], timeout=_FAREWELL_S)
        with contextlib.suppress(Exception):
            self._client.run_on_scheduler(_forget, self._run)
        with contextlib.suppress(Exception):
            self._client.close(timeout=_FAREWELL_S)


def _down(run: str, site: str) -> str:
    return f"pardspy-{run}-{site}"


def _trim(run: str, dask_scheduler: Any = None) -> None:
    """The scheduler keeps each topic's latest thousand messages: let go of those of a run."""
    for name, topic in list(dask_scheduler._broker._topics.items()):
        if name.startswith(f"pardspy-{run}"):
            topic.truncate()


def _forget(run: str, dask_scheduler: Any = None) -> None:
    """Leave no topic of a run behind, nor those that Dask keeps of clients of earlier ones."""
    for name in list(dask_scheduler._broker._topics):
        ended = name.startswith("Client-pardspy-") and name not in dask_scheduler.clients
        if ended or name.startswith(f"pardspy-{run}"):
            del dask_scheduler._broker._topics[name]


# -- on a worker ----------------------------------------------------------------------------------


class _Hosted:
    """A site in a thread of a worker process."""

    def __init__(self, spec: Spec, worker: Any) -> None:
        self._worker, self._name = worker, worker.address
        self._up = f"pardspy-{spec.run}"
        self._memory = self._remembering(spec)
        self._clock = SystemClock()
        self._loop = self._clock.new_event_loop()
        adopt(self._loop)
        self.site = Site(spec.module, spec.options, self._send, clock=self._clock,
                         memory=self._memory)  # fmt: skip
        self.over = threading.Event()
        self.is_unwanted = False  # the run is over
        self._echoed = threading.Event()

    @staticmethod
    def _remembering(spec: Spec) -> Memory | None:
        if not spec.remembers:
            return None
        sources = Sources(spec.module, spec.options.cache_key)
        return open_memory(spec.options, spec.module, sources, total=None)

    def listen(self, client: Any, topic: str) -> bool:
        """Hear orders from now on. Dask does not say when a subscription holds, an echo does;
        whether it came."""
        client.subscribe_topic(topic, self._on_orders)
        until = time.monotonic() + _CONNECT_S
        while not self._echoed.wait(_ECHO_S):
            if self.is_unwanted or time.monotonic() > until:
                return False
            client.log_event(topic, b"")
        return True

    def start(self) -> None:
        """Begin; `over` is set at the end."""
        context = contextvars.copy_context()
        threading.Thread(target=context.run, args=(self._thread,), name="pardspy-site",
                         daemon=True).start()  # fmt: skip

    def soon(self, action: Callable[..., None], *args: Any) -> None:
        """Have something done on the site's thread."""
        with contextlib.suppress(RuntimeError):  # it is over
            self._loop.call_soon_threadsafe(action, *args, context=self.site.context)

    def run_to_end(self, rows: Iterable[Row], keep: Callable[[RowFinished], None]) -> None:
        """Have rows run, and wait until `keep` had all of them."""
        rows = list(rows)
        open_ = {row.number for row in rows}
        settled = threading.Event()

        def entered(event: RowFinished) -> None:
            keep(event)
            open_.discard(event.row.number)
            if not open_:
                settled.set()

        self.soon(self.site.add, rows, entered)
        while open_ and not settled.wait(1.0):
            if self.over.is_set():
                raise PartError("crashed", "the site broke down")

    def _thread(self) -> None:
        try:
            self._loop.run_until_complete(self.site.run())
        finally:
            if self._memory is not None:
                self._memory.close()
            self.over.set()
            self._loop.close()

    def _on_orders(self, event: Any) -> None:
        _, dumped = event
        self._echoed.set()
        if dumped:
            self.soon(self.site.order, loads(dumped))

    def _send(self, report: Report) -> None:
        self._worker.log_event(self._up, (self._name, report_as_bytes(report)))


def _end(run: str) -> None:
    """End a run's sites in this process, whatever they were told, and have none that are late."""
    _ended.append(run)
    for (of, _), hosted in list(_sites.items()):
        if of == run:
            hosted.is_unwanted = True
            hosted.soon(hosted.site.order, Orders(0, stop="now"))


def host(spec_bytes: bytes) -> None:
    """The task that holds a site: it lasts as long, and takes no thread from others."""
    from distributed import get_client, get_worker, secede

    spec: Spec = loads(spec_bytes)
    worker = get_worker()
    hosted = _Hosted(spec, worker)
    key, topic = (spec.run, worker.address), _down(spec.run, worker.address)
    _sites[key] = hosted
    hosted.is_unwanted = spec.run in _ended
    client = get_client()
    secede()
    try:
        if hosted.listen(client, topic):
            hosted.start()
            hosted.over.wait()
    finally:
        del _sites[key]
        client.unsubscribe_topic(topic)


def hosted_here(run: str) -> _Hosted:
    """The worker's site of a run. PartError if it is over."""
    from distributed import get_worker

    try:
        return _sites[run, get_worker().address]
    except KeyError:
        raise PartError(
            "cluster", "this part was lost with its worker after the run was over; run it again: "
            "what is remembered (store=) is not asked again"
        ) from None  # fmt: skip


def bring_rows(run: str, rows_bytes: bytes) -> None:
    """The task that brings rows to a worker's site."""
    from distributed import get_worker

    rows = loads(rows_bytes)
    hosted = _sites.get((run, get_worker().address))
    if hosted is not None:  # else the site has ended, which the run is told by itself
        hosted.soon(hosted.site.add, rows)
