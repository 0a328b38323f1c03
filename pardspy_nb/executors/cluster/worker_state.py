"""A site as its fleet sees it."""

from __future__ import annotations

from collections import Counter
from typing import Any

from ...engine.row_task import RowTask
from .messages import AttemptRequest, Command
from .work_queue import WorkItem

RATE_S = 0.5  # over which rows a second are told


class WorkerState:
    """A site of a fleet, and what is there.

    Attributes:
        ready: it has reported; `offset_s` is when, since the run began.
        parcels: those that are told when they are done with, by number.
        open: rows there, by number.
        running: attempts under way, by the rows' numbers.
        spent: usage of failed attempts there, by the rows' numbers.
        failed: rows that failed there.
        inside: attempts that were let in; `later` are asked for again once fewer are.
        told: the latest orders.
        rate: rows settled a second, of late.
    """

    __slots__ = (
        "_count",
        "_counted_at",
        "failed",
        "inside",
        "later",
        "name",
        "offset_s",
        "open",
        "parcels",
        "rate",
        "ready",
        "running",
        "spent",
        "told",
    )

    def __init__(self, name: str) -> None:
        self.name, self.ready, self.offset_s = name, False, 0.0
        self.parcels: dict[int, WorkItem] = {}
        self.open: dict[int, RowTask] = {}
        self.running: Counter[int] = Counter()
        self.spent: dict[int, Any] = {}
        self.failed = self.inside = 0
        self.later: list[AttemptRequest] = []
        self.told: Command | None = None
        self._count, self._counted_at, self.rate = 0, 0.0, 0.0

    def send(self, parcel: WorkItem) -> None:
        """A parcel goes there."""
        self.open |= parcel.row_tasks
        if parcel.is_told:
            self.parcels[parcel.number] = parcel

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
