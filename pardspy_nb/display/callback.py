"""`progress=function`: every event, in order, on the thread that waits for the run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from ..core.events import Event

if TYPE_CHECKING:
    from .progress import RunProgress
    from .summary import Summary


class CallbackSink:
    """Calls the user's function with each event."""

    def __init__(self, function: Callable[[Event], None]) -> None:
        self._function = function

    def update(self, state: RunProgress, events: Sequence[Event]) -> None:
        for event in events:
            self._function(event)

    def close(self, state: RunProgress, summary: Summary) -> None:
        pass
