"""A virtual clock: engine tests run in no time and compare exactly."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any


class _JumpingSelector(selectors.DefaultSelector):
    """Where the loop would sleep, moves its clock forward instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:  # nothing is scheduled: wait for another thread to speak
            return super().select(None)
        ready = super().select(0)
        if not ready:
            self.now += timeout
        return ready


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


class VirtualClock:
    """Event loops that start at 0 s and jump to the next timer. For coroutines only:
    a function in a thread takes real time, which this clock does not see."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return _VirtualLoop()

    def utc_s(self) -> float:
        return 0.0
