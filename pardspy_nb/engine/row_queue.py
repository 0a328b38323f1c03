"""The queue decides which row starts next: due retries first, then new rows from the source.

The memory of the queue does not grow with the number of finished rows. A row that waits for its
next attempt is one entry in a heap. A new row is pulled only when a worker is free for it.
"""

from __future__ import annotations

import asyncio
import heapq
from collections import deque
from collections.abc import Callable, Iterator
from typing import Any

from ..core.events import Row
from ..core.threads import DaemonPool
from .row_task import RowTask

_END = object()
NOT_YET: Any = object()  # a source gives this if it has no row now, but may have one later
_PARKED_PER_LANE = 4  # rows pulled ahead while their lane is busy


class RowQueue:
    """The rows that wait. Use it on the thread of `loop` only.

    Args:
        rows: the source, in order; it may give `NOT_YET` and have rows at the next `wake`.
        lanes: rows whose numbers are equal modulo `lanes` never run at the same time.
        blocking: whether rows are pulled in a thread, because the iterator may wait.
        wake: called when `take` may return a row again.
        broke: called with the error if the source raises one.
    """

    def __init__(
        self,
        rows: Iterator[Row],
        loop: asyncio.AbstractEventLoop,
        *,
        lanes: int | None,
        blocking: bool,
        wake: Callable[[], None],
        broke: Callable[[BaseException], None],
    ) -> None:
        self._rows, self._loop, self._wake, self._broke = rows, loop, wake, broke
        self._lanes, self._busy_lanes = lanes, set[int]()
        self._parked: deque[RowTask] = deque()  # pulled, but their lane is busy
        self._duplicates: deque[RowTask] = deque()  # under way, to be asked a second time
        self._due: list[tuple[float, int, RowTask]] = []  # heap of rows that wait for a retry
        self._buffer: deque[Row] = deque()  # rows a blocking source has delivered
        self._feeder = DaemonPool(loop) if blocking else None
        self._feed: asyncio.Task[None] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._exhausted = False

    @property
    def is_empty(self) -> bool:
        """Whether the queue holds no row, and the source has none left."""
        return self._exhausted and not (self._due or self._parked or self._buffer)

    @property
    def has_due(self) -> bool:
        """Whether a row's wait for its next attempt is over."""
        return bool(self._due) and self._due[0][0] <= self._loop.time()

    def __len__(self) -> int:
        """The number of rows that are pulled but not under way."""
        return len(self._due) + len(self._parked) + len(self._buffer)

    def take(self, *, fresh: bool = True) -> RowTask | None:
        """The next row that may start now, or None. Without `fresh`, no new row is pulled from the
        source. A returned row with attempts in flight is to be asked a second time."""
        while self._duplicates:
            row_task = self._duplicates.popleft()
            if row_task.may_be_duplicated:
                return row_task
        for index, parked in enumerate(self._parked):
            if self._lane(parked.row) not in self._busy_lanes:
                del self._parked[index]
                return self._occupy(parked)
        if self._due and self._due[0][0] <= self._loop.time():
            row_task = heapq.heappop(self._due)[2]
            if self._lanes and self._lane(row_task.row) in self._busy_lanes:
                self._parked.append(row_task)
                return self.take(fresh=fresh)
            return self._occupy(row_task)
        return self._new() if fresh else None

    def _new(self) -> RowTask | None:
        if not self._lanes:
            row = None if self._exhausted or self._parked else self._pull()
            return None if row is None else RowTask(row)
        most = _PARKED_PER_LANE * self._lanes
        while not self._exhausted and len(self._parked) < most:
            row = self._pull()
            if row is None:
                return None
            row_task = RowTask(row)
            if self._lane(row) not in self._busy_lanes:
                return self._occupy(row_task)
            self._parked.append(row_task)
        return None

    def retry(self, row_task: RowTask, at: float) -> None:
        """Let a row wait for its next attempt until `at`, on the loop's clock."""
        heapq.heappush(self._due, (at, row_task.row.number, row_task))
        self.arm()

    def duplicate(self, row_task: RowTask) -> None:
        """Let a row under way be asked a second time, before all other rows."""
        self._duplicates.append(row_task)

    def give_back(self, row_task: RowTask) -> None:
        """Take back a row that may not start yet; it becomes the next row."""
        self.leave(row_task)
        self._parked.appendleft(row_task)

    def leave(self, row_task: RowTask) -> None:
        """Free the lane of a row whose attempt is over."""
        if self._lanes:
            self._busy_lanes.discard(self._lane(row_task.row))

    def arm(self) -> None:
        """Set a timer for the earliest retry, unless the retry is due (a worker will take it)."""
        if self._timer:
            self._timer.cancel()
            self._timer = None
        if self._due and self._due[0][0] > self._loop.time():
            self._timer = self._loop.call_at(self._due[0][0], self._wake)

    def began_before(self, when: float) -> list[RowTask]:
        """Remove and return the rows that wait for a retry and first started before `when`."""
        late = [entry[2] for entry in self._due if entry[2].began <= when]
        if late:
            self._due = [entry for entry in self._due if entry[2].began > when]
            heapq.heapify(self._due)
        return late

    def close(self) -> list[RowTask]:
        """Pull no more rows. Returns the rows that the queue still holds."""
        if self._timer:
            self._timer.cancel()
        if self._feed:
            self._feed.cancel()  # a blocked source stays blocked in its thread
        if self._feeder:
            self._feeder.close()
        retries = [row_task for _, _, row_task in sorted(self._due)]
        return [*retries, *self._parked, *map(RowTask, self._buffer)]

    # -- lanes and source ---------------------------------------------------------------------

    def _lane(self, row: Row) -> int:
        return row.number % self._lanes if self._lanes else row.number

    def _occupy(self, row_task: RowTask) -> RowTask:
        if self._lanes:
            self._busy_lanes.add(self._lane(row_task.row))
        return row_task

    def _pull(self) -> Row | None:
        """The source's next row; None if the source has ended, has failed or has no row yet."""
        if self._buffer:
            return self._buffer.popleft()
        if self._feeder is None:
            return self._accept(self._next())
        if self._feed is None:
            self._feed = self._loop.create_task(self._fetch(self._feeder))
        return None

    def _next(self) -> Any:
        try:
            return next(self._rows, _END)
        except BaseException as error:  # the user's iterator failed: the run reports it
            return error

    def _accept(self, item: Any) -> Row | None:
        if isinstance(item, Row):
            return item
        if item is NOT_YET:
            return None
        self._exhausted = True
        if item is not _END:
            self._broke(item)
        return None

    async def _fetch(self, feeder: DaemonPool) -> None:
        item = await feeder.run(self._next)
        self._feed = None
        if (row := self._accept(item)) is not None:
            self._buffer.append(row)
        self._wake()
