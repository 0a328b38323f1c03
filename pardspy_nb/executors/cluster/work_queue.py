"""What a coordinator sends out: rows, or whole partitions that are not in this process."""

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

_SPARED_A_TURN = 100  # rows settled without an attempt before the loop may see to something else


class WorkItem:
    """Rows that go to a worker together.

    Attributes:
        row_tasks: the rows, by number.
        part: the position of the first row, if they are a part of a table that the worker gets
            itself; None where the rows hold their inputs. Of a part it is told when it is done
            with, beside what became of its rows; otherwise it is sent again.
    """

    __slots__ = ("number", "part", "row_tasks")

    def __init__(self, number: int, row_tasks: dict[int, RowTask], part: int | None = None) -> None:
        self.number, self.row_tasks, self.part = number, row_tasks, part

    @property
    def is_acknowledged(self) -> bool:
        """Whether its end is told beside those of its rows."""
        return self.part is not None


class WorkQueue(Protocol):
    """What there is to send.

    Attributes:
        is_empty: nothing will come any more, unless something is given back.
        left: how many rows are still to be sent, None where that is not known.
        is_by_row: rows may be sent singly.
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
    ) -> None:
        """Begin. `wake` is to be called when there may be more, `broke` with an error and the
        reason it is for the run to end, `settle` for rows that need no worker."""

    def take(self, room: int) -> WorkItem | None:
        """What is sent to a worker with room for so many rows; None if there is nothing now."""

    def give_back(self, items: Iterable[WorkItem], row_tasks: Iterable[RowTask]) -> None:
        """Send these once more, to another worker; rows that are settled are not asked again,
        unless they come with their part."""

    async def keep(self, row_task: RowTask, answer: Answer) -> None:
        """Remember an answer; the row is settled once this returns."""

    def settled(
        self, row_task: RowTask, status: Status, answer: Answer | None, ending: bool
    ) -> None:
        """A row is settled; `ending` if the run is."""

    def release(self, number: int) -> None:
        """See `protocols.Controllable`."""

    def close(self) -> list[RowTask]:
        """Send nothing more; the rows pulled and not sent."""


class RowWorkQueue:
    """Rows that are at hand here.

    Args:
        rows, blocking, cache, most_ahead: as for `Engine`.
        total: how many there are, None if that is not known.
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
            self._deduplicator = Deduplicator(self._cache, settle)

    @property
    def is_empty(self) -> bool:
        """See `WorkQueue`."""
        if self._queue is None:
            return False
        return not len(self._queue) and (self._queue.is_empty or self._pulled == self._total)

    @property
    def left(self) -> int | None:
        """See `WorkQueue`."""
        here = 0 if self._queue is None else len(self._queue)
        return None if self._total is None else self._total - self._pulled + here

    def take(self, room: int) -> WorkItem | None:
        """See `WorkQueue`."""
        row_tasks: dict[int, RowTask] = {}
        for _ in range(room + _SPARED_A_TURN):
            row_task = self._next() if len(row_tasks) < room else None
            if row_task is None:
                break
            if not self._is_spared(row_task):
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

    def _is_spared(self, row_task: RowTask) -> bool:
        if row_task.settled:
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
        led = [] if self._deduplicator is None else self._deduplicator.followers()
        return [f for f in (*held, *led) if not f.settled]


class PartitionWorkQueue:
    """Parts of a table that workers get themselves: here only their rows' numbers are known.

    Args:
        lengths: rows of each part, in order.
        repeat: samples of each row.
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
    ) -> None:
        """See `WorkQueue`."""

    @property
    def is_empty(self) -> bool:
        """See `WorkQueue`."""
        return not self._waiting

    @property
    def left(self) -> int | None:
        """See `WorkQueue`."""
        return None  # parts are sent whole

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
