"""The coordinator's record of a worker."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ...engine.row_task import RowTask
from .messages import AttemptRequest, Command
from .work_queue import WorkItem

RATE_S = 0.5  # seconds over which the rate of rows is measured


class WorkerState:
    """A worker process, and the rows at this worker.

    Attributes:
        is_ready: whether the worker has sent its first report.
        offset_s: the time of the first report, in seconds since the run began.
        items: partitions at the worker, by number, until they are acknowledged.
        open: rows at the worker, by number.
        running: attempts under way, by row number.
        spent: usage of the failed attempts of open rows, by row number.
        failed: rows that failed at the worker.
        admitted: attempts that were let in and are not over.
        deferred: requests beyond the worker's share, made again once the worker has room.
        last_command: the latest command sent.
        rate: rows settled a second, measured lately.
    """

    __slots__ = (
        "_count",
        "_counted_at",
        "admitted",
        "deferred",
        "failed",
        "is_ready",
        "items",
        "last_command",
        "name",
        "offset_s",
        "open",
        "rate",
        "running",
        "spent",
    )

    def __init__(self, name: str) -> None:
        self.name, self.is_ready, self.offset_s = name, False, 0.0
        self.items: dict[int, WorkItem] = {}
        self.open: dict[int, RowTask] = {}
        self.running: Counter[int] = Counter()
        self.spent: dict[int, Any] = {}
        self.failed = self.admitted = 0
        self.deferred: list[AttemptRequest] = []
        self.last_command: Command | None = None
        self._count, self._counted_at, self.rate = 0, 0.0, 0.0

    def add(self, item: WorkItem) -> None:
        """A work item is sent to the worker."""
        self.open |= item.row_tasks
        if item.is_acknowledged:
            self.items[item.number] = item

    def spend(self, number: int, usage: Any) -> None:
        """Add the usage of a failed attempt at a row; None if the usage is unknown."""
        if usage is not None:
            before = self.spent.get(number)
            self.spent[number] = usage if before is None else before + usage

    def settle(self, number: int, now: float) -> int:
        """A row is settled at the worker. Returns how many attempts at it counted as under way."""
        del self.open[number]
        self.spent.pop(number, None)
        self._count += 1
        if now - self._counted_at >= RATE_S:
            self.rate = self._count / (now - self._counted_at) if self._counted_at else 0.0
            self._count, self._counted_at = 0, now
        return self.running.pop(number, 0)
