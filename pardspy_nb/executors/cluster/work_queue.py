"""The queues from which a coordinator sends work: rows, or partitions that workers load."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Protocol

from ...core.events import Answer, Row, Status
from ...engine.deduplication import Deduplicator, Settle
from ...engine.protocols import Cache
from ...engine.row_queue import RowQueue
from ...engine.row_task import RowTask

# rows that may be settled without an attempt before the loop gets time for other work
_MAX_SETTLED_A_TURN = 100


class WorkItem:
    """Rows that go to a worker together.

    Attributes:
        number: the number of the item; for a partition, the number of the partition.
        row_tasks: the rows, by number.
        part: the position of the first row, if the item is a partition that the worker loads
            itself; None if the rows hold their inputs. A partition is acknowledged as a whole,
            beside the events of its rows; an unacknowledged partition is sent again.
    """

    __slots__ = ("number", "part", "row_tasks")

    def __init__(self, number: int, row_tasks: dict[int, RowTask], part: int | None = None) -> None:
        self.number, self.row_tasks, self.part = number, row_tasks, part

    @property
    def is_acknowledged(self) -> bool:
        """Whether the end of the item is reported beside the ends of its rows."""
        return self.part is not None


class WorkQueue(Protocol):
    """The work that is still to be sent.

    Attributes:
        is_empty: whether no work is left, unless a work item or a row is given back.
        left: how many rows are still to be sent, None if unknown.
        is_by_row: whether a row may be sent alone.
    """

    is_by_row: bool

    @property
    def is_empty(self) -> bool: ...

    @property
    def left(self) -> int | None: ...

    def open(
        self,
        loop: asyncio.AbstractEventLoop,
        wake: Callable[[], None],
        broke: Callable[[BaseException, str], None],
        settle: Settle,
        fail: Callable[[RowTask], None],
    ) -> None:
        """Begin. The queue calls `wake` when more work may be there, `broke` with an error and the
        run's reason to end, and `settle` or `fail` for rows that need no worker."""

    def take(self, room: int) -> WorkItem | None:
        """The next work item for a worker with room for so many rows; None if there is none now."""

    def give_back(self, items: Iterable[WorkItem], row_tasks: Iterable[RowTask]) -> None:
        """Send these work items and rows once more, to another worker. Settled rows are not asked
        again, except as rows of a partition that is sent again."""

    async def keep(self, row_task: RowTask, answer: Answer) -> None:
        """Put an answer into the cache; the row is settled once this method returns."""

    def settled(
        self, row_task: RowTask, status: Status, answer: Answer | None, ending: bool
    ) -> None:
        """A row is settled. `ending` says whether the run is ending."""

    def release(self, number: int) -> None:
        """Allow later rows to be pulled: all rows below this number are finished."""

    def close(self) -> list[RowTask]:
        """Send no more work. Returns the rows that were pulled but not sent."""


class RowWorkQueue:
    """A queue of rows that are in this process.

    Args:
        rows, blocking, cache, most_ahead: as for `Engine`.
        total: the number of rows, None if unknown.
    """

    is_by_row = True

    def __init__(
        self,
        rows: Iterator[Row],
        *,
        blocking: bool,
        total: int | None,
        cache: Cache | None = None,
        most_ahead: int | None = None,
    ) -> None:
        self._rows, self._blocking, self._total = rows, blocking, total
        self._cache, self._most_ahead, self._released = cache, most_ahead, 0
        self._queue: RowQueue | None = None
        self._deduplicator: Deduplicator | None = None
        self._n_items = self._pulled = 0
        self._returned: set[int] = set()  # numbers of rows that are pulled again

    def open(
        self,
        loop: asyncio.AbstractEventLoop,
        wake: Callable[[], None],
        broke: Callable[[BaseException, str], None],
        settle: Settle,
        fail: Callable[[RowTask], None],
    ) -> None:
        """See `WorkQueue`."""
        self._loop, self._wake, self._broke, self._settle = loop, wake, broke, settle
        self._queue = RowQueue(
            self._rows,
            loop,
            lanes=None,
            blocking=self._blocking,
            wake=wake,
            broke=lambda error: broke(error, "source"),
        )
        if self._cache is not None:
            self._deduplicator = Deduplicator(self._cache, settle, fail)

    @property
    def is_empty(self) -> bool:
        """See `WorkQueue`."""
        if self._queue is None:
            return False
        return not len(self._queue) and (self._queue.is_empty or self._pulled == self._total)

    @property
    def left(self) -> int | None:
        """See `WorkQueue`."""
        held = 0 if self._queue is None else len(self._queue)
        return None if self._total is None else self._total - self._pulled + held

    def take(self, room: int) -> WorkItem | None:
        """See `WorkQueue`."""
        row_tasks: dict[int, RowTask] = {}
        for _ in range(room + _MAX_SETTLED_A_TURN):
            row_task = self._next() if len(row_tasks) < room else None
            if row_task is None:
                break
            if not self._needs_no_attempt(row_task):
                row_tasks[row_task.row.number] = row_task
        else:
            self._loop.call_soon(self._wake)
        self._n_items += 1
        return WorkItem(self._n_items, row_tasks) if row_tasks else None

    def _next(self) -> RowTask | None:
        assert self._queue is not None
        ahead, full = (
            self._most_ahead,
            self._deduplicator is not None and self._deduplicator.is_full,
        )
        may_pull = not full and (ahead is None or self._pulled < self._released + ahead)
        row_task = self._queue.take(fresh=may_pull)
        if row_task is not None and row_task.row.number not in self._returned:
            self._pulled += 1
        return row_task

    def _needs_no_attempt(self, row_task: RowTask) -> bool:
        if row_task.settled:
            return True
        if row_task.row.is_blank:
            self._settle(row_task, "skipped", None)
            return True
        try:
            return self._deduplicator is not None and self._deduplicator.needs_no_attempt(row_task)
        except Exception as error:
            self._broke(error, "store")
            self._settle(row_task, "not_run", None)
            return True

    def give_back(self, items: Iterable[WorkItem], row_tasks: Iterable[RowTask]) -> None:
        """See `WorkQueue`."""
        if self._queue is not None:
            for row_task in reversed(list(row_tasks)):
                if not row_task.settled:
                    self._returned.add(row_task.row.number)
                    self._queue.give_back(row_task)

    async def keep(self, row_task: RowTask, answer: Answer) -> None:
        """See `WorkQueue`."""
        if self._deduplicator is not None:
            await self._deduplicator.keep(row_task, answer)

    def settled(
        self, row_task: RowTask, status: Status, answer: Answer | None, ending: bool
    ) -> None:
        """See `WorkQueue`."""
        if self._deduplicator is not None:
            self._deduplicator.share(row_task, status, answer, ending)

    def release(self, number: int) -> None:
        """See `WorkQueue`."""
        self._released = number

    def close(self) -> list[RowTask]:
        """See `WorkQueue`."""
        held = [] if self._queue is None else self._queue.close()
        followers = [] if self._deduplicator is None else self._deduplicator.followers()
        return [r for r in (*held, *followers) if not r.settled]


class PartitionWorkQueue:
    """A queue of partitions that workers load. This process knows only the numbers of the rows.

    Args:
        lengths: the number of rows of each partition, in order.
        repeat: the number of samples of each row.
    """

    is_by_row = False

    def __init__(self, lengths: Sequence[int], repeat: int) -> None:
        firsts = accumulate(lengths, initial=0)
        self._waiting: deque[WorkItem | tuple[int, int, int]] = deque(
            (number, first, rows)
            for number, (first, rows) in enumerate(zip(firsts, lengths, strict=False))
            if rows
        )
        self._repeat = repeat

    def open(
        self,
        loop: asyncio.AbstractEventLoop,
        wake: Callable[[], None],
        broke: Callable[[BaseException, str], None],
        settle: Settle,
        fail: Callable[[RowTask], None],
    ) -> None:
        """See `WorkQueue`."""

    @property
    def is_empty(self) -> bool:
        """See `WorkQueue`."""
        return not self._waiting

    @property
    def left(self) -> int | None:
        """See `WorkQueue`."""
        return None  # partitions are sent whole

    def take(self, room: int) -> WorkItem | None:
        """See `WorkQueue`."""
        if not self._waiting:
            return None
        waiting = self._waiting.popleft()
        return waiting if isinstance(waiting, WorkItem) else self._partition_item(*waiting)

    def _partition_item(self, number: int, first: int, rows: int) -> WorkItem:
        row_tasks = {}
        for position in range(first, first + rows):
            for sample in range(self._repeat):
                row = Row(position * self._repeat + sample, position, sample, {})
                row_tasks[row.number] = RowTask(row)
        return WorkItem(number, row_tasks, part=first)

    def give_back(self, items: Iterable[WorkItem], row_tasks: Iterable[RowTask]) -> None:
        """See `WorkQueue`."""
        self._waiting.extendleft(items)

    async def keep(self, row_task: RowTask, answer: Answer) -> None:
        """See `WorkQueue`."""

    def settled(
        self, row_task: RowTask, status: Status, answer: Answer | None, ending: bool
    ) -> None:
        """See `WorkQueue`."""

    def release(self, number: int) -> None:
        """See `WorkQueue`."""

    def close(self) -> list[RowTask]:
        """See `WorkQueue`."""
        sent = [p for p in self._waiting if isinstance(p, WorkItem)]
        return [f for item in sent for f in item.row_tasks.values() if not f.settled]
