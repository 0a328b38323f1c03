"""Rows that were in flight where a worker died: whether one of them is the reason."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Iterable

from ...core.errors import AttemptError
from ...engine.row_task import RowTask
from .work_queue import WorkItem
from .worker_state import WorkerState

_SUSPECT, _GUILTY = 2, 3  # workers that died with a row in flight: it is asked alone; it fails


class WorkerLostError(AttemptError):
    """A worker process died while a row was in flight there."""

    retryable = True
    may_be_billed = True


class Quarantine:
    """Counts the workers that died with each row in flight. After the second it is asked by itself,
    so that after the third it is known that it was no neighbour."""

    def __init__(self) -> None:
        self._counts: Counter[int] = Counter()
        self._suspects: deque[RowTask] = deque()
        self._alone = 0

    @property
    def is_empty(self) -> bool:
        """Whether no row waits to be asked alone."""
        return not self._suspects

    def count(self, worker: WorkerState, share: int) -> None:
        """A worker of so many workers died. Of rows that began a moment ago nothing was heard."""
        unheard = [n for n in worker.open if not worker.running[n]]
        self._counts.update([*unheard[:share], *+worker.running])

    def hit(self, number: int) -> bool:
        """Whether a row may have been in flight at one that died."""
        return self._counts[number] > 0

    def is_guilty(self, number: int) -> bool:
        """Whether it was in flight at too many."""
        return self._counts[number] >= _GUILTY

    def held_back(self, row_tasks: Iterable[RowTask]) -> list[RowTask]:
        """Of open rows those that are to be asked alone; they are kept here."""
        found = [f for f in row_tasks if self._is_suspect(f.row.number) and not f.settled]
        self._suspects.extend(found)
        return found

    def set_aside(self, row_tasks: Iterable[RowTask]) -> None:
        """Have these asked alone, too: one of them cannot be sent, and it is to be found which."""
        row_tasks = list(row_tasks)
        self._suspects.extend(row_tasks)
        self._counts.update(dict.fromkeys((f.row.number for f in row_tasks), _SUSPECT))

    def _is_suspect(self, number: int) -> bool:
        return self._counts[number] >= _SUSPECT

    def keeps_busy(self, worker: WorkerState) -> bool:
        """Whether a worker has a row that is asked alone."""
        return bool(self._counts) and any(map(self._is_suspect, worker.open))

    def take(self) -> WorkItem | None:
        """The next row to be asked alone."""
        if not self._suspects:
            return None
        row_task = self._suspects.popleft()
        self._alone += 1
        return WorkItem(-self._alone, {row_task.row.number: row_task})

    def close(self) -> list[RowTask]:
        """Those that were still to be asked."""
        return list(self._suspects)
