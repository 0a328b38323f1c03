"""What an engine may be given beside its rows (a cache of answers, limiters of attempts), and
what it offers itself."""

from __future__ import annotations

import math
from typing import Protocol

from ..core.events import Answer, Event, Row
from .controls import RunControls

UNTIL_ONE_LEAVES = math.inf  # a wait that only the end of another attempt can end


class Runner(Protocol):
    """What runs rows: an engine, or the coordinator of many.

    Attributes:
        controls: the run's settings.
    """

    @property
    def controls(self) -> RunControls: ...

    async def run(self) -> None:
        """Run to the end; every row pulled ends in exactly one `RowFinished`."""

    def abandoned_events(self) -> list[Event]:
        """The last events of the rows pulled and of the run, if they ended now. From another
        thread, for who gives up on it."""


class Cache(Protocol):
    """Answers that need not be asked for again. All methods but `put` must be quick. If one raises,
    the run stops rather than pay twice."""

    def key(self, row: Row) -> bytes | None:
        """What decides a row's answer: rows of equal keys have one. None if that is not known."""

    def get(self, row: Row, key: bytes | None) -> Answer | None:
        """The remembered answer, or None."""

    def copy_for(self, row: Row, answer: Answer) -> Answer:
        """An answer just given to a row of an equal key, as that of `row`."""

    async def put(self, row: Row, key: bytes | None, answer: Answer) -> None:
        """Keep a new answer, with the usage of all attempts; the row is settled once this
        returns."""


class Limiter(Protocol):
    """Decides when an attempt may start. `now` is the loop's time, in seconds.

    An attempt starts once no limiter makes it wait; then each limiter is told that the attempt
    entered, and when it is over. Rows behind one that waits do not overtake it.
    """

    def wait_s(self, row: Row, now: float) -> float:
        """Seconds until an attempt at this row may start, 0 for now; at the latest then, and
        whenever an attempt has left, it is asked again. `UNTIL_ONE_LEAVES` is for when there is
        an attempt to leave. Raises to end the run, for the error's `reason` if it has one."""

    def enter(self, row: Row, now: float) -> None:
        """An attempt starts. It counts from here on, not from when it is under way."""

    def leave(self, row: Row, outcome: Answer | BaseException | None, now: float) -> None:
        """An attempt that entered is over; None if it did not begin."""
