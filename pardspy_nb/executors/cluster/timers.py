"""Things to be done once, after a while."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Timers:
    """Timers by name; one that runs is not put off by being asked for again."""

    def __init__(self) -> None:
        self._running: dict[str, asyncio.TimerHandle] = {}

    def later(self, name: str, after_s: float, action: Callable[[], None]) -> None:
        """Do something once, after so many seconds on the running loop's clock."""
        if name in self._running:
            return

        def act() -> None:
            del self._running[name]
            action()

        self._running[name] = asyncio.get_running_loop().call_later(after_s, act)

    def cancel(self, name: str) -> None:
        """Let it be."""
        if (timer := self._running.pop(name, None)) is not None:
            timer.cancel()

    def close(self) -> None:
        """Let all of it be."""
        for name in list(self._running):
            self.cancel(name)
