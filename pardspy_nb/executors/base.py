"""Where attempts are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from typing import Protocol

from ..core.events import Event, Row
from ..engine.protocols import Runner


class Executor(Protocol):
    """Where attempts are made."""

    async def prepare(self) -> None:
        """Have ready what attempts need; nothing is paid."""

    def engine(
        self, rows: Iterator[Row], emit: Callable[[Event], None]
    ) -> AbstractAsyncContextManager[Runner]:
        """What runs these rows, on the running loop."""
