"""How rows end: rows are settled here, and too many failed rows stop the run."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..core.events import Answer, Event, Status
from .controls import RunControls
from .policies import FailurePolicy
from .row_task import RowTask


class Outcomes:
    """Settles the rows of one run, for an engine or a cluster's coordinator.

    Args:
        emit: receives each row's `RowFinished`.
        failure: decides how many rows may fail.
        total: the number of rows, None if unknown.
        controls: the run's controls, which stop the run when too many rows have failed.
        settled: called for each settled row with its status, its answer, and whether the run is
            stopping.

    Attributes:
        n_settled: rows that have ended.
        n_failed: rows among them that failed.
    """

    def __init__(
        self,
        emit: Callable[[Event], None],
        failure: FailurePolicy,
        total: int | None,
        controls: RunControls,
        settled: Callable[[RowTask, Status, Answer | None, bool], None],
    ) -> None:
        self._emit, self._failure, self._total = emit, failure, total
        self._controls, self._after = controls, settled
        self.n_settled = self.n_failed = 0

    @property
    def held(self) -> list[RowTask]:
        """Rows that are held back between two stages. May be called from any thread."""
        return []

    def release(self) -> bool:
        """Let held rows go on, because nothing else is under way. Whether there were any."""
        return False

    def settle(self, row_task: RowTask, status: Status, answer: Answer | None = None) -> None:
        """End a row. Nothing happens if the row has ended already."""
        if row_task.settled:
            return
        if answer is not None and answer.cached:
            row_task.bill(answer.usage)
        event = row_task.finished(status, answer)
        self.n_settled += 1
        self.n_failed += status == "failed"
        row_task.settled = True
        self._emit(event)
        self._after(row_task, status, answer, self._controls.stop_reason is not None)

    def fail(self, row_task: RowTask) -> None:
        """End a row with its error. The run stops, too, if this failure is one too many."""
        if row_task.settled:
            return
        self.settle(row_task, "failed")
        ending = self._failure.ending(row_task.error, self.n_failed, self.n_settled, self._total)
        if ending is not None:
            reason, cancels = ending
            self._controls.stop(reason, row_task.error, now=cancels)

    def cut_short(self, row_task: RowTask) -> None:
        """End a row that the run's end leaves without an answer."""
        self.settle(row_task, status_if_cut_short(row_task))


def status_if_cut_short(row_task: RowTask) -> Status:
    """The status of a row that the run's end leaves without an answer."""
    return "cancelled" if row_task.all_attempts else "not_run"


def abandoned(row_tasks: Iterable[RowTask]) -> list[Event]:
    """The closing events of rows that are given up. The rows are not changed, so this function may
    be called from any thread."""
    left = [r for r in dict.fromkeys(row_tasks) if not r.settled]
    return [r.finished(status_if_cut_short(r)) for r in left]
