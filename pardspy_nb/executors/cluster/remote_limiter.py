"""A worker's limiter: the coordinator grants attempts, within the limits of all workers."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ...core.events import Answer, Row

_WAIT_S = 3600.0  # practically forever: a grant ends the wait


class RemoteLimiter:
    """A limiter (see `protocols.Limiter`) that requests attempts from the coordinator.

    Args:
        request: sends a request for an attempt at each of the given rows.
        upcoming: returns the rows that would start next if they were granted.

    Attributes:
        must_request: whether attempts must be requested.
    """

    def __init__(
        self, request: Callable[[list[Row]], None], upcoming: Callable[[], Sequence[Row]]
    ) -> None:
        self._request, self._upcoming = request, upcoming
        self.must_request = False
        self._requested: set[int] = set()  # numbers of rows
        self._granted: set[int] = set()

    def grant(self, numbers: Iterable[int]) -> None:
        """Let one attempt at each of these rows start."""
        self._granted.update(numbers)

    def wait_s(self, row: Row, now: float) -> float:
        """See `protocols.Limiter`."""
        if not self.must_request or row.number in self._granted:
            return 0.0
        wanted = {r.number: r for r in (row, *self._upcoming())}
        fresh = [
            r for n, r in wanted.items() if n not in self._requested and n not in self._granted
        ]
        if fresh:
            self._requested.update(r.number for r in fresh)
            self._request(fresh)
        return _WAIT_S

    def enter(self, row: Row, now: float) -> None:
        """See `protocols.Limiter`."""
        self._granted.discard(row.number)
        self._requested.discard(row.number)

    def leave(self, row: Row, outcome: Answer | BaseException | None, now: float) -> None:
        """See `protocols.Limiter`."""
