"""A token bucket."""

from __future__ import annotations

_BURST_S = 0.5


_TICK_S, _NOTHING = 1e-6, 1e-9


class TokenBucket:
    """Fills at `per_minute / 60` a second, up to `_BURST_S` of it or 1. May be in debt."""

    def __init__(self, per_minute: float, now: float, taken: float = 0.0) -> None:
        self.per_minute = per_minute
        self._per_s = per_minute / 60
        self._most = max(1.0, self._per_s * _BURST_S)
        self._level, self._at = min(1.0, self._most) - taken, now

    def change(self, per_minute: float, now: float) -> None:
        """Another limit from now on."""
        self._fill(now)
        self.per_minute, self._per_s = per_minute, per_minute / 60
        self._most = max(1.0, self._per_s * _BURST_S)

    def _fill(self, now: float) -> None:
        self._level = min(self._most, self._level + (now - self._at) * self._per_s)
        self._at = now

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until `amount` is there; more than it holds is lent once it is full."""
        self._fill(now)
        short = min(amount, self._most) - self._level
        # a timer may be a clock's tick early, and what is still short then no tick's worth
        return max(short / self._per_s, _TICK_S) if short > _NOTHING else 0.0

    def take(self, amount: float, now: float) -> None:
        """Take it, or give back a negative amount."""
        self._fill(now)
        self._level = min(self._most, self._level - amount)
