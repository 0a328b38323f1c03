"""Decisions without side effects: which errors are retried, when, and when to give up."""

from __future__ import annotations

import random
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from ..core.errors import OutageError

_RETRYABLE_STATUS = frozenset({408, 409, 429})
OUTAGE_STATUS = frozenset({429, 502, 503, 504, 529})
_TRUSTED = 2  # so often an endpoint is believed that asks to wait for too short a time


def is_retryable(error: BaseException) -> bool:
    """Whether another attempt may succeed.

    An error's own `retryable` attribute decides, if there is one. Errors of HTTP clients that are
    used inside plain functions are judged by their `status_code`. Of all other errors only timeouts
    and broken connections are retryable.
    """
    own = getattr(error, "retryable", None)
    if own is not None:
        return bool(own)
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return status in _RETRYABLE_STATUS or status >= 500
    return isinstance(error, TimeoutError | ConnectionError)


def is_rate_limited(error: BaseException) -> bool:
    """Whether an endpoint refused a request because there were too many requests (429)."""
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


def is_outage(error: BaseException) -> bool:
    """Whether the endpoint limits requests, is out of reach or breaks off: every row meets that.

    An error's own `outage` attribute decides, if there is one.
    """
    own = getattr(error, "outage", None)
    if own is not None:
        return bool(own)
    status = getattr(error, "status_code", None)
    if isinstance(status, int):
        return status in OUTAGE_STATUS
    return isinstance(error, ConnectionError)


def explain(error: Exception, timeout_s: float | None) -> Exception:
    """The error; a timeout without a message gets one that names `timeout_s`."""
    if isinstance(error, TimeoutError) and not error.args and timeout_s is not None:
        explained = TimeoutError(f"no answer within {timeout_s:g} s")
        explained.__cause__ = error
        return explained
    return error


@dataclass(frozen=True)
class RetryPolicy:
    """Exponential backoff with jitter; the endpoint's `Retry-After`, when given, replaces it.

    The n-th wait is `base_s * 2**(n-1)`, at most `cap_s`, times a random factor in [0.5, 1].

    An outage is not the row's fault (see `outage.Outage`): while it has lasted less than
    `outage_s`, attempts do not count, and their waits are at most `outage_cap_s`. The endpoint's
    `Retry-After` is then the least wait, and a random tenth of it comes on top, so that not all
    rows come back at once. `max_attempts=1` retries nothing.
    """

    max_attempts: int = 4
    base_s: float = 0.5
    cap_s: float = 30.0
    outage_s: float = 120.0
    outage_cap_s: float = 5.0
    rand: Callable[[], float] = field(default=random.random)

    def wait_s(self, attempt: int, error: BaseException) -> float | None:
        """Seconds to wait after failed attempt number `attempt`; None to give up the row."""
        if attempt >= self.max_attempts or not is_retryable(error):
            return None
        asked_s = asked_wait_s(error)
        return self._backoff_s(attempt, self.cap_s) if asked_s is None else asked_s

    def sit_out_s(self, attempt: int, error: BaseException) -> float:
        """Seconds to wait after refusal number `attempt` of an outage."""
        backoff_s = self._backoff_s(attempt, self.outage_cap_s)
        asked_s = asked_wait_s(error)
        if not asked_s:  # `Retry-After: 0` tells nothing
            return backoff_s
        asked_s *= 1 + 0.1 * self.rand()
        # an endpoint that asks for less than it needs is asked less and less often
        return asked_s if attempt <= _TRUSTED else max(asked_s, backoff_s)

    def too_long(self, error: BaseException) -> OutageError | None:
        """The error that ends the run if an endpoint asks to wait for longer than an outage may
        last."""
        asked_s = asked_wait_s(error) or 0.0
        if not is_outage(error) or asked_s <= self.outage_s:
            return None
        return OutageError(
            f"the endpoint asks to wait {asked_s:,.0f} s, longer than outage_s={self.outage_s:g} "
            f"({error})"
        )

    def _backoff_s(self, attempt: int, cap_s: float) -> float:
        backoff: float = min(cap_s, self.base_s * 2 ** min(attempt - 1, 30))
        return backoff * (0.5 + 0.5 * self.rand())


def asked_wait_s(error: BaseException) -> float | None:
    """The seconds that an error asks to wait, None if it does not ask."""
    asked: object = getattr(error, "retry_after_s", None)  # any library may set it
    return float(asked) if isinstance(asked, int | float) and 0 <= asked < float("inf") else None


# A stream has no known number of rows: a share is judged only once so many rows are settled.
_MIN_ROWS_FOR_SHARE = 100
# so many rows must fail, and none succeed, until an error that may be the row's is the run's
_ENOUGH_FAILURES = 3


@dataclass(frozen=True)
class FailurePolicy:
    """How many failed rows a run tolerates: a count, a share in (0, 1), or any number (None).

    `least` is the least number of rows to expect, where the number of rows is not known.
    """

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
        """Whether a row that failed with `error` ends the run.

        Returns:
            The reason (see `RunFinished`), and whether the rows in flight are cancelled. None if
            the run goes on.
        """
        if self.fail_fast:
            return "fail_fast", True
        exceeds = self.exceeded(failures, done, total)
        none_succeeded = failures == done and (exceeds or failures >= _ENOUGH_FAILURES)
        if getattr(error, "fatal", False) or (
            getattr(error, "fatal_if_none_succeeds", False) and none_succeeded
        ):
            return "fatal", False
        return ("failures", False) if exceeds else None


@dataclass(frozen=True)
class HedgePolicy:
    """When a second request for a row under way is sent (Dean and Barroso, "The Tail at Scale",
    2013, "hedged requests").

    The first request must have taken longer than the `quantile` of the successful requests (nearest
    rank; at least `min_seen` of them). Duplicates are at most `share` of the rows tried. Some usual
    rows lie beyond any quantile. So that these rows do not use up the share, the wait for a
    duplicate grows with the used part of the share, up to twice as long.
    """

    quantile: float
    share: float = 0.05
    min_seen: int = 20

    def after_s(self, latencies_s: Collection[float], duplicates: int, rows: int) -> float | None:
        """Seconds after which one more duplicate may be sent, given the `duplicates` so far and
        the `rows` tried. None if no more may be sent, or while too few latencies are known."""
        if len(latencies_s) < self.min_seen or duplicates + 1 > self.share * rows:
            return None
        ordered = sorted(latencies_s)
        usual_s = ordered[min(len(ordered) - 1, int(self.quantile * len(ordered)))]
        return usual_s * (1 + duplicates / (self.share * rows))


def straggler_after_s(durations_s: Collection[float]) -> float | None:
    """Seconds after which a row under way is a straggler: twice the 90th percentile of the rows
    that succeeded (nearest rank). None while no row has succeeded."""
    if not durations_s:
        return None
    ordered = sorted(durations_s)
    return 2 * ordered[min(len(ordered) - 1, int(0.9 * len(ordered)))]
