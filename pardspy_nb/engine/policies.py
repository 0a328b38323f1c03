"""Decisions without side effects: which errors to try again, when, and when to give up."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

_RETRYABLE_STATUS = frozenset({408, 409, 429})


def is_retryable(error: BaseException) -> bool:
    """Whether another attempt may succeed.

    An error that says so itself (`retryable`) is believed; errors of HTTP clients used inside
    plain functions are judged by their `status_code`; else timeouts and broken connections.
    """
    own = getattr(error, "retryable", None)
    if own is not None:
        return bool(own)
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return status in _RETRYABLE_STATUS or status >= 500
    return isinstance(error, TimeoutError | ConnectionError)


def is_rate_limited(error: BaseException) -> bool:
    """Whether an endpoint refused a request because there are too many (429)."""
    own = getattr(error, "rate_limited", None)
    return bool(own) if own is not None else getattr(error, "status_code", None) == 429


def is_overloaded(error: BaseException) -> bool:
    """Whether an endpoint is in trouble: 5xx, a timeout, a broken connection."""
    own = getattr(error, "overloaded", None)
    if own is not None:
        return bool(own)
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return status >= 500
    return isinstance(error, TimeoutError | ConnectionError)


def explain(error: Exception, timeout_s: float | None) -> Exception:
    """The error, or one with words for a wall clock that struck."""
    if isinstance(error, TimeoutError) and not error.args and timeout_s is not None:
        explained = TimeoutError(f"no answer within {timeout_s:g} s")
        explained.__cause__ = error
        return explained
    return error


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential backoff with jitter; the endpoint's `Retry-After`, when given, replaces it.

    The n-th wait is `base_s * 2**(n-1)`, at most `cap_s`, times a random factor in [0.5, 1].

    An outage (an error's `outage`: nothing could be sent) is not the row's doing: while it has
    lasted less than `outage_s`, as a machine's sleep or a broken line may, such attempts do not
    count, and their waits are at most `outage_cap_s`. `max_attempts=1` tries nothing again.
    """

    max_attempts: int = 4
    base_s: float = 0.5
    cap_s: float = 30.0
    outage_s: float = 120.0
    outage_cap_s: float = 5.0
    rand: Callable[[], float] = field(default=random.random)

    def sits_out(self, out_s: float | None) -> bool:
        """Whether a row that has met nothing but an outage for `out_s` (None: met none) waits
        for its end."""
        return out_s is not None and out_s < self.outage_s and self.max_attempts > 1

    def wait_s(
        self, attempt: int, error: BaseException, out_s: float | None = None
    ) -> float | None:
        """Seconds to wait after failed attempt number `attempt`, None to give the row up."""
        sitting_out = self.sits_out(out_s)
        if not sitting_out and (attempt >= self.max_attempts or not is_retryable(error)):
            return None
        cap_s = min(self.cap_s, self.outage_cap_s) if sitting_out else self.cap_s
        backoff: float = min(cap_s, self.base_s * 2 ** min(attempt - 1, 30))
        backoff *= 0.5 + 0.5 * self.rand()
        asked: object = getattr(error, "retry_after_s", None)  # a foreign error's may be anything
        if isinstance(asked, int | float) and 0 <= asked < float("inf"):
            return float(asked)
        return backoff


# With a stream the number of rows is unknown: a share is then judged from this many rows on.
_MIN_ROWS_FOR_SHARE = 100


@dataclass(frozen=True)
class FailurePolicy:
    """How many failed rows a run tolerates: a count, a share in (0, 1), or any number (None).
    `least` is how many rows there are at least, where their number is not known."""

    max_failures: float | None = 0
    fail_fast: bool = False
    least: int | None = None

    def exceeded(self, failures: int, done: int, total: int | None) -> bool:
        """Whether `failures` of `done` settled rows (of `total`, if known) are too many."""
        limit = self.max_failures
        if limit is None:
            return False
        if isinstance(limit, int):
            return failures > limit
        total = self.least if total is None else total
        if total is not None:
            return failures > limit * max(total, done)
        return done >= _MIN_ROWS_FOR_SHARE and failures > limit * done

    def ending(
        self, error: BaseException | None, failures: int, done: int, total: int | None
    ) -> tuple[str, bool] | None:
        """Whether a row that failed with `error` ends the run: the reason (see `RunFinished`), and
        whether what is in flight is cancelled. None if the run goes on."""
        if self.fail_fast:
            return "fail_fast", True
        if getattr(error, "fatal", False):
            return "fatal", False
        return ("failures", False) if self.exceeded(failures, done, total) else None


@dataclass(frozen=True)
class HedgePolicy:
    """When a second request for a row under way is sent: once the first has taken longer than
    the `quantile` of those that succeeded (nearest rank; of `min_seen` at least), and while
    duplicates are at most `share` of the rows tried (Dean and Barroso, "The Tail at Scale", 2013,
    "hedged requests"). Some of the usual rows are beyond any quantile; so that these do not use up
    the share, it takes the longer, up to twice as long, the more of it is used."""

    quantile: float
    share: float = 0.05
    min_seen: int = 20

    def after_s(self, latencies_s: Collection[float], duplicates: int, rows: int) -> float | None:
        """Seconds after which one more duplicate may be sent, with so many among so many rows.
        None if it may not, or while too few latencies are known."""
        if len(latencies_s) < self.min_seen or duplicates + 1 > self.share * rows:
            return None
        ordered = sorted(latencies_s)
        usual_s = ordered[min(len(ordered) - 1, int(self.quantile * len(ordered)))]
        return usual_s * (1 + duplicates / (self.share * rows))


def straggler_after_s(durations_s: Collection[float]) -> float | None:
    """Seconds under way after which a row is a straggler: twice the 90th percentile of rows
    that succeeded (nearest rank). None while there are none to compare with."""
    if not durations_s:
        return None
    ordered = sorted(durations_s)
    return 2 * ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]
