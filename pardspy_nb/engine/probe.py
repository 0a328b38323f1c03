"""One request ahead of the others, where it is not known yet what form the endpoint takes."""

from __future__ import annotations

from collections.abc import Callable

from ..core.events import Answer, Row

_MOST_S = 0.5  # a request in a wrong form is refused at once; one that is answered takes longer


class Probe:
    """A limiter (see `protocols.Limiter`) that lets one attempt through at a time, until one was
    answered, or half a second has passed.

    Args:
        is_known: whether nothing needs to be found out any more.
    """

    def __init__(self, is_known: Callable[[], bool]) -> None:
        self._is_known = is_known
        self._over = False
        self._inside = 0
        self._until: float | None = None

    def wait_s(self, row: Row, now: float) -> float:
        """See `protocols.Limiter`."""
        if self._over or not self._inside or self._until is None:
            return 0.0
        self._over = now >= self._until or self._is_known()
        return 0.0 if self._over else self._until - now

    def enter(self, row: Row, now: float) -> None:
        """See `protocols.Limiter`."""
        self._inside += 1
        if self._until is None:
            self._until = now + _MOST_S

    def leave(self, row: Row, outcome: Answer | BaseException | None, now: float) -> None:
        """See `protocols.Limiter`."""
        self._inside -= 1
        self._over = self._over or isinstance(outcome, Answer) or self._is_known()
