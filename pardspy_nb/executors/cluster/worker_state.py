"""A worker as the coordinator sees it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ...engine.row_task import RowTask
from .messages import AttemptRequest, Command
from .work_queue import WorkItem

RATE_S = 0.5  # over which rows a second are measured


class WorkerState:
    """A worker process, and the rows it has.

    Attributes:
        is_ready: it has reported; `offset_s` is when, since the run began.
        items: partitions there, by number, until they are acknowledged.
        open: rows there, by number.
        running: attempts under way, by the rows' numbers.
        spent: usage of failed attempts there, by the rows' numbers.
        failed: rows that failed there.
        admitted: attempts that were let in and are not over.
        deferred: requests beyond the worker's share, to be made again once it has room.
        last_command: the latest command sent.
        rate: rows settled a second, of late.
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
        """A work item is sent there."""
        self.open |= item.row_tasks
        if item.is_acknowledged:
            self.items[item.number] = item

    def spend(self, number: int, usage: Any) -> None:
        """A failed attempt at a row used this, None if nothing is known."""
        if usage is not None:
            before = self.spent.get(number)
            self.spent[number] = usage if before is None else before + usage

    def settle(self, number: int, now: float) -> int:
        """A row is settled there; how many attempts at it are taken to have been under way."""
        del self.open[number]
        self.spent.pop(number, None)
        self._count += 1
        if now - self._counted_at >= RATE_S:
            self.rate = self._count / (now - self._counted_at) if self._counted_at else 0.0
            self._count, self._counted_at = 0, now
        return self.running.pop(number, 0)
