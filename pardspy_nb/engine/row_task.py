"""A row under way, and its attempts."""

from __future__ import annotations

import asyncio
from typing import Any

from ..core.events import Answer, Made, Row, RowFinished, Status


class Attempt:
    """An attempt under way."""

    __slots__ = ("began", "lost", "number", "task")

    def __init__(self, number: int, task: asyncio.Task[None], began: float) -> None:
        self.number, self.task, self.began = number, task, began
        self.lost = False  # the row's other attempt won


class RowTask:
    """A row under way: the state that lasts from one attempt to the next."""

    __slots__ = (
        "admitted",
        "attempts",
        "began",
        "dropped",
        "duplicates",
        "earlier",
        "error",
        "failed_at",
        "followers",
        "held_at",
        "in_flight",
        "is_hedged",
        "key",
        "latency_s",
        "out_since",
        "outages",
        "queued_s",
        "row",
        "settled",
        "started_at",
        "usage",
        "waited_s",
        "was_looked_up",
        "won",
    )

    def __init__(self, row: Row) -> None:
        self.row = row
        self.key: bytes | None = None  # rows with equal keys share an outcome
        self.followers: list[RowTask] = []
        self.in_flight: list[Attempt] = []  # one, or two if the row was hedged
        self.attempts = self.outages = self.duplicates = 0  # outages: attempts that met an outage
        self.admitted = 0  # attempts that the limiters let in and that have not left
        self.out_since: float | None = None
        self.dropped = self.settled = self.won = self.was_looked_up = self.is_hedged = False
        self.error: BaseException | None = None
        self.usage: Any = None
        self.began = self.queued_s = self.waited_s = self.latency_s = self.failed_at = 0.0
        self.started_at: float | None = None
        self.held_at: float | None = None  # when a limiter first made the row wait
        self.earlier: tuple[int, Any] = (0, None)  # attempts and billed usage of earlier stages

    @property
    def next_row(self) -> Row:
        """The row for the next attempt, with the error of the last attempt."""
        return self.row if self.error is None else self.row._replace(before=self.error)

    @property
    def may_be_duplicated(self) -> bool:
        """Whether a second attempt beside the first is still useful."""
        return bool(self.in_flight) and not (self.won or self.dropped or self.settled)

    def begin(self, task: asyncio.Task[None], now: float, run_began: float, utc0: float) -> Attempt:
        """Begin an attempt now, in a task; `utc0` is the UTC time of the loop's zero."""
        if self.attempts == 0:
            self.began = now
        if self.started_at is None:
            held_at = now if self.held_at is None else self.held_at
            self.started_at = utc0 + now
            self.queued_s, self.waited_s = held_at - run_began, now - held_at
        elif self.in_flight:
            self.duplicates += 1
        else:
            self.waited_s += now - self.failed_at
        self.attempts += 1
        attempt = Attempt(self.all_attempts, task, now)
        self.in_flight.append(attempt)
        return attempt

    def enter(self, stage: int, now: float) -> None:
        """Make the row ready for a further stage, as a row that is new there."""
        self.earlier = self.all_attempts, self.all_usage
        self.row = self.row._replace(stage=stage)
        self.attempts = self.outages = self.duplicates = 0
        self.key, self.followers, self.error, self.usage = None, [], None, None
        self.is_hedged = self.won = self.was_looked_up = False
        self.failed_at = now

    @property
    def all_attempts(self) -> int:
        """The attempts of all stages."""
        return self.earlier[0] + self.attempts

    @property
    def all_usage(self) -> Any:
        """The billed usage of all stages."""
        before = self.earlier[1]
        if before is None or self.usage is None:
            return self.usage if before is None else before
        return before + self.usage

    def bill(self, usage: Any) -> None:
        """Add the billed usage of one attempt; None if the attempt reported no usage."""
        if usage is not None:
            self.usage = usage if self.usage is None else self.usage + usage

    def bill_winner(self, usage: Any) -> None:
        """Add the usage of the attempt that won, and break off the other attempts."""
        self.bill(usage)
        for other in self.in_flight:
            # no endpoint reports the bill of a cancelled request; it is taken to be the same
            self.bill(usage)
            other.lost = True
            other.task.cancel()

    @property
    def counted(self) -> int:
        """The attempts that count: not those that met an outage, nor duplicates."""
        return self.attempts - self.outages - self.duplicates

    def finished(self, status: Status, answer: Answer | None = None) -> RowFinished:
        """The event that reports the end of the row."""
        tried = self.all_attempts > 0
        return RowFinished(
            self.row,
            status,
            answer,
            self.error,
            self.all_attempts,
            self.latency_s * 1e3 if tried else None,
            self.queued_s * 1e3 if tried else None,
            self.waited_s * 1e3 if tried else None,
            self.started_at,
            self.all_usage,
        )

    @property
    def made(self) -> Made:
        """How the row got its answer."""
        return Made(self.attempts, self.latency_s * 1e3, self.started_at)

    def billed(self, answer: Answer) -> Answer:
        """The row's answer with the usage of all its attempts."""
        same = answer.usage is self.usage
        return answer if same else answer._replace(usage=self.usage)
