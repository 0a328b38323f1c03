"""One request ahead of the others, where it is not known yet what form the endpoint takes."""

from __future__ import annotations

from collections.abc import Callable

from .events import Answer, Row

_MOST_S = 0.5  # a request in a wrong form is refused at once; one that is answered takes longer


class Scout:
    """A gate (see `hooks.Gate`) that lets one attempt through, and the others once that is over,
    or half a second later: it was not refused then.

    Args:
        is_known: whether nothing needs to be found out any more.
    """

    def __init__(self, is_known: Callable[[], bool]) -> None:
        self._is_known = is_known
        self._over = False
        self._inside, self._since = 0, 0.0

    def wait_s(self, row: Row, now: float) -> float:
        """See `hooks.Gate`."""
        if self._over or not self._inside:
            return 0.0
        left_s = self._since + _MOST_S - now
        self._over = left_s <= 0 or self._is_known()
        return 0.0 if self._over else left_s

    def enter(self, row: Row, now: float) -> None:
        """See `hooks.Gate`."""
        if not self._inside:
            self._since = now
        self._inside += 1

    def leave(self, row: Row, outcome: Answer | BaseException | None, now: float) -> None:
        """See `hooks.Gate`."""
        self._inside -= 1
        self._over = self._over or self._is_known()
