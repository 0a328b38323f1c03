"""Attempts that take too long: cancelled, or asked a second time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from .policies import HedgePolicy, straggler_after_s
from .row_queue import Lineup
from .row_task import Flight

_KNOWN_TIMES = 1000  # the latest rows, against which others are judged


class Overtime:
    """Knows how long rows took, and which of those under way take too long.

    Args:
        hedge: when a row is asked a second time, None for never.

    Attributes:
        dropping: whether stragglers are to be cancelled.
    """

    def __init__(self, hedge: HedgePolicy | None) -> None:
        self._hedge = hedge
        self.dropping = False
        self._durations_s: deque[float] = deque(maxlen=_KNOWN_TIMES)  # of rows that succeeded
        self._latencies_s: deque[float] = deque(maxlen=_KNOWN_TIMES)  # of their last attempts
        self._rows = self._twins = 0  # tried; duplicates among their attempts

    @property
    def watches(self) -> bool:
        """Whether there is anything to look for."""
        return self.dropping or self._hedge is not None

    def began(self) -> None:
        """One more row is tried."""
        self._rows += 1

    def succeeded(self, duration_s: float, latency_s: float) -> None:
        """A row took this long, and its last attempt that long."""
        self._durations_s.append(duration_s)
        self._latencies_s.append(latency_s)

    def drop(self, flights: Iterable[Flight], lineup: Lineup, now: float) -> list[Flight]:
        """Cancel the attempts of rows that are stragglers now. Those returned wait for their next
        attempt, and are to be settled."""
        limit_s = straggler_after_s(self._durations_s) if self.dropping else None
        if limit_s is None:
            return []
        began_before = now - limit_s
        for flight in list(flights):
            fresh = not (flight.settled or flight.dropped) and flight.attempts
            if fresh and flight.began <= began_before:
                flight.dropped = True
                for call in flight.calls:
                    call.task.cancel()
        return lineup.began_before(began_before)

    def ask_again(self, flights: Iterable[Flight], lineup: Lineup, now: float) -> None:
        """Have duplicates sent of the attempts that take too long."""
        alone = [f for f in flights if not f.twinned and len(f.calls) == 1]
        for flight in sorted(alone, key=lambda f: f.calls[0].began):  # the oldest first
            after_s = self._after_s()
            if after_s is None or flight.calls[0].began >= now - after_s:
                return
            flight.twinned = True
            self._twins += 1
            lineup.twin(flight)

    def _after_s(self) -> float | None:
        if self._hedge is None:
            return None
        return self._hedge.after_s(self._latencies_s, self._twins, self._rows)

    def let_be(self, flight: Flight) -> None:
        """Its duplicate could not be sent; perhaps later."""
        flight.twinned = False
        self._twins -= 1
