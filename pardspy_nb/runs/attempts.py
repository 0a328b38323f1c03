"""What became of failed attempts, for a row's story (see `row_story`)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from ..core.error_groups import message_of
from ..core.events import AttemptFailed, RowFinished
from ..store.decisions import row_key

_LEAST = 300  # what an attempt takes beside its texts
_ENDS = 2_000  # characters of what came back, at either end
MOST_KEPT = 3_000_000  # characters of a run; of more, the latest rows are kept


class FailedAttempt(NamedTuple):
    """One attempt that brought no answer.

    Attributes:
        came_back: the ends of what the model answered, None if it did not.
        is_outage: whether the row waited for the endpoint, and not because of its own answer.
        waited_s: until the next attempt; None if there was none.
    """

    number: int
    error_type: str
    error: str
    came_back: str | None
    latency_ms: float | None
    is_outage: bool
    waited_s: float | None


class FailedAttempts:
    """The failed attempts of a run's rows, by the row's inputs and sample. A row that succeeded at
    once takes no memory."""

    def __init__(self) -> None:
        self._of: dict[tuple[str, int], list[FailedAttempt]] = {}
        self._kept = 0  # characters

    def add(self, event: AttemptFailed | RowFinished) -> None:
        """Keep a failed attempt. Inputs that cannot be written as text have no story."""
        error = event.error
        if error is None or (isinstance(event, RowFinished) and not event.attempts):
            return
        try:
            key = row_key(event.row.inputs), event.row.sample
        except Exception:  # the user's objects
            return
        is_last = isinstance(event, RowFinished)
        number = event.attempts if isinstance(event, RowFinished) else event.attempt
        text = getattr(error, "text", None)
        kept = self._of.pop(key, [])
        attempt = FailedAttempt(
            number,
            type(error).__name__,
            _ends(message_of(error)) or "",
            _ends(text) if isinstance(text, str) else None,
            event.latency_ms,
            bool(getattr(error, "outage", False)),
            None if is_last else getattr(event, "retry_in_s", None),
        )
        kept.append(attempt)
        self._of[key] = kept
        self._kept += _size(attempt)
        while self._kept > MOST_KEPT and len(self._of) > 1:
            oldest = self._of.pop(next(iter(self._of)))
            self._kept -= sum(map(_size, oldest))

    def of(self, inputs: Mapping[str, Any], sample: int) -> list[FailedAttempt]:
        """The failed attempts of a row, the first one first."""
        try:
            return list(self._of.get((row_key(inputs), sample), ()))
        except Exception:
            return []


def _size(attempt: FailedAttempt) -> int:
    return _LEAST + len(attempt.error) + len(attempt.came_back or "")


def _ends(text: str | None) -> str | None:
    if text is None or len(text) <= 2 * _ENDS:
        return text
    return f"{text[:_ENDS]} … {text[-_ENDS:]}"
