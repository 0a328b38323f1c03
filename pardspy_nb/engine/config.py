"""How an engine runs its rows."""

from __future__ import annotations

from dataclasses import dataclass

from .policies import FailurePolicy, HedgePolicy, RetryPolicy


@dataclass(frozen=True, kw_only=True)
class EngineConfig:
    """How an engine runs its rows.

    Attributes:
        total: the number of rows, or None if unknown.
        max_workers: the most attempts under way; may change during the run.
        retry: which failed attempts are tried again, and when.
        failure: how many rows may fail.
        timeout_s: wall clock for one attempt, or None.
        lanes: rows whose numbers are equal modulo `lanes` never run at the same time.
        blocking_source: whether rows are pulled in a thread, because the iterator may wait.
        hedge: when a row under way is asked a second time; None for never. Not with `lanes`.
        most_ahead: how many rows may be read beyond the oldest row that is not released; None for
            any number.
    """

    total: int | None
    max_workers: int
    retry: RetryPolicy
    failure: FailurePolicy
    timeout_s: float | None = None
    lanes: int | None = None
    blocking_source: bool = False
    hedge: HedgePolicy | None = None
    most_ahead: int | None = None
