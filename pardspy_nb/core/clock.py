"""The clock protocol that the engine uses, and the implementation on the machine's clocks."""

from __future__ import annotations

import asyncio
import time
from typing import Protocol


class Clock(Protocol):
    """Makes the event loop whose `time()` is the run's monotonic clock, and stamps UTC."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """An event loop that keeps this clock's time."""

    def utc_s(self) -> float:
        """Seconds since the epoch."""


class SystemClock:
    """The machine's own clocks."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return asyncio.new_event_loop()

    def utc_s(self) -> float:
        return time.time()
