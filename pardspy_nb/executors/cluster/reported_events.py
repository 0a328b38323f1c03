"""Enters the events that workers report into the run."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any, Protocol

from ...core.events import (
    Answer,
    AttemptFailed,
    AttemptLost,
    Event,
    RowFinished,
    RowStarted,
)
from ...engine.controls import RunControls
from ...engine.outcomes import Outcomes
from ...engine.row_task import RowTask
from .shared_limits import SharedLimits
from .worker_state import WorkerState


class Run(Protocol):
    """Handles rows that end at a worker. See `Coordinator`."""

    controls: RunControls

    def elapsed_s(self) -> float: ...

    def command_all(self) -> None: ...

    def row_succeeded(self, row_task: RowTask, answer: Answer) -> None: ...

    def row_failed(self, worker: WorkerState, row_task: RowTask) -> None: ...

    def row_given_back(self, row_task: RowTask) -> None: ...


class ReportedEvents:
    """Enters the events of workers into the run.

    Attributes:
        in_flight: attempts under way, at all workers together.
        max_in_flight: the highest value of `in_flight` so far.
    """

    def __init__(
        self,
        emit: Callable[[Event], None],
        limits: SharedLimits,
        outcomes: Outcomes,
        run: Run,
    ) -> None:
        self._emit, self._limits, self._outcomes, self._run = emit, limits, outcomes, run
        self.in_flight = self.max_in_flight = 0

    def enter(self, worker: WorkerState, event: Any, now: float) -> None:
        """Enter one event, whose `row` is the row's number."""
        number = event.row
        row_task = worker.open.get(number)
        if row_task is None:
            return
        if isinstance(event, RowFinished):
            self._row_finished(worker, number, row_task, event, now)
        elif isinstance(event, RowStarted):
            if not row_task.attempts:
                row_task.queued_s = self._run.elapsed_s()
            row_task.attempts += 1
            worker.running[number] += 1
            self.in_flight += 1
            self.max_in_flight = max(self.max_in_flight, self.in_flight)
            self._forward(RowStarted(row_task.row, row_task.attempts), row_task)
        else:
            worker.running[number] -= 1
            self.in_flight -= 1
            self._attempt_over(worker, number, row_task, event)

    def _attempt_over(
        self, worker: WorkerState, number: int, row_task: RowTask, event: Any
    ) -> None:
        outcome: BaseException = asyncio.CancelledError()
        if isinstance(event, AttemptFailed):
            outcome = row_task.error = event.error
            worker.spend(number, getattr(outcome, "usage", None))
            self._forward(event._replace(row=row_task.row, attempt=row_task.attempts), row_task)
            self._heed(outcome)
        else:
            self._forward(AttemptLost(row_task.row, event.attempt), row_task)
        self._limits.leave(worker, row_task, outcome)

    def _forward(self, event: Event, row_task: RowTask) -> None:
        if not row_task.settled:  # a work item may be sent a second time
            self._emit(event)

    def _heed(self, error: BaseException) -> None:
        was_limited = self._limits.is_limited
        self._limits.heed(error)
        if self._limits.is_limited != was_limited:
            self._run.command_all()

    def _row_finished(
        self,
        worker: WorkerState,
        number: int,
        row_task: RowTask,
        event: RowFinished,
        now: float,
    ) -> None:
        running = worker.settle(number, now)
        self.in_flight -= running
        for _ in range(running - 1):  # asked twice: the other ends come later
            self._forward(AttemptLost(row_task.row, row_task.attempts), row_task)
        _take_over(worker, row_task, event)
        outcome: Answer | BaseException | None = event.answer or event.error
        self._limits.leave_all(worker, row_task, outcome if event.attempts else None)
        controls = self._run.controls
        if event.status == "ok" and event.answer is not None:
            self._run.row_succeeded(row_task, event.answer)
        elif event.status == "failed":
            self._run.row_failed(worker, row_task)
        elif (
            event.status == "skipped"
            or controls.stop_reason is not None
            or (event.status == "cancelled" and controls.drops_stragglers)
        ):
            self._outcomes.settle(row_task, event.status)
        else:  # the worker ends by itself
            self._run.row_given_back(row_task)


def _take_over(worker: WorkerState, row_task: RowTask, event: RowFinished) -> None:
    """Copy the times, usage and error of a worker's report to the row."""
    if event.attempts:
        is_first = event.attempts == row_task.attempts
        if is_first and event.queued_ms is not None:
            row_task.queued_s = worker.offset_s + event.queued_ms / 1e3
        row_task.started_at = event.started_at if is_first else row_task.started_at
        row_task.latency_s = (event.latency_ms or 0.0) / 1e3
        row_task.waited_s += (event.waited_ms or 0.0) / 1e3
    row_task.bill(event.usage)
    if event.error is not None or event.status == "ok":
        row_task.error = event.error
