"""Timers that are known by name."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Timers:
    """Timers that are known by name. A timer that runs already keeps its time."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.TimerHandle] = {}

    def later(self, name: str, after_s: float, action: Callable[[], None]) -> None:
        """Call `action` once, after `after_s` seconds on the running loop's clock."""
        if name in self._running:
            return

        def act() -> None:
            del self._running[name]
            action()

        self._running[name] = asyncio.get_running_loop().call_later(after_s, act)

    def cancel(self, name: str) -> None:
        """Cancel the timer."""
        if (timer := self._running.pop(name, None)) is not None:
            timer.cancel()

    def close(self) -> None:
        """Cancel all timers."""
        for name in list(self._running):
            self.cancel(name)
