"""Progress as text: a tqdm bar in a terminal, a line every few seconds in a log."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..core.events import Event
from .html import accuracies, dollars

if TYPE_CHECKING:
    from .progress import RunProgress
    from .summary import Summary


class BarSink:
    """One bar on standard error. The user's own bars keep their places.

    Args:
        every_s: seconds between two refreshes.
    """

    def __init__(self, every_s: float = 0.2) -> None:
        self._bar: Any = None
        self._every_s = every_s
        self._painted = float("-inf")

    def update(self, state: RunProgress, events: Sequence[Event]) -> None:
        now = time.monotonic()
        begins = state.started or state.waits_for is not None
        if begins and now - self._painted >= self._every_s:
            self._painted = now
            self._paint(state)

    def close(self, state: RunProgress, summary: Summary) -> None:
        if state.started or self._bar is not None:
            self._paint(state)
            self._bar.close()

    def _paint(self, state: RunProgress) -> None:
        if self._bar is None:
            from tqdm import tqdm

            # leave=None: if the bar is below one of the user's, it disappears at the end
            self._bar = tqdm(
                total=state.total,
                desc=state.name,
                unit="row",
                dynamic_ncols=True,
                mininterval=0,
                leave=None,
                file=sys.stderr,
            )
        self._bar.total = state.total
        self._bar.n = state.ok + state.failed + state.skipped
        self._bar.set_postfix_str(postfix(state), refresh=False)
        self._bar.refresh()


class LogSink:
    """Whole lines on standard error, for a log: at most one in ten seconds, and one at the end."""

    def __init__(self, every_s: float = 10.0) -> None:
        self._every_s = every_s
        self._next = time.monotonic() + every_s

    def update(self, state: RunProgress, events: Sequence[Event]) -> None:
        if state.started and time.monotonic() >= self._next:
            self._next = time.monotonic() + self._every_s
            print(line(state), file=sys.stderr, flush=True)

    def close(self, state: RunProgress, summary: Summary) -> None:
        if state.started:
            print(line(state), file=sys.stderr, flush=True)


def line(state: RunProgress) -> str:
    """The bar's figures as one line of a log, in tqdm's own format."""
    from tqdm import tqdm

    return tqdm.format_meter(
        state.ok + state.failed + state.skipped,
        state.total,  # type: ignore[arg-type]  # None for a stream
        state.elapsed_s,
        prefix=state.name or "",
        unit="row",
        postfix=postfix(state),
        ncols=0,
    )


def postfix(state: RunProgress) -> str:
    """The figures beside the bar."""
    parts = [f"failed {state.failed:,}"] if state.failed else []
    parts += [f"cached {state.cached:,}"] if state.cached else []
    parts += [f"skipped {state.skipped:,}"] if state.skipped else []
    parts += [f"{name} {text}" for name, text in accuracies(state.judged, state.unanswered)]
    if state.usage is not None:
        if state.usage.total_tokens is not None:
            parts.append(f"{state.usage.total_tokens:,} tokens")
        if state.usage.cost_usd is not None:
            parts.append(dollars(state.usage.cost_usd))
    if state.waits_for is not None:
        parts.append(state.waits_for)
    return ", ".join(parts)
