"""The interfaces around an engine: a cache of answers and limiters, which an engine may be given,
and the runner, which an engine is."""

from __future__ import annotations

import math
from typing import Protocol

from ..core.events import Answer, Event, Made, Row
from .controls import RunControls

UNTIL_ONE_LEAVES = math.inf  # a wait that ends only when another attempt ends


class Runner(Protocol):
    """Runs rows: an engine, or the coordinator of many engines.

    Attributes:
        controls: the run's settings.
    """

    @property
    def controls(self) -> RunControls: ...

    async def run(self) -> None:
        """Run to the end. Every pulled row ends with exactly one `RowFinished`."""

    def abandoned_events(self) -> list[Event]:
        """The closing events of the open rows and of the run, as if they ended now. For a caller
        on another thread that gives up the run."""


class Cache(Protocol):
    """The answers that are known. All methods but `put` must be quick. If a method raises, the run
    stops rather than pay twice."""

    def key(self, row: Row) -> bytes | None:
        """The key of a row's answer: rows with equal keys have the same answer. None if unknown."""

    def get(self, row: Row, key: bytes | None) -> Answer | None:
        """The stored answer, or None."""

    def wait_s(self, row: Row, key: bytes | None) -> float:
        """Seconds until a row is looked up again that another run has under way; 0 if this run is
        to ask it."""

    def release(self, key: bytes | None) -> None:
        """The row that this run was to ask has got no answer."""

    def known_failure(self, key: bytes | None) -> Exception | None:
        """The error of a row that was refused for good before, None if it was not."""

    def copy_for(self, row: Row, answer: Answer, made: Made) -> Answer:
        """A copy, for `row`, of an answer that a row with an equal key just got."""

    async def put(self, row: Row, key: bytes | None, answer: Answer, made: Made) -> None:
        """Store a new answer, with the usage of all attempts. The row is settled once this method
        returns."""

    def put_failure(self, key: bytes | None, error: BaseException) -> None:
        """Store that a row was refused for good."""


class Limiter(Protocol):
    """Decides when an attempt may start. `now` is the loop's time, in seconds.

    An attempt starts once no limiter makes it wait. Then `enter` of each limiter is called, and
    `leave` when the attempt is over. A row that waits is not overtaken by the rows behind it.
    """

    def wait_s(self, row: Row, now: float) -> float:
        """Seconds until an attempt at this row may start; 0 if it may start now.

        The limiter is asked again after this time at the latest, and whenever an attempt has left.
        `UNTIL_ONE_LEAVES` is allowed only while an attempt is under way. An exception ends the
        run; the exception's `reason`, if there is one, is the run's reason.
        """

    def enter(self, row: Row, now: float) -> None:
        """An attempt starts. The attempt counts from this call on, even before it is under way."""

    def leave(self, row: Row, outcome: Answer | BaseException | None, now: float) -> None:
        """An attempt that entered is over. `outcome` is None if the attempt did not begin."""
