"""Immutable events of a run: the interface between engine, sinks, metrics and frame.

Durations are milliseconds of the monotonic clock, stamps are seconds since the epoch (UTC).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

Status = Literal["ok", "failed", "cancelled", "not_run", "skipped"]
STATUSES: tuple[Status, ...] = ("ok", "failed", "cancelled", "not_run", "skipped")


class Row(NamedTuple):
    """One task: `number` counts tasks, `position` input rows, `sample` repeats; all 0-based.

    `before` is the error of the previous attempt. A row `is_blank` if a required input is missing
    or blank and it is therefore not asked: its status is `skipped`. `stage` is the place of the
    model that a cascade asks now.
    """

    number: int
    position: int
    sample: int
    inputs: Mapping[str, Any]
    before: BaseException | None = None
    is_blank: bool = False
    stage: int = 0


class Made(NamedTuple):
    """How a row got its answer: attempts, latency of the successful call (ms), and the start of the
    first attempt, in seconds since the epoch. None if it is not known."""

    attempts: int | None
    latency_ms: float | None
    at: float | None


class Origin(NamedTuple):
    """The origin of a reused answer.

    `usage` is what the answer used when it was made, `source` the id of its source (see
    `provenance`), and `at` the time of its making, in seconds since the epoch. `attempts` and
    `latency_ms` (of the successful call) are as of then, None if they are not known.
    """

    usage: Any
    source: str
    at: float
    attempts: int | None = None
    latency_ms: float | None = None


class Answer(NamedTuple):
    """What a module returned for one row, in one shape for every kind of module.

    `text` is the model's own text, from which a store can rebuild the answer. `origin` is set if
    the answer came from a store, or from an equal row of this run; then no request was sent and
    nothing was paid. `repaired` says how an answer was repaired that did not fit at first.
    """

    outputs: dict[str, Any]
    usage: Any = None
    model: str | None = None
    finish_reason: str | None = None
    text: str | None = None
    origin: Origin | None = None
    repaired: str | None = None

    @property
    def cached(self) -> bool:
        """Whether no request was sent for this answer."""
        return self.origin is not None


class Preparing(NamedTuple):
    """Something takes long before the run can begin, such as the start of an embedded model."""

    what: str


class RunStarted(NamedTuple):
    """The run began; `total` is the number of rows, None where the input is a stream."""

    total: int | None
    at: float


class SettingsChanged(NamedTuple):
    """The run's settings from now on; one of these events follows `RunStarted`.

    `max_workers` rows may be in flight; `paused` starts nothing new; `dropping` cancels rows
    that have run for much longer than the others; `stopping` is the reason why the run will end.
    """

    max_workers: int
    paused: bool
    dropping: bool
    stopping: str | None


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


class AttemptLost(NamedTuple):
    """One of two simultaneous attempts at a row is over, and the other attempt counts."""

    row: Row
    attempt: int


class StagePassed(NamedTuple):
    """A stage of a cascade is over for a row, which is not settled yet.

    `was_asked` tells whether there was an attempt in this stage, and `latency_ms` is the call that
    brought an answer, None if there was none.
    """

    row: Row
    was_asked: bool
    latency_ms: float | None


class RowFinished(NamedTuple):
    """A row is settled.

    `latency_ms` is the last attempt's call, `queued_ms` the wait from the start of the run to
    the first attempt, `waited_ms` the back-off between attempts, `usage` the sum over all
    billed attempts. A row that was never attempted, or whose answer came from the cache,
    has no attempts and no times.
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
    """The run ended.

    `reason` is one of: done, failures, fail_fast, cancelled, fatal (every further row would fail
    in the same way), outage (the endpoint asks for too long a wait), source (the input cannot be
    read further), target (the output cannot be written), store, budget, cluster (no worker is
    left), or crashed (the engine failed).
    """

    reason: str
    error: BaseException | None
    elapsed_s: float
    max_in_flight: int
    at: float


Event = (
    Preparing
    | RunStarted
    | SettingsChanged
    | RowStarted
    | AttemptFailed
    | AttemptLost
    | StagePassed
    | RowFinished
    | RunFinished
)
