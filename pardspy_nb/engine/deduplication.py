"""Rows that need no attempt: the cache has their answer, or an equal row is under way."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterable

from ..core.events import Answer, Row, Status
from .protocols import Cache
from .row_task import RowTask

MAX_FOLLOWERS = 10_000  # with so many rows waiting for an equal row, no new rows are pulled
Settle = Callable[[RowTask, Status, Answer | None], None]


class Deduplicator:
    """Finds the rows that need no attempt.

    Args:
        cache: the answers that are known.
        settle: settles a row.
        fail: ends a row with its error.
        wait: has a row come again after so many seconds; None if other runs do not count.
    """

    def __init__(
        self,
        cache: Cache,
        settle: Settle,
        fail: Callable[[RowTask], None],
        wait: Callable[[RowTask, float], None] | None = None,
    ) -> None:
        self._cache, self._settle, self._fail, self._wait = cache, settle, fail, wait
        self._leaders: dict[bytes, RowTask] = {}  # rows under way, by key
        self._following = 0

    @property
    def is_full(self) -> bool:
        """Whether too many rows wait for equal rows, so that no new rows should be pulled."""
        return self._following >= MAX_FOLLOWERS

    def followers(self) -> list[RowTask]:
        """The rows that wait for an equal row. May be called from any thread."""
        return [f for leader in list(self._leaders.values()) for f in leader.followers]

    def next_to_ask(self, rows: Iterable[Row]) -> list[Row]:
        """Those of the given rows that would not wait for an equal row."""
        found: dict[object, Row] = {}
        for row in rows:
            key = self._cache.key(row)
            if key is None or key not in self._leaders:
                found.setdefault(row.number if key is None else key, row)
        return list(found.values())

    def needs_no_attempt(self, row_task: RowTask) -> bool:
        """Whether a row needs no attempt.

        If the cache has the row's answer, the row is settled. If an equal row is under way, the
        row waits for the outcome of that row. Errors of the cache are passed on.
        """
        if row_task.attempts or row_task.was_looked_up:
            return False
        key = row_task.key = self._cache.key(row_task.row)
        leader = None if key is None else self._leaders.setdefault(key, row_task)
        if leader is not None and leader is not row_task:
            leader.followers.append(row_task)
            self._following += 1
            return True
        answer = self._cache.get(row_task.row, key)
        row_task.was_looked_up = True
        if answer is not None:
            self._settle(row_task, "ok", answer)
            return True
        if (error := self._cache.known_failure(key)) is not None:
            row_task.error = error
            self._fail(row_task)
            return True
        if self._wait is not None and (wait_s := self._cache.wait_s(row_task.row, key)):
            row_task.was_looked_up = False
            self._wait(row_task, wait_s)
            return True
        return False

    async def keep(self, row_task: RowTask, answer: Answer) -> None:
        """Put a new answer into the cache. Errors of the cache are passed on.

        A cancellation is ignored: the answer has arrived and is paid for, so it counts, and the
        cache is writing it already.
        """
        with contextlib.suppress(asyncio.CancelledError):
            billed = row_task.billed(answer)
            await self._cache.put(row_task.row, row_task.key, billed, row_task.made)

    def share(self, row_task: RowTask, status: Status, answer: Answer | None, ending: bool) -> None:
        """Settle the rows that waited for this row. While the run is `ending`, the waiting rows
        are `not_run` unless this row has an answer or failed."""
        if row_task.key is None or self._leaders.get(row_task.key) is not row_task:
            return
        error = row_task.error
        if status != "ok" and row_task.was_looked_up:
            self._cache.release(row_task.key)
        if status == "failed" and row_task.attempts and getattr(error, "hopeless", False):
            assert error is not None
            self._cache.put_failure(row_task.key, error)
        del self._leaders[row_task.key]
        self._following -= len(row_task.followers)
        for follower in row_task.followers:
            if answer is not None:
                billed = row_task.billed(answer)
                shared = self._cache.copy_for(follower.row, billed, row_task.made)
                self._settle(follower, "ok", shared)
            elif status == "failed" or not ending:
                follower.error = row_task.error
                self._settle(follower, status, None)
            else:
                self._settle(follower, "not_run", None)
