"""Every error the package raises on purpose, and what each means for a retry."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any


class PardspyError(Exception):
    """Base of all errors of this package."""


class AttemptError(PardspyError):
    """One attempt at one row went wrong.

    Attributes:
        retryable: another attempt may succeed.
        retry_after_s: seconds the endpoint asked to wait, or None.
        fatal: every other row would fail in the same way, so the run stops.
        fatal_if_none_succeeds: as `fatal`, once several rows failed and none succeeded.
        outage: the endpoint limits requests, is out of reach or breaks off; the row is not the
            cause.
        rate_limited: the endpoint received too many requests or tokens a minute.
        overloaded: the endpoint is overloaded, or fails.
        may_be_billed: the request was sent, and its outcome is not known.
        usage: the `Usage` billed for the attempt, or None.
        hopeless: asking the same again would not help, at no other time either.
        rejected: an earlier attempt's `InvalidOutputError`, if there was one.
    """

    retryable: bool = False
    fatal: bool = False
    fatal_if_none_succeeds: bool = False
    outage: bool = False
    rate_limited: bool = False
    overloaded: bool = False
    may_be_billed: bool = False
    hopeless: bool = False

    def __init__(
        self, message: str, *, retry_after_s: float | None = None, usage: Any = None
    ) -> None:
        super().__init__(message)
        self.retry_after_s = retry_after_s
        self.status_code: int | None = None  # of the HTTP response, if there was one
        self.usage = usage
        self.rejected: InvalidOutputError | None = None


class LMError(AttemptError):
    """The endpoint did not answer the request."""


class RateLimitError(LMError):
    """429: too many requests or tokens a minute."""

    retryable = rate_limited = outage = True


class OutageError(PardspyError):
    """The endpoint asks to wait for longer than the run's `outage_s`."""


class QuotaError(LMError):
    """402, or other words for it: the account has nothing left to spend."""

    fatal = True


class ServerError(LMError):
    """5xx, 408 or 409: the endpoint failed, or its body is not JSON."""

    retryable = overloaded = True


class EndpointConnectionError(LMError):
    """The connection broke off, or could not be made.

    Attributes:
        was_closed: the other side closed the connection before it said anything.
    """

    retryable = overloaded = outage = True
    may_be_billed = True
    was_closed = False


class UnreachableError(EndpointConnectionError):
    """No connection could be made; nothing was sent."""

    may_be_billed = False


class UnsendableError(LMError):
    """The base_url or the key does not make a valid request; nothing was sent."""

    fatal = True


class AuthenticationError(LMError):
    """401, or other words for it: the key is missing or wrong. Or 403: it may not ask this. That is
    every row's error if none succeeds, and the row's if others get through, because a firewall or a
    filter may refuse a single prompt.
    """

    fatal = True


class ModelNotFoundError(LMError):
    """404: no such model or no such URL at this endpoint."""

    fatal = True


class BadRequestError(LMError):
    """Any other 4xx: the endpoint refuses this very request (too long, bad parameter)."""


class ContextLengthError(BadRequestError):
    """The request has more tokens than the model can read."""

    hopeless = True


class BatchRejectedError(LMError):
    """The provider refused a whole batch, or gave no answer to this row of it."""


class BatchTimeoutError(LMError):
    """The provider's batch API did not answer a call in time."""

    retryable = True


class BatchExpiredError(LMError):
    """The batch expired before this row was answered."""

    retryable = True


class InvalidOutputError(AttemptError):
    """The answer does not fit the signature (not JSON, a wrong type, a field that is missing).

    The next attempt starts at once and tells the model what was wrong with the answer.

    Attributes:
        text: the model's answer, None if there was none.
    """

    retryable = True

    def __init__(self, message: str, *, usage: Any = None, text: str | None = None) -> None:
        super().__init__(message, retry_after_s=0.0, usage=usage)
        self.text = text


class OutOfVocabularyError(InvalidOutputError):
    """A class output is none of its labels or aliases."""


class TruncatedOutputError(InvalidOutputError):
    """The answer was cut at `max_tokens`."""


class BrokenOutputError(InvalidOutputError):
    """The endpoint says that the answer ended by an error, or in a way that is not known."""


class EmptyOutputError(InvalidOutputError):
    """The answer has no text."""


class RefusedOutputError(InvalidOutputError):
    """The model or its content filter declined to answer; asking again does not help."""

    retryable = False
    hopeless = True


class ModuleOutputError(AttemptError):
    """A module returned something that cannot become columns."""


class ThreadsBusyError(AttemptError):
    """Too many calls of a function go on in their threads after their `timeout_s`."""

    retryable = overloaded = True


class LocalModelError(PardspyError):
    """The embedded model cannot be fetched, verified or started."""


class StoreError(PardspyError):
    """Stored answers cannot be read, or new answers cannot be stored."""


class ParallelError(PardspyError):
    """A run ended early. Nothing that was paid for is lost.

    Attributes:
        df: every row of the run with its status, as `run_parallel` would return it.
        errors: the failed rows' exceptions, in row order.
    """

    why = "the run ended early"

    def __init__(self, message: str, *, df: Any = None, errors: Sequence[BaseException] = ()):
        super().__init__(message)
        self.df = df
        self.errors = list(errors)

    def _render_traceback_(self) -> list[str]:
        """What IPython shows in place of a traceback: the cell is not at fault, nor are lines of
        the engine."""
        return [f"\x1b[31m{type(self).__name__}\x1b[0m: {self}"]


class FailFast(ParallelError):
    """A row failed under `fail_fast=True`."""

    why = "a row failed and fail_fast is on"


class TooManyFailures(ParallelError):
    """More rows failed than `max_failures` tolerates."""

    why = "more rows failed than max_failures tolerates"


class BudgetExceeded(ParallelError):
    """The next request could have cost more than `max_cost_usd` leaves; it was not sent."""

    why = "max_cost_usd does not allow another request"


class AllFailed(ParallelError):
    """No row succeeded, so there is no primary output."""

    why = "no row succeeded"


class RunStopped(ParallelError):
    """The run stopped: a refused key, an unknown model or a failing store.

    To continue would waste requests or lose answers.
    """

    why = "the run was stopped because every further row would fail in the same way"


KNOWN_HOPELESS = "known since"  # in the message of an error that an earlier run met


def remembered_error(error_type: str, message: str, day: str) -> AttemptError:
    """The error of a row that an earlier run found to be hopeless, on this day."""
    kinds: dict[str, type[AttemptError]] = {
        kind.__name__: kind for kind in (RefusedOutputError, ContextLengthError)
    }
    kind = kinds.get(error_type, AttemptError)
    return kind(f"{message} ({KNOWN_HOPELESS} {day}; retry_hopeless=True asks again)")
