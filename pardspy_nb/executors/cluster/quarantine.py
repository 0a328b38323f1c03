"""Finds the row that kills workers, among the rows that were in flight when a worker died."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from ...core.errors import AttemptError
from ...engine.row_task import RowTask
from .work_queue import WorkItem
from .worker_state import WorkerState

_SUSPECT, _GUILTY = 2, 3  # after so many dead workers a row is asked alone; the row fails


class WorkerLostError(AttemptError):
    """A worker process died while a row was in flight there."""

    retryable = True
    may_be_billed = True


class Quarantine:
    """Counts, for each row, the workers that died while the row was in flight.

    After the second dead worker the row is asked alone. So if a third worker dies, no other row
    can be the cause.
    """

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._suspects: deque[RowTask] = deque()
        self._alone = 0

    @property
    def is_empty(self) -> bool:
        """Whether no row waits to be asked alone."""
        return not self._suspects

    def count(self, worker: WorkerState, share: int) -> None:
        """Count the rows of a dead worker. As many as `share` may have begun without a report."""
        unheard = [n for n in worker.open if not worker.running[n]]
        self._counts.update([*unheard[:share], *+worker.running])

    def hit(self, number: int) -> bool:
        """Whether a row may have been in flight at a worker that died."""
        return self._counts[number] > 0

    def is_guilty(self, number: int) -> bool:
        """Whether a row was in flight at too many workers that died."""
        return self._counts[number] >= _GUILTY

    def held_back(self, row_tasks: Iterable[RowTask]) -> list[RowTask]:
        """Keep those of the open rows that must be asked alone, and return them."""
        found = [f for f in row_tasks if self._is_suspect(f.row.number) and not f.settled]
        self._suspects.extend(found)
        return found

    def set_aside(self, row_tasks: Iterable[RowTask]) -> None:
        """Ask these rows alone, too: one of them cannot be sent, and this shows which."""
        row_tasks = list(row_tasks)
        self._suspects.extend(row_tasks)
        self._counts.update(dict.fromkeys((f.row.number for f in row_tasks), _SUSPECT))

    def _is_suspect(self, number: int) -> bool:
        return self._counts[number] >= _SUSPECT

    def keeps_busy(self, worker: WorkerState) -> bool:
        """Whether a worker has a row that must be asked alone, and so gets no other row."""
        return bool(self._counts) and any(map(self._is_suspect, worker.open))

    def take(self) -> WorkItem | None:
        """The next row to be asked alone."""
        if not self._suspects:
            return None
        row_task = self._suspects.popleft()
        self._alone += 1
        return WorkItem(-self._alone, {row_task.row.number: row_task})

    def close(self) -> list[RowTask]:
        """The rows that still wait to be asked alone."""
        return list(self._suspects)
