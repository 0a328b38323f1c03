"""The notebook view: a bar and counters while the run lasts, then small static HTML.

Lab does not save widget state, so at the end the display becomes HTML and every widget closes;
a reopened notebook then still shows the result.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from html import escape
from typing import Any

from ..events import Event, Progress
from ..summary import dollars, number

_REFRESH_S = 0.2  # Lab drops messages above about a thousand a second


class WidgetSink:
    """One display per run."""

    def __init__(self) -> None:
        import ipywidgets
        from IPython.display import display

        self._bar = ipywidgets.IntProgress(min=0, max=1, layout={"width": "100%"})
        self._text = ipywidgets.HTML()
        self._box = ipywidgets.VBox([self._bar, self._text], layout={"max_width": "760px"})
        self._handle: Any = display(self._box, display_id=True)  # type: ignore[no-untyped-call]
        self._painted = float("-inf")

    def update(self, state: Progress, events: Sequence[Event]) -> None:
        now = time.monotonic()
        if now - self._painted >= _REFRESH_S:
            self._painted = now
            self._bar.max = max(1, state.total or state.done + state.in_flight)
            self._bar.value = state.done
            self._bar.bar_style = "warning" if state.failed else ""
            self._text.value = counters_html(state)

    def close(self, state: Progress, summary_html: str) -> None:
        from IPython.display import HTML

        if self._handle is not None:
            self._handle.update(HTML(summary_html))  # type: ignore[no-untyped-call]
        for widget in (self._box, self._bar, self._text):
            widget.layout.close()
            widget.close()


def counters_html(state: Progress) -> str:
    """The counters under the bar."""
    usage = state.usage
    of = f" of {state.total:,}" if state.total is not None else ""
    figures = [
        ("done", f"{state.done:,}{of}"),
        ("running", f"{state.in_flight:,}"),
        ("failed", f"{state.failed:,}"),
        ("rows/s", f"{state.rows_per_s:,.1f}"),
        ("tokens", number(usage.total_tokens if usage else None)),
        ("cost", dollars(usage.cost_usd) if usage else "–"),
    ]
    cells = "".join(
        f'<span style="margin-right:1.4em"><span style="opacity:.7">{escape(name)}</span> '
        f"<b>{escape(text)}</b></span>"
        for name, text in figures
    )
    return f'<div style="font-variant-numeric:tabular-nums">{cells}</div>'
