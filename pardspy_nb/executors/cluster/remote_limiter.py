"""A site's gate: attempts start when the run lets them, which holds the limits of all sites."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

from ...core.events import Answer, Row

_ASKED_AGAIN_S = 3600.0  # a grant opens the gate by itself


class RemoteLimiter:
    """A gate (see `protocols.Limiter`).

    Args:
        ask: asks for an attempt at each of these rows.
        upcoming: the rows that would start next, were they let.

    Attributes:
        asks: whether attempts have to be asked for.
    """

    def __init__(
        self, ask: Callable[[list[Row]], None], upcoming: Callable[[], Sequence[Row]]
    ) -> None:
        self._ask, self._upcoming = ask, upcoming
        self.asks = False
        self._asked: set[int] = set()  # numbers of rows
        self._granted: set[int] = set()

    def grant(self, numbers: Iterable[int]) -> None:
        """Let one attempt at each of these rows start."""
        self._granted.update(numbers)

    def wait_s(self, row: Row, now: float) -> float:
        """See `protocols.Limiter`."""
        if not self.asks or row.number in self._granted:
            return 0.0
        wanted = {r.number: r for r in (row, *self._upcoming())}
        fresh = [r for n, r in wanted.items() if n not in self._asked and n not in self._granted]
        if fresh:
            self._asked.update(r.number for r in fresh)
            self._ask(fresh)
        return _ASKED_AGAIN_S

    def enter(self, row: Row, now: float) -> None:
        """See `protocols.Limiter`."""
        self._granted.discard(row.number)
        self._asked.discard(row.number)

    def leave(self, row: Row, outcome: Answer | BaseException | None, now: float) -> None:
        """See `protocols.Limiter`."""
