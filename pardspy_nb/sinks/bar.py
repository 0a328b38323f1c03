"""A tqdm bar: done, failed, rate, tokens, cost."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from typing import Any

from ..events import Event, Progress
from ..summary import dollars

_REFRESH_S = 0.2
_LOG_REFRESH_S = 10.0  # in a file every refresh is a line


class BarSink:
    """One bar on standard error."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._painted = float("-inf")
        self._every_s = _REFRESH_S if sys.stderr.isatty() else _LOG_REFRESH_S

    def update(self, state: Progress, events: Sequence[Event]) -> None:
        now = time.monotonic()
        if state.started and now - self._painted >= self._every_s:
            self._painted = now
            self._paint(state)

    def close(self, state: Progress, summary_html: str) -> None:
        if state.started:
            self._paint(state)
            self._bar.close()

    def _paint(self, state: Progress) -> None:
        if self._bar is None:
            from tqdm import tqdm

            self._bar = tqdm(total=state.total, unit="row", dynamic_ncols=True, mininterval=0)
        self._bar.n = state.done
        self._bar.set_postfix_str(postfix(state), refresh=False)
        self._bar.refresh()


def postfix(state: Progress) -> str:
    """The figures beside the bar."""
    parts = [f"failed {state.failed:,}"] if state.failed else []
    if state.usage is not None:
        if state.usage.total_tokens is not None:
            parts.append(f"{state.usage.total_tokens:,} tokens")
        if state.usage.cost_usd is not None:
            parts.append(dollars(state.usage.cost_usd))
    return ", ".join(parts)
