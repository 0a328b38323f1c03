"""The messages between a run and its workers. Messages name rows by number, and can be pickled."""

from __future__ import annotations

import pickle
from collections.abc import Mapping, Sequence
from typing import Any, Literal, NamedTuple

import cloudpickle

from ...core.errors import AttemptError
from ...core.events import Event
from ...core.usage import Bound, Usage
from ...engine.rate_limit_headers import Limits

Stop = Literal["soft", "now"]  # soft: start no new rows; now: also cancel the rows in flight


class AttemptRequest(NamedTuple):
    """A worker asks whether an attempt at a row may start.

    `size` is the row's length (see `RateLimiter`). `bound` is the most that the attempt can use;
    None without a budget.
    """

    number: int
    size: float
    bound: Bound | None


class Report(NamedTuple):
    """What happened at a worker since its last report.

    `in_force` is the share that the worker follows by now. `limits` are the limits in an endpoint's
    headers. `over` marks the last report; `crash` is the error if the worker itself failed.
    """

    events: Sequence[Event] = ()
    requests: Sequence[AttemptRequest] = ()
    in_force: int | None = None
    limits: Limits | None = None
    over: bool = False
    crash: BaseException | None = None


class Command(NamedTuple):
    """A command of the coordinator to a worker. The latest command holds.

    Attributes:
        share: rows that the worker may have in flight.
        stop: `"soft"` to start no new rows, `"now"` to cancel the rows in flight, too.
        failure_allowance: rows that may fail at the worker; after more failures the worker starts
            no rows until a command allows more. None for any number.
        must_request: whether the worker must request each attempt before it starts.
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
    """Stands for an error of another process that cannot be sent unchanged."""

    def __reduce__(self) -> Any:
        return stand_in, (type(self).__name__, str(self), dict(self.__dict__))


class TransferError(AttemptError):
    """A row's inputs, or its answer, cannot be sent from one process to another."""


class Sealed(NamedTuple):
    """A pickled event that another process may be unable to load. `plain` is a substitute that
    every process can load."""

    plain: Any
    dumped: bytes


class PartitionError(Exception):
    """A partition could not be run or written. `reason` is the run's reason (see `RunFinished`)."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(reason, message)
        self.reason = reason

    def __str__(self) -> str:
        return str(self.args[1])


def dumps(message: Any) -> bytes:
    """A message as bytes, together with the notebook's functions and classes in it."""
    try:
        dumped = pickle.dumps(message, 5)
    except Exception:  # it holds objects of the notebook that pickle cannot store
        dumped = b"__main__"
    if b"__main__" in dumped:  # refers by name to objects that the other process does not have
        dumped = cloudpickle.dumps(message)
    return dumped


def loads(dumped: bytes) -> Any:
    """The message that was given to `dumps`."""
    return pickle.loads(dumped)


def report_as_bytes(report: Report) -> bytes:
    """A report as bytes that another process can always load, whatever the report holds."""
    events = [event if _is_plain(event) else _sealed(event) for event in report.events]
    crash = None if report.crash is None else _sendable(report.crash)
    return dumps(report._replace(events=events, crash=crash))


def report_from_bytes(dumped: bytes) -> Report:
    """The report given to `report_as_bytes`; events that cannot be loaded are substituted."""
    report: Report = loads(dumped)
    return report._replace(
        events=[_opened(e) if isinstance(e, Sealed) else e for e in report.events]
    )


def stand_in(name: str, words: str, about: Mapping[str, Any]) -> RemoteError:
    """An error with the class name, message and attributes of another process's error."""
    made: RemoteError = type(name, (RemoteError,), {})(words)
    made.__dict__.update(about)
    return made


def _is_plain(event: Any) -> bool:
    """Whether an event holds only types that every process has."""
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
            "the answer cannot be sent from the worker, or cannot be loaded in this process: "
            "let the module return text, numbers, lists and dicts"
        )
        plain = plain._replace(status="failed", answer=None, error=lost)
    try:
        return Sealed(plain, cloudpickle.dumps(event))
    except Exception:  # the user's classes may raise any error
        return plain


def _opened(sealed: Sealed) -> Any:
    try:
        event = loads(sealed.dumped)
        error, substitute = event.error, sealed.plain.error
        same = error is None or (type(error).__name__, str(error)) == (
            type(substitute).__name__,
            str(substitute),
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
