"""What an engine may be given beside its rows: a memory of answers, and a gate before attempts."""

from __future__ import annotations

from typing import Protocol

from .events import Answer, Row


class Memory(Protocol):
    """Answers that need not be asked for again. All but `remember` must be quick; if one raises,
    the run stops rather than pay twice."""

    def key(self, row: Row) -> bytes | None:
        """What decides a row's answer: rows of equal keys have one. None if that is not known."""

    def recall(self, row: Row, key: bytes | None) -> Answer | None:
        """The remembered answer, or None."""

    def shared(self, row: Row, answer: Answer) -> Answer:
        """An answer just given to a row of an equal key, as that of `row`."""

    async def remember(self, row: Row, key: bytes | None, answer: Answer) -> None:
        """Keep a new answer, with the usage of all attempts; the row is settled once this
        returns."""


class Gate(Protocol):
    """Decides when an attempt may start."""

    def admit(self, row: Row) -> bool:
        """Whether an attempt at this row may start now; if not, rows wait until another attempt
        has left. False is for when there is another. Raises to end the run."""

    def leave(self, row: Row, outcome: Answer | BaseException | None) -> None:
        """An admitted attempt is over; None if it did not begin."""
