"""Attempts that take too long: cancelled, or asked a second time."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

from .policies import HedgePolicy, straggler_after_s
from .row_queue import RowQueue
from .row_task import RowTask

_KNOWN_TIMES = 1000  # the rows under way are compared with so many of the latest rows


class Stragglers:
    """Records how long rows took, and finds the rows under way that take too long.

    Args:
        hedge: when a row is asked a second time, None for never.
    """

    def __init__(self, hedge: HedgePolicy | None) -> None:
        self._hedge = hedge
        self._durations_s: deque[float] = deque(maxlen=_KNOWN_TIMES)  # of rows that succeeded
        self._latencies_s: deque[float] = deque(maxlen=_KNOWN_TIMES)  # of these rows' last attempts
        self._rows = self._duplicates = 0  # rows tried; duplicate attempts sent for them

    @property
    def may_hedge(self) -> bool:
        """Whether rows may be asked a second time."""
        return self._hedge is not None

    def began(self) -> None:
        """Count one more row as tried."""
        self._rows += 1

    def succeeded(self, duration_s: float, latency_s: float) -> None:
        """Record a successful row: its whole duration, and the latency of its last attempt."""
        self._durations_s.append(duration_s)
        self._latencies_s.append(latency_s)

    def drop(self, row_tasks: Iterable[RowTask], queue: RowQueue, now: float) -> list[RowTask]:
        """Cancel the attempts of rows that are stragglers now.

        Returns:
            The stragglers that wait for their next attempt; the caller settles them.
        """
        limit_s = straggler_after_s(self._durations_s)
        if limit_s is None:
            return []
        began_before = now - limit_s
        for row_task in list(row_tasks):
            fresh = not (row_task.settled or row_task.dropped) and row_task.attempts
            if fresh and row_task.began <= began_before:
                row_task.dropped = True
                for attempt in row_task.in_flight:
                    attempt.task.cancel()
        return queue.began_before(began_before)

    def hedge(self, row_tasks: Iterable[RowTask], queue: RowQueue, now: float) -> None:
        """Queue a duplicate for each attempt that takes too long, the oldest first."""
        alone = [f for f in row_tasks if not f.is_hedged and len(f.in_flight) == 1]
        for row_task in sorted(alone, key=lambda f: f.in_flight[0].began):
            after_s = self._after_s()
            if after_s is None or row_task.in_flight[0].began >= now - after_s:
                return
            row_task.is_hedged = True
            self._duplicates += 1
            queue.duplicate(row_task)

    def _after_s(self) -> float | None:
        if self._hedge is None:
            return None
        return self._hedge.after_s(self._latencies_s, self._duplicates, self._rows)

    def postpone_duplicate(self, row_task: RowTask) -> None:
        """Undo the hedging of a row: its duplicate could not be sent now, but may be sent later."""
        row_task.is_hedged = False
        self._duplicates -= 1
