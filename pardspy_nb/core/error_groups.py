"""Groups failed rows by their error, in bounded memory, for display."""

from __future__ import annotations

import re
from typing import Any, NamedTuple

from .plain_text import printable, writable

_MOST_GROUPS = 50
MOST_LABELS = 12  # of a group's rows
MOST_SHOWN = 1000  # characters of a message
_VARYING = re.compile(r"""0x[0-9a-fA-F]+|\d+|'[^']*'|"[^"]*\"""")


def message_of(error: BaseException) -> str:
    """An exception's message as text that can be shown and written anywhere."""
    try:
        text = str(error)
    except Exception as broken:
        text = f"(its message cannot be read: {type(broken).__name__})"
    return printable(writable(text))


def short_message_of(error: BaseException) -> str:
    """`message_of`, cut after so many characters that it can be shown among others."""
    text = message_of(error)
    return text if len(text) <= MOST_SHOWN else f"{text[:MOST_SHOWN]}… ({len(text):,} characters)"


class ErrorGroup(NamedTuple):
    """Failed rows with one error type and, but for numbers and quotes, one message."""

    error_type: str
    rows: int
    example: Any  # the first such row, by its index label
    message: str  # the message of that row
    labels: tuple[Any, ...] = ()  # the first rows, by their index labels

    @property
    def key(self) -> tuple[str, str]:
        """What its rows have in common, which stays as the group grows."""
        return self.error_type, _pattern(self.message)


def belongs(error_type: str, message: str, error: str | ErrorGroup) -> bool:
    """Whether a failure matches `error`.

    A group matches failures with its error type and its pattern of message. A text matches an
    error type, or a part of a message.
    """
    if isinstance(error, ErrorGroup):
        alike = _pattern(message) == _pattern(error.message)
        return error_type == error.error_type and alike
    return error == error_type or error in message


def _pattern(message: str) -> str:
    return _VARYING.sub("#", message[:200])


class ErrorGroups:
    """Counts failures by group. After fifty groups, new messages of one type share a group."""

    def __init__(self) -> None:
        self._groups: dict[tuple[str, str], ErrorGroup] = {}

    def add(self, error_type: str, message: str, example: Any) -> None:
        """Count one failed row."""
        key = (error_type, _pattern(message))
        if key not in self._groups and len(self._groups) >= _MOST_GROUPS:
            key = (error_type, "")
        known = self._groups.get(key)
        if known is None:
            self._groups[key] = ErrorGroup(error_type, 1, example, message, (example,))
        else:
            more = (example,) if known.rows < MOST_LABELS else ()
            self._groups[key] = known._replace(rows=known.rows + 1, labels=known.labels + more)

    def largest_first(self) -> list[ErrorGroup]:
        """The groups; equally large ones in order of appearance."""
        return sorted(self._groups.values(), key=lambda group: -group.rows)
