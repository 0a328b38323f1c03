"""The messages between a run and its workers. Rows go by number; all messages can be pickled."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import cloudpickle

from ...core.errors import AttemptError
from ...core.events import Event
from ...core.usage import Bound, Usage
from ...engine.rate_limit_headers import Limits

Stop = Literal["soft", "now"]  # start nothing new; and cancel what is in flight


class AttemptRequest(NamedTuple):
    """A worker asks whether an attempt at a row may start. `size` is the row's length (see
    `RateLimiter`), `bound` the most that the attempt can use, where a budget has to know."""

    number: int
    size: float
    bound: Bound | None


class Report(NamedTuple):
    """What happened at a worker since its last report.

    `in_force` is the share that the worker keeps to by now, `limits` what an endpoint's headers
    said. `over` marks the last report, with the worker's own error in `crash` if it broke down.
    """

    events: Sequence[Event] = ()
    requests: Sequence[AttemptRequest] = ()
    in_force: int | None = None
    limits: Limits | None = None
    over: bool = False
    crash: BaseException | None = None


class Command(NamedTuple):
    """How a worker is to go on. The latest command holds.

    Attributes:
        share: rows that the worker may have in flight.
        stop: whether to start nothing new (`"soft"`) and to cancel what is in flight (`"now"`).
        failure_allowance: rows that may fail there; after more failures the worker starts nothing
            until a command allows more. None for any number.
        must_request: whether the worker must request each attempt.
        granted: numbers of rows whose next attempt may start.
    """

    share: int
    is_paused: bool = False
    drops_stragglers: bool = False
    stop: Stop | None = None
    failure_allowance: int | None = None
    must_request: bool = False
    granted: Sequence[int] = ()


class RemoteError(AttemptError):
    """Stands for an error of another process that cannot come over as it is."""

    def __reduce__(self) -> Any:
        return stand_in, (type(self).__name__, str(self), dict(self.__dict__))


class TransferError(AttemptError):
    """A row's inputs, or its answer, cannot go from one process to another."""


class Sealed(NamedTuple):
    """An event that perhaps cannot be loaded elsewhere; `plain` says as much as surely can."""

    plain: Any
    dumped: bytes


class PartError(Exception):
    """A part of a table could not be run or written; `reason` is the run's (see `RunFinished`)."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason

    def __str__(self) -> str:
        return str(self.args[1])


def dumps(message: Any) -> bytes:
    """A message as bytes; functions and classes of a notebook are taken along."""
    try:
        dumped = pickle.dumps(message, 5)
    except Exception:  # of a notebook's own making
        dumped = b"__main__"
    if b"__main__" in dumped:  # by name, which the other process does not have
        dumped = cloudpickle.dumps(message)
    return dumped


def loads(dumped: bytes) -> Any:
    """What `dumps` was given."""
    return pickle.loads(dumped)


def report_as_bytes(report: Report) -> bytes:
    """A report that arrives, whatever is in it."""
    events = [event if _is_plain(event) else _sealed(event) for event in report.events]
    crash = None if report.crash is None else _sendable(report.crash)
    return dumps(report._replace(events=events, crash=crash))


def report_from_bytes(dumped: bytes) -> Report:
    """What `report_as_bytes` was given, as far as it can be loaded here."""
    report: Report = loads(dumped)
    return report._replace(
        events=[_opened(e) if isinstance(e, Sealed) else e for e in report.events]
    )


def stand_in(name: str, words: str, about: Mapping[str, Any]) -> RemoteError:
    """An error of this name that says what another process's said."""
    made: RemoteError = type(name, (RemoteError,), {})(words)
    made.__dict__.update(about)
    return made


def _is_plain(event: Any) -> bool:
    """Whether an event is of nothing that another process might not have."""
    answer, error = getattr(event, "answer", None), getattr(event, "error", None)
    return (error is None or _is_ours(error)) and (
        answer is None or all(map(_is_plain_value, answer.outputs.values()))
    )


def _is_ours(error: BaseException) -> bool:
    known = type(error).__module__.startswith(("pardspy_nb.", "builtins"))
    return known and all(map(_is_plain_value, (*error.args, *vars(error).values())))


def _is_plain_value(value: Any) -> bool:
    if value is None or type(value) in (str, int, float, bool, Usage):
        return True
    if type(value) in (list, tuple):
        return all(map(_is_plain_value, value))
    return type(value) is dict and all(map(_is_plain_value, (*value, *value.values())))


def _sealed(event: Any) -> Any:
    error = None if event.error is None else _stand_in_for(event.error)
    plain = event._replace(error=error)
    if getattr(event, "answer", None) is not None:
        lost = TransferError(
            "the answer cannot be sent from the worker, or not be loaded here: "
            "let the module return text, numbers, lists and dicts"
        )
        plain = plain._replace(status="failed", answer=None, error=lost)
    try:
        return Sealed(plain, cloudpickle.dumps(event))
    except Exception:  # whatever the user's classes raise
        return plain


def _opened(sealed: Sealed) -> Any:
    try:
        event = loads(sealed.dumped)
        error, told = event.error, sealed.plain.error
        same = error is None or (type(error).__name__, str(error)) == (
            type(told).__name__,
            str(told),
        )
        return event if same else sealed.plain
    except Exception:
        return sealed.plain


def _sendable(error: BaseException) -> BaseException:
    return error if _is_ours(error) else _stand_in_for(error)


def _stand_in_for(error: BaseException) -> RemoteError:
    names = (
        "retryable",
        "retry_after_s",
        "fatal",
        "outage",
        "rate_limited",
        "overloaded",
        "may_be_billed",
        "status_code",
        "usage",
    )
    about = {n: v for n in names if _is_plain_value(v := getattr(error, n, None)) and v is not None}
    return stand_in(type(error).__name__, str(error), about)
