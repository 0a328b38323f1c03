"""Waiting for what another process does."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def eventually(true: Callable[[], bool], what: str, seconds: float = 10) -> None:
    """Wait until the scripted server has seen it."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, what
        time.sleep(0.02)


def stays(value: Callable[[], Any], seconds: float) -> bool:
    """Whether the server's figure stays what it is."""
    before = value()
    time.sleep(seconds)
    return bool(value() == before)
