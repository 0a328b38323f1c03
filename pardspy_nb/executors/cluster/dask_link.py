"""The link to the workers on a Dask cluster: one in each worker process (see `worker_tasks`).

Rows reach a worker as tasks. Commands and reports use the scheduler's topics, so no connection
except Dask's own is needed. A run has its own client, so the user's client is not disturbed.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import Any

from .link import ClusterError, LinkListener
from .messages import Command, PartitionError, dumps, report_from_bytes
from .work_queue import WorkItem
from .worker_tasks import CONNECT_S, WorkerSpec, bring_rows, end, host, topic_of

_FAREWELL_S = 5.0  # how long a client may take to close
_LEAVING_S = 60.0  # how long the thread that ends a run waits for the run's last tasks
_MOST_KEPT = 2**24  # bytes of reports that the scheduler may keep
_FIRST = 10  # the priority of row tasks: before the user's own tasks
_MOMENT_S, _LOOKS = 0.5, 25  # how long `close` waits, and how often it looks meanwhile
_CLUSTER = "all"  # Dask's own topic, which reports workers that join and leave


class DaskLink:
    """See `link.Link`.

    Args:
        given: the user's client.
        spec: what the workers run.
        ship: brings a partition to a worker, as a task that lasts until the partition is finished;
            None if work items hold the rows themselves.

    Raises:
        TypeError: the module cannot be sent to the workers.
    """

    def __init__(
        self, given: Any, spec: WorkerSpec, ship: Callable[[str, str, WorkItem], Any] | None = None
    ) -> None:
        self._given, self._run, self._ship = given, spec.run, ship
        try:
            self._spec = dumps(spec)
        except Exception as error:  # any error: __reduce__ is the user's code
            raise TypeError(
                f"{spec.module.name} cannot be sent to the workers: {type(error).__name__}: "
                f"{error}; create the objects it holds inside the function, or at its first call"
            ) from error
        self._client: Any = None
        self._listener: LinkListener | None = None
        self._futures: dict[str, dict[int, Any]] = {}  # tasks of the work items sent, by worker
        self._hosts: dict[str, Any] = {}  # the tasks that hold the workers' engines
        self._messages: deque[tuple[str, bytes]] = deque()
        self._sending, self._joined, self._received = False, 0, 0
        self._lock = threading.Lock()
        self._topic, self._closed, self._is_lost = f"pardspy-{self._run}", False, False

    async def connect(self) -> None:
        """Connect to the scheduler."""
        await asyncio.to_thread(self._connect)

    def _connect(self) -> None:
        from distributed import Client

        client = Client(
            self._given.scheduler.address,
            security=self._given.security,
            timeout=CONNECT_S,
            set_as_default=False,
            name=self._topic,
        )
        with self._lock:
            is_late = self._closed
            self._client = None if is_late else client
        if is_late:  # the run was cancelled in the meantime
            client.close(timeout=_FAREWELL_S)

    def open(self, listener: LinkListener) -> None:
        """See `link.Link`."""
        self._listener, self._loop = listener, asyncio.get_running_loop()
        self._client.subscribe_topic(self._topic, self._on_report)
        self._client.subscribe_topic(_CLUSTER, self._on_change)
        for worker in self._client.scheduler_info(n_workers=-1)["workers"]:
            self._join(worker)

    def _soon(self, action: Callable[..., None], *args: Any) -> None:
        with contextlib.suppress(RuntimeError):  # the run is over and its loop is closed
            self._loop.call_soon_threadsafe(action, *args)

    def _on_change(self, event: Any) -> None:
        _, change = event
        if change.get("action") == "add-worker":
            self._soon(self._join, change["worker"])
        elif change.get("action") == "remove-worker":
            self._soon(self._leave_out, change["worker"])

    def _on_report(self, event: Any) -> None:
        _, (worker, dumped) = event
        self._received += len(dumped)
        if self._received > _MOST_KEPT:
            self._received = 0
            self._write("", b"")
        self._soon(self._receive, worker, dumped)

    def _receive(self, worker: str, dumped: bytes) -> None:
        if self._listener is not None:
            self._listener.receive(worker, report_from_bytes(dumped))

    def _join(self, worker: str) -> None:
        wanted = worker not in self._hosts and not self._closed and self._listener is not None
        if not (wanted and self._listener and self._listener.worker_joined(worker)):
            return
        self._futures[worker] = {}
        self._joined += 1
        future = self._client.submit(
            host,
            self._spec,
            workers=[worker],
            pure=False,
            allow_other_workers=False,
            retries=0,
            key=f"pardspy-worker-{self._run}-{self._joined}",
        )
        self._hosts[worker] = future
        future.add_done_callback(lambda done: self._soon(self._host_ended, worker, done))

    def _host_ended(self, worker: str, future: Any) -> None:
        known = self._hosts.get(worker)
        if self._listener is None or self._closed or known is None or known is not future:
            return
        if future.status == "error":
            self._listener.worker_left(worker, future.exception())
        elif future.status == "finished":
            # no command came for too long, but the worker process still runs
            self._leave_out(worker, died=False)
            self._join(worker)

    def _leave_out(self, worker: str, *, died: bool = True) -> None:
        self._hosts.pop(worker, None)
        for future in self._futures.pop(worker, {}).values():
            future.cancel()
        if self._listener is not None:
            self._listener.worker_left(worker, died=died)

    def send(self, worker: str, item: WorkItem) -> None:
        """See `link.Link`."""
        if self._ship is not None:
            future = self._ship(self._run, worker, item)
        else:
            future = self._bring_rows(worker, item)
        self._futures[worker][item.number] = future
        future.add_done_callback(lambda done: self._soon(self._arrived, worker, item, done))

    def _bring_rows(self, worker: str, item: WorkItem) -> Any:
        rows = dumps([row_task.row for row_task in item.row_tasks.values()])
        return self._client.submit(
            bring_rows,
            self._run,
            rows,
            workers=[worker],
            pure=False,
            allow_other_workers=False,
            retries=0,
            priority=_FIRST,
            key=f"pardspy-rows-{self._run}-{item.number}",
        )

    def _arrived(self, worker: str, item: WorkItem, future: Any) -> None:
        is_expected = self._futures.get(worker, {}).pop(item.number, None) is not None
        if self._listener is None or not is_expected:
            return
        error = future.exception() if future.status == "error" else None
        if (
            item.is_acknowledged
            and future.status == "finished"
            and "PartitionError" in str(future.type)
        ):
            error = future.result()
        if item.is_acknowledged:
            # the table's own tasks may raise any error
            if error is not None and not isinstance(error, PartitionError):
                error = PartitionError(
                    "source", f"partition {item.number}: {type(error).__name__}: {error}"
                )
            self._listener.item_acknowledged(worker, item.number, error)
        elif error is not None:
            self._listener.item_unsendable(worker, item, error)

    def command(self, worker: str, command: Command) -> None:
        """See `link.Link`."""
        if self._client.status == "closed":
            if self._listener is not None and not self._is_lost:
                self._is_lost = True
                gone = ClusterError("the cluster's scheduler is gone")
                stop = self._listener.controls.stop
                self._loop.call_soon(partial(stop, "cluster", gone, now=True))
            return
        self._write(topic_of(self._run, worker), dumps(command))

    def _write(self, topic: str, message: bytes) -> None:
        with self._lock:
            self._messages.append((topic, message))
            if self._sending:
                return
            self._sending = True
        asyncio.run_coroutine_threadsafe(self._post(), self._client.loop.asyncio_loop)

    def _wait_until_sent(self) -> None:
        """Wait for the messages under way: one that arrives later would bring its topic back."""
        end = time.monotonic() + _FAREWELL_S
        while self._sending and time.monotonic() < end:
            time.sleep(_MOMENT_S / _LOOKS)

    async def _post(self) -> None:
        """Send messages one after the other, so that they arrive in order."""
        while True:
            with self._lock:
                if not self._messages:
                    self._sending = False
                    return
                topic, message = self._messages.popleft()
            with contextlib.suppress(Exception):  # the scheduler is gone, and all workers with it
                if topic:
                    await self._client.scheduler.log_event(topic=topic, msg=message)
                else:
                    await self._client._run_on_scheduler(_trim, self._run)

    async def close(self) -> None:
        """Release all workers. What takes longer than a moment goes on in a background thread."""
        with self._lock:
            self._closed = True
        if self._client is None:
            return
        leaving = threading.Thread(target=self._say_farewell, name="pardspy-farewell", daemon=True)
        leaving.start()
        for _ in range(_LOOKS):
            if not leaving.is_alive():
                return
            await asyncio.sleep(_MOMENT_S / _LOOKS)

    def _say_farewell(self) -> None:
        from distributed import wait

        tasks = [f for sent in self._futures.values() for f in list(sent.values())]
        with contextlib.suppress(Exception), self._client.as_current():  # the cluster may be gone
            self._client.unsubscribe_topic(_CLUSTER)
            self._client.run(end, self._run, on_error="ignore")
            wait([*self._hosts.values(), *tasks], timeout=_LEAVING_S)
            self._wait_until_sent()
        with contextlib.suppress(Exception):
            self._client.run_on_scheduler(_forget, self._run)
        with contextlib.suppress(Exception):
            self._client.close(timeout=_FAREWELL_S)


def _trim(run: str, dask_scheduler: Any = None) -> None:
    """Remove a run's messages: the scheduler keeps the latest thousand of each topic."""
    for name, topic in list(dask_scheduler._broker._topics.items()):
        if name.startswith(f"pardspy-{run}"):
            topic.truncate()


def _forget(run: str, dask_scheduler: Any = None) -> None:
    """Remove the topics of a run, and those that Dask keeps for the clients of earlier runs."""
    for name in list(dask_scheduler._broker._topics):
        ended = name.startswith("Client-pardspy-") and name not in dask_scheduler.clients
        if ended or name.startswith(f"pardspy-{run}"):
            del dask_scheduler._broker._topics[name]
