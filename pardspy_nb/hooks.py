"""What an engine may be given beside its rows: a memory of answers, and gates before attempts."""

from __future__ import annotations

import math
from typing import Protocol

from .events import Answer, Row

UNTIL_ONE_LEAVES = math.inf  # a gate's wait that only another attempt's end can end


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
    """Decides when an attempt may start. `now` is the loop's time, in seconds.

    An attempt starts once no gate makes it wait; then each is told that it entered, and when it
    is over. Rows behind one that waits do not overtake it.
    """

    def wait_s(self, row: Row, now: float) -> float:
        """Seconds until an attempt at this row may start, 0 for now; at the latest then, and
        whenever an attempt has left, it is asked again. `UNTIL_ONE_LEAVES` is for when there is
        an attempt to leave. Raises to end the run, for the error's `reason` if it has one."""

    def enter(self, row: Row, now: float) -> None:
        """An attempt starts. It counts from here on, not from when it is under way."""

    def leave(self, row: Row, outcome: Answer | BaseException | None, now: float) -> None:
        """An attempt that entered is over; None if it did not begin."""
