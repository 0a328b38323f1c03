"""The dispatcher decides which worker gets which rows, and when."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping

from .fair_share import FairShare
from .link import Link
from .quarantine import Quarantine
from .work_queue import WorkItem, WorkQueue
from .worker_state import RATE_S, WorkerState

_LEAST_AHEAD = 4  # the fewest rows that wait at a worker, beyond the rows in flight


class Dispatcher:
    """Sends the rows of a queue to workers while they have room.

    Args:
        source: the queue of rows.
        link: brings work items to a worker.
        workers: the workers, by name.
        shares: how many rows each worker may have in flight.
        quarantine: the rows that must be asked alone.
        unsendable: called with a worker, a work item and an error if the item cannot be sent.
    """

    def __init__(
        self,
        source: WorkQueue,
        link: Link,
        workers: Mapping[str, WorkerState],
        shares: FairShare,
        quarantine: Quarantine,
        unsendable: Callable[[str, WorkItem, BaseException], None],
    ) -> None:
        self._source, self._link, self._workers = source, link, workers
        self._shares, self._quarantine, self._unsendable = shares, quarantine, unsendable

    def by_load(self) -> Iterable[WorkerState]:
        """The workers, sorted: the worker with the fewest rows comes first."""
        return sorted(self._workers.values(), key=lambda worker: len(worker.open))

    def feed(self, worker: WorkerState) -> None:
        """Send rows to a worker if the worker has room."""
        room = self._room(worker)
        if room <= 0 or worker.name not in self._workers:
            return
        alone = None if worker.open else self._quarantine.take()
        item = alone or self._source.take(room)
        if item is not None:
            worker.add(item)
            try:
                self._link.send(worker.name, item)
            except Exception as error:  # inputs may be of the user's own classes
                self._unsendable(worker.name, item, error)

    def _room(self, worker: WorkerState) -> int:
        share, n_open = self._shares.of(worker.name), len(worker.open)
        if not worker.is_ready or share == 0 or self._quarantine.keeps_busy(worker):
            return 0
        ahead = max(_LEAST_AHEAD, share // 4, math.ceil(RATE_S * worker.rate))
        if n_open > share + ahead // 2:
            return 0
        room = share + ahead - n_open
        if (left := self._source.left) is None:
            return room
        # guided self-scheduling (Polychronopoulos and Kuck, 1987): smaller items towards the end
        fair = math.ceil(left / (2 * len(self._workers)))
        return min(room, max(share - n_open, fair))
