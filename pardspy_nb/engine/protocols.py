"""What an engine may be given beside its rows (a memory of answers, gates before attempts), and
what it offers itself."""

from __future__ import annotations

import math
from typing import Protocol

from ..core.events import Answer, Event, Row

UNTIL_ONE_LEAVES = math.inf  # a gate's wait that only another attempt's end can end


class Controllable(Protocol):
    """What can be done to a run while it goes on; on its loop's thread."""

    def set_workers(self, n: int) -> None:
        """Change the number of rows in flight; surplus rows in flight finish first."""

    def pause(self) -> None:
        """Start nothing new; rows in flight finish."""

    def resume(self) -> None:
        """Go on after `pause`."""

    def drop_stragglers(self) -> None:
        """From now on cancel rows that are under way for much longer than the others took."""

    def stop(self, reason: str, error: BaseException | None = None, *, now: bool) -> None:
        """Start nothing new, and cancel what is in flight if `now`. The first reason counts."""

    def release(self, number: int) -> None:
        """Rows below this number are done with, so that later ones may be pulled."""


class Runner(Controllable, Protocol):
    """What runs rows: an engine, or many of them."""

    async def run(self) -> None:
        """Run to the end; every row pulled ends in exactly one `RowFinished`."""

    def stop_taking(self) -> None:
        """Start nothing new. From any thread."""

    def abandoned_events(self) -> list[Event]:
        """How the rows pulled and the run would end if they ended now; from another thread, for
        who gives up on it."""


class Cache(Protocol):
    """Answers that need not be asked for again. All but `remember` must be quick; if one raises,
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
