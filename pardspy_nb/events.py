"""Frozen facts about a run: the border that engine, sinks, metrics and frame share.

Durations are milliseconds of the monotonic clock, stamps are seconds since the epoch (UTC).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple, Protocol

Status = Literal["ok", "failed", "cancelled", "not_run"]
STATUSES: tuple[Status, ...] = ("ok", "failed", "cancelled", "not_run")


class Row(NamedTuple):
    """One task: `number` counts tasks, `position` input rows, `sample` repeats; all 0-based."""

    number: int
    position: int
    sample: int
    inputs: Mapping[str, Any]


class Answer(NamedTuple):
    """What a module returned for one row, in one shape for every kind of module."""

    outputs: dict[str, Any]
    usage: Any = None
    model: str | None = None
    finish_reason: str | None = None


class RunStarted(NamedTuple):
    """The run began; `total` is the number of rows, None where the input is a stream."""

    total: int | None
    at: float


class RowStarted(NamedTuple):
    """An attempt at a row began; `attempt` is 1-based."""

    row: Row
    attempt: int


class AttemptFailed(NamedTuple):
    """An attempt failed and the row will be tried again in `retry_in_s` seconds."""

    row: Row
    attempt: int
    error: BaseException
    latency_ms: float
    retry_in_s: float


class RowFinished(NamedTuple):
    """A row is settled.

    `latency_ms` is the last attempt's call, `queued_ms` the wait from the start of the run to
    the first attempt, `waited_ms` the back-off between attempts, `usage` the sum over all
    billed attempts.
    """

    row: Row
    status: Status
    answer: Answer | None
    error: BaseException | None
    attempts: int
    latency_ms: float | None
    queued_ms: float | None
    waited_ms: float | None
    started_at: float | None
    usage: Any


class RunFinished(NamedTuple):
    """The run ended. `reason` is why: done, failures, fail_fast, cancelled or fatal."""

    reason: str
    error: BaseException | None
    elapsed_s: float
    max_in_flight: int
    at: float


Event = RunStarted | RowStarted | AttemptFailed | RowFinished | RunFinished


class Progress(Protocol):
    """What a sink may read of the accumulated state (see `metrics.Tally`)."""

    total: int | None
    done: int
    ok: int
    failed: int
    cancelled: int
    in_flight: int
    started: bool
    finished: bool

    @property
    def elapsed_s(self) -> float: ...
    @property
    def rows_per_s(self) -> float: ...
    @property
    def usage(self) -> Any: ...


class Sink(Protocol):
    """Watches a run. Called at a fixed rate from one thread, never per row; may raise freely."""

    def update(self, state: Progress, events: Sequence[Event]) -> None:
        """See the events since the last call and the state they add up to."""

    def close(self, state: Progress, summary_html: str) -> None:
        """The run is over: show the final state."""
