"""A token bucket limits a rate: tokens flow in at the rate, and each request takes some."""

from __future__ import annotations

_BURST_S = 0.5  # seconds of inflow that a bucket holds
_TICK_S, _NOTHING = 1e-6, 1e-9  # the shortest wait in seconds; a shortage that is only rounding


class TokenBucket:
    """Fills at `per_minute / 60` tokens a second, up to `_BURST_S` seconds of it, at least 1 token.
    The level may be negative (a debt)."""

    def __init__(self, per_minute: float, now: float, taken: float = 0.0) -> None:
        self.per_minute = per_minute
        self._per_s = per_minute / 60
        self._most = max(1.0, self._per_s * _BURST_S)
        self._level, self._at = min(1.0, self._most) - taken, now

    def change(self, per_minute: float, now: float) -> None:
        """Use another limit from now on."""
        self._fill(now)
        self.per_minute, self._per_s = per_minute, per_minute / 60
        self._most = max(1.0, self._per_s * _BURST_S)

    def _fill(self, now: float) -> None:
        self._level = min(self._most, self._level + (now - self._at) * self._per_s)
        self._at = now

    def wait_s(self, amount: float, now: float) -> float:
        """Seconds until `amount` may be taken. If that is more than the bucket holds, a full bucket
        is enough, and the rest becomes a debt."""
        self._fill(now)
        short = min(amount, self._most) - self._level
        # a timer may fire a clock tick early, when less than a tick's worth is missing: wait a tick
        return max(short / self._per_s, _TICK_S) if short > _NOTHING else 0.0

    def take(self, amount: float, now: float) -> None:
        """Take `amount` from the bucket; a negative amount is given back."""
        self._fill(now)
        self._level = min(self._most, self._level - amount)
