"""Rows that need no attempt: their answer is remembered, or an equal row is under way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable

from ..core.events import Answer, Row, Status
from .protocols import Memory
from .row_task import Flight

_MOST_FOLLOWERS = 10_000  # rows that wait for an equal one, before no new ones are pulled
Settle = Callable[[Flight, Status, Answer | None], None]


class Sparing:
    """What an engine spares, by way of a `Memory`.

    Args:
        settle: settles a row.
    """

    def __init__(self, memory: Memory, settle: Settle) -> None:
        self._memory, self._settle = memory, settle
        self._leaders: dict[bytes, Flight] = {}  # rows under way, by key
        self._following = 0

    @property
    def is_full(self) -> bool:
        """Whether so many rows wait for others that no new ones should come."""
        return self._following >= _MOST_FOLLOWERS

    def followers(self) -> list[Flight]:
        """The rows that wait for an equal one. From any thread."""
        return [f for leader in list(self._leaders.values()) for f in leader.followers]

    def leading(self, rows: Iterable[Row]) -> list[Row]:
        """Of rows that come next those that would not follow an equal one."""
        found: dict[object, Row] = {}
        for row in rows:
            key = self._memory.key(row)
            if key is None or key not in self._leaders:
                found.setdefault(row.number if key is None else key, row)
        return list(found.values())

    def spares(self, flight: Flight) -> bool:
        """Settle a row whose answer is remembered; let it follow an equal one under way. The
        memory's errors are passed on."""
        if flight.attempts or flight.looked_up:
            return False
        key = flight.key = self._memory.key(flight.row)
        leader = None if key is None else self._leaders.setdefault(key, flight)
        if leader is not None and leader is not flight:
            leader.followers.append(flight)
            self._following += 1
            return True
        answer = self._memory.recall(flight.row, key)
        flight.looked_up = True
        if answer is None:
            return False
        self._settle(flight, "ok", answer)
        return True

    async def keep(self, flight: Flight, answer: Answer) -> None:
        """Remember a new answer. The memory's errors are passed on; a cancellation is not: the
        answer is here and paid for, so it counts, and is being written."""
        with contextlib.suppress(asyncio.CancelledError):
            await self._memory.remember(flight.row, flight.key, flight.billed(answer))

    def share(self, flight: Flight, status: Status, answer: Answer | None, ending: bool) -> None:
        """Settle the rows that waited for this one; while the run is `ending` they did not run,
        unless there is an answer, or it failed."""
        if flight.key is None or self._leaders.get(flight.key) is not flight:
            return
        del self._leaders[flight.key]
        self._following -= len(flight.followers)
        for follower in flight.followers:
            if answer is not None:
                shared = self._memory.shared(follower.row, flight.billed(answer))
                self._settle(follower, "ok", shared)
            elif status == "failed" or not ending:
                follower.error = flight.error
                self._settle(follower, status, None)
            else:
                self._settle(follower, "not_run", None)
