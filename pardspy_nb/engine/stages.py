"""Rows that pass several stages: what follows an answer, and rows that are held back meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from typing import Any, Literal, Protocol

from ..core.events import Answer, Row, StagePassed, Status
from .outcomes import Outcomes
from .row_task import RowTask

Route = Answer | int | Literal["hold"]


class Router(Protocol):
    """Decides after each stage what becomes of a row."""

    def route(self, row: Row, answer: Answer) -> Route:
        """What follows an answer of the row's stage: the row's final answer, the number of the next
        stage, or a wait until `decide`."""

    def rescues(self, row: Row, error: BaseException | None) -> int | None:
        """The stage that comes next for a row that failed in its stage; None if it has failed."""

    def decide(self, held: Sequence[tuple[Row, Answer]]) -> Sequence[Route]:
        """What becomes of the held rows, now that nothing else is under way. One at least is no
        longer held."""


class StagedOutcomes(Outcomes):
    """Outcomes of rows that pass several stages: a row is settled after its last one. Use it on the
    engine's loop only.

    Args:
        ends: as for `Outcomes`. `settled` is also called when a row has the answer of a stage:
            equal rows wait for that.
        come_again: puts a row into the queue, to start in so many seconds.
    """

    def __init__(
        self, *ends: Any, router: Router, come_again: Callable[[RowTask, float], None]
    ) -> None:
        super().__init__(*ends)
        self._router, self._come_again = router, come_again
        self._held: list[tuple[RowTask, Answer]] = []

    @property
    def held(self) -> list[RowTask]:
        """See `Outcomes`."""
        return [row_task for row_task, _ in list(self._held)]

    def settle(self, row_task: RowTask, status: Status, answer: Answer | None = None) -> None:
        """End a row, or its stage."""
        if answer is not None:
            answer = answer if answer.cached else row_task.billed(answer)
            route = self._router.route(row_task.row, answer)
            self._after(row_task, status, answer, False)
            if not isinstance(route, Answer):
                self._passed(row_task, row_task.latency_s * 1e3)
            self._follow(row_task, answer, route)
        elif status != "failed" or not self._rescue(row_task):
            super().settle(row_task, status)

    def fail(self, row_task: RowTask) -> None:
        """End a row with its error, unless it goes on to its next stage."""
        if not self._rescue(row_task):
            super().fail(row_task)

    def release(self) -> bool:
        """Let held rows go on, because nothing else is under way. Whether there were any."""
        held, self._held = self._held, []
        if not held:
            return False
        try:
            routes = self._router.decide([(row_task.row, answer) for row_task, answer in held])
            for (row_task, answer), route in zip(held, routes, strict=True):
                self._follow(row_task, answer, route)
        except Exception as error:
            self._controls.broke(error)
            for row_task, _ in held:
                self.cut_short(row_task)
        return True

    def _rescue(self, row_task: RowTask) -> bool:
        stopping = self._controls.stop_reason is not None
        stage = None if stopping else self._router.rescues(row_task.row, row_task.error)
        if stage is None:
            return False
        self._after(row_task, "failed", None, False)
        self._passed(row_task, None)
        self._go_on(row_task, stage)
        return True

    def _passed(self, row_task: RowTask, latency_ms: float | None) -> None:
        was_asked = row_task.attempts > 0
        self._emit(StagePassed(row_task.row, was_asked, latency_ms if was_asked else None))

    def _follow(self, row_task: RowTask, answer: Answer, route: Route) -> None:
        if isinstance(route, Answer):
            super().settle(row_task, "ok", route)
        elif isinstance(route, int):
            self._go_on(row_task, route)
        else:
            self._held.append((row_task, answer))

    def _go_on(self, row_task: RowTask, stage: int) -> None:
        row_task.enter(stage, asyncio.get_running_loop().time())
        self._come_again(row_task, 0.0)


def outcomes_for(
    router: Router | None, come_again: Callable[[RowTask, float], None], *ends: Any
) -> Outcomes:
    """The outcomes of rows, which pass several stages if there is a router."""
    if router is None:
        return Outcomes(*ends)
    return StagedOutcomes(*ends, router=router, come_again=come_again)
