"""What a run and its sites tell each other. Rows go by number; all of it can be pickled."""

from __future__ import annotations

import pickle
from collections.abc import Sequence
from typing import Any, Literal, NamedTuple

import cloudpickle

from ..errors import AttemptError
from ..events import Event
from ..limits import Limits
from ..lm import Bound

Stop = Literal["soft", "now"]  # start nothing new; and cancel what is in flight


class Ask(NamedTuple):
    """A site asks whether an attempt at a row may start. `size` is the row's length (see `Pace`),
    `bound` the most that the attempt can use, where a budget has to know."""

    number: int
    size: float
    bound: Bound | None


class Report(NamedTuple):
    """What happened at a site since its last report.

    `in_force` is the number of workers that it keeps to by now, `limits` what an endpoint's
    headers said; `over` is the last report, with the site's own error if it broke down.
    """

    events: Sequence[Event] = ()
    asks: Sequence[Ask] = ()
    in_force: int | None = None
    limits: Limits | None = None
    over: bool = False
    crash: BaseException | None = None


class Orders(NamedTuple):
    """How a site is to go on; the latest count.

    After more than `tolerated` failures of its own, None for any number, the site starts nothing
    until more are; with `asks` it asks before each attempt, and `granted` are rows whose next
    attempt may start.
    """

    workers: int
    paused: bool = False
    dropping: bool = False
    stop: Stop | None = None
    tolerated: int | None = None
    asks: bool = False
    granted: Sequence[int] = ()


class RemoteError(AttemptError):
    """Stands for an error of another process that cannot be sent as it is."""


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
    """A report whose errors arrive, whatever they are."""
    events = [_sendable(event) for event in report.events]
    crash = None if report.crash is None else _sendable_error(report.crash)
    return dumps(report._replace(events=events, crash=crash))


def _sendable(event: Any) -> Any:
    error = getattr(event, "error", None)
    return event if error is None else event._replace(error=_sendable_error(error))


def _sendable_error(error: BaseException) -> BaseException:
    """The error if it survives the way, else one of its name and words."""
    try:
        copy = loads(cloudpickle.dumps(error))
        if type(copy).__name__ == type(error).__name__ and str(copy) == str(error):
            return error
    except Exception:  # exceptions may take any arguments, and hold anything
        pass
    kind = type(type(error).__name__, (RemoteError,), {})
    sent: RemoteError = kind(str(error))
    for name in ("retryable", "fatal", "rate_limited", "overloaded", "may_be_billed", "usage"):
        if (value := getattr(error, name, None)) is not None:
            setattr(sent, name, value)
    return sent
