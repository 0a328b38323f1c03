"""What a fleet sends out: rows, or whole parts of a table that nobody has here."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Protocol

from ...core.events import Answer, Row, Status
from ...engine.deduplication import Settle, Sparing
from ...engine.protocols import Memory
from ...engine.row_queue import Lineup
from ...engine.row_task import Flight

_SPARED_A_TURN = 100  # rows settled without an attempt before the loop may see to something else


class Parcel:
    """Rows that go to a site together.

    Attributes:
        flights: the rows, by number.
        part: the position of the first row, if they are a part of a table that the site gets
            itself; None where the rows hold their inputs. Of a part it is told when it is done
            with, beside what became of its rows; otherwise it is sent again.
    """

    __slots__ = ("flights", "number", "part")

    def __init__(self, number: int, flights: dict[int, Flight], part: int | None = None) -> None:
        self.number, self.flights, self.part = number, flights, part

    @property
    def is_told(self) -> bool:
        """Whether its end is told beside those of its rows."""
        return self.part is not None


class Source(Protocol):
    """What there is to send.

    Attributes:
        is_empty: nothing will come any more, unless something is given back.
        left: how many rows are still to be sent, None where that is not known.
        is_by_row: rows may be sent singly.
    """

    is_by_row: bool

    @property
    def is_empty(self) -> bool: ...

    @property
    def left(self) -> int | None: ...

    def open(
        self,
        loop: asyncio.AbstractEventLoop,
        wake: Callable[[], None],
        broke: Callable[[BaseException, str], None],
        settle: Settle,
    ) -> None:
        """Begin. `wake` is to be called when there may be more, `broke` with an error and the
        reason it is for the run to end, `settle` for rows that need no site."""

    def take(self, room: int) -> Parcel | None:
        """What is sent to a site with room for so many rows; None if there is nothing now."""

    def give_back(self, parcels: Iterable[Parcel], flights: Iterable[Flight]) -> None:
        """Send these once more, to another site; rows that are settled are not asked again,
        unless they come with their part."""

    async def keep(self, flight: Flight, answer: Answer) -> None:
        """Remember an answer; the row is settled once this returns."""

    def settled(self, flight: Flight, status: Status, answer: Answer | None, ending: bool) -> None:
        """A row is settled; `ending` if the run is."""

    def release(self, number: int) -> None:
        """See `protocols.Steerable`."""

    def close(self) -> list[Flight]:
        """Send nothing more; the rows pulled and not sent."""


class RowSource:
    """Rows that are at hand here.

    Args:
        rows, blocking, memory, most_ahead: as for `Engine`.
        total: how many there are, None if that is not known.
    """

    is_by_row = True

    def __init__(
        self,
        rows: Iterator[Row],
        *,
        blocking: bool,
        total: int | None,
        memory: Memory | None = None,
        most_ahead: int | None = None,
    ) -> None:
        self._rows, self._blocking, self._total = rows, blocking, total
        self._memory, self._most_ahead, self._released = memory, most_ahead, 0
        self._lineup: Lineup | None = None
        self._sparing: Sparing | None = None
        self._parcels = self._pulled = 0
        self._returned: set[int] = set()  # numbers of rows that are pulled again

    def open(
        self,
        loop: asyncio.AbstractEventLoop,
        wake: Callable[[], None],
        broke: Callable[[BaseException, str], None],
        settle: Settle,
    ) -> None:
        """See `Source`."""
        self._loop, self._wake, self._broke, self._settle = loop, wake, broke, settle
        self._lineup = Lineup(
            self._rows,
            loop,
            lanes=None,
            blocking=self._blocking,
            wake=wake,
            broke=lambda error: broke(error, "source"),
        )
        if self._memory is not None:
            self._sparing = Sparing(self._memory, settle)

    @property
    def is_empty(self) -> bool:
        """See `Source`."""
        if self._lineup is None:
            return False
        return not len(self._lineup) and (self._lineup.is_empty or self._pulled == self._total)

    @property
    def left(self) -> int | None:
        """See `Source`."""
        here = 0 if self._lineup is None else len(self._lineup)
        return None if self._total is None else self._total - self._pulled + here

    def take(self, room: int) -> Parcel | None:
        """See `Source`."""
        flights: dict[int, Flight] = {}
        for _ in range(room + _SPARED_A_TURN):
            flight = self._next() if len(flights) < room else None
            if flight is None:
                break
            if not self._is_spared(flight):
                flights[flight.row.number] = flight
        else:
            self._loop.call_soon(self._wake)
        self._parcels += 1
        return Parcel(self._parcels, flights) if flights else None

    def _next(self) -> Flight | None:
        assert self._lineup is not None
        ahead, full = self._most_ahead, self._sparing is not None and self._sparing.is_full
        may_pull = not full and (ahead is None or self._pulled < self._released + ahead)
        flight = self._lineup.take(fresh=may_pull)
        if flight is not None and flight.row.number not in self._returned:
            self._pulled += 1
        return flight

    def _is_spared(self, flight: Flight) -> bool:
        if flight.settled:
            return True
        try:
            return self._sparing is not None and self._sparing.spares(flight)
        except Exception as error:
            self._broke(error, "store")
            self._settle(flight, "not_run", None)
            return True

    def give_back(self, parcels: Iterable[Parcel], flights: Iterable[Flight]) -> None:
        """See `Source`."""
        if self._lineup is not None:
            for flight in reversed(list(flights)):
                if not flight.settled:
                    self._returned.add(flight.row.number)
                    self._lineup.give_back(flight)

    async def keep(self, flight: Flight, answer: Answer) -> None:
        """See `Source`."""
        if self._sparing is not None:
            await self._sparing.keep(flight, answer)

    def settled(self, flight: Flight, status: Status, answer: Answer | None, ending: bool) -> None:
        """See `Source`."""
        if self._sparing is not None:
            self._sparing.share(flight, status, answer, ending)

    def release(self, number: int) -> None:
        """See `Source`."""
        self._released = number

    def close(self) -> list[Flight]:
        """See `Source`."""
        held = [] if self._lineup is None else self._lineup.close()
        led = [] if self._sparing is None else self._sparing.followers()
        return [f for f in (*held, *led) if not f.settled]


class PartSource:
    """Parts of a table that sites get themselves: here only their rows' numbers are known.

    Args:
        lengths: rows of each part, in order.
        repeat: samples of each row.
    """

    is_by_row = False

    def __init__(self, lengths: Sequence[int], repeat: int) -> None:
        firsts = accumulate(lengths, initial=0)
        self._waiting: deque[Parcel | tuple[int, int, int]] = deque(
            (number, first, rows)
            for number, (first, rows) in enumerate(zip(firsts, lengths, strict=False))
            if rows
        )
        self._repeat = repeat

    def open(
        self,
        loop: asyncio.AbstractEventLoop,
        wake: Callable[[], None],
        broke: Callable[[BaseException, str], None],
        settle: Settle,
    ) -> None:
        """See `Source`."""

    @property
    def is_empty(self) -> bool:
        """See `Source`."""
        return not self._waiting

    @property
    def left(self) -> int | None:
        """See `Source`."""
        return None  # parts are sent whole

    def take(self, room: int) -> Parcel | None:
        """See `Source`."""
        if not self._waiting:
            return None
        waiting = self._waiting.popleft()
        return waiting if isinstance(waiting, Parcel) else self._parcel(*waiting)

    def _parcel(self, number: int, first: int, rows: int) -> Parcel:
        flights = {}
        for position in range(first, first + rows):
            for sample in range(self._repeat):
                row = Row(position * self._repeat + sample, position, sample, {})
                flights[row.number] = Flight(row)
        return Parcel(number, flights, part=first)

    def give_back(self, parcels: Iterable[Parcel], flights: Iterable[Flight]) -> None:
        """See `Source`."""
        self._waiting.extendleft(parcels)

    async def keep(self, flight: Flight, answer: Answer) -> None:
        """See `Source`."""

    def settled(self, flight: Flight, status: Status, answer: Answer | None, ending: bool) -> None:
        """See `Source`."""

    def release(self, number: int) -> None:
        """See `Source`."""

    def close(self) -> list[Flight]:
        """See `Source`."""
        sent = [p for p in self._waiting if isinstance(p, Parcel)]
        return [f for parcel in sent for f in parcel.flights.values() if not f.settled]
