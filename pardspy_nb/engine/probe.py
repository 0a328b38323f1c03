"""A probe: one request goes first while the response format of the endpoint is unknown."""

from __future__ import annotations

from collections.abc import Callable

from ..core.events import Answer, Row

_MOST_S = 0.5  # an endpoint refuses a wrong format at once; an answer takes longer


class Probe:
    """A limiter (see `protocols.Limiter`) that lets in one attempt at a time, until an attempt was
    answered or half a second has passed.

    Args:
        is_known: returns whether the response format of all endpoints is known, so that no probe is
            needed.
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
