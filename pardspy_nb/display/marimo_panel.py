"""The panel in marimo: marimo's own HTML and buttons, by its public API.

marimo shows what is put into the output of the cell that runs, or of the cell that started a
`mo.Thread`. While a cell blocks, marimo handles no click: the panel has buttons only where
`start_parallel` returned at once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ..core.events import Event
from . import html, notebook
from .live_html import body_html, head_html
from .steering import Controls, Steering

if TYPE_CHECKING:
    from .progress import RunProgress
    from .summary import Summary

REFRESH_S = 0.25
_BLOCKED = "marimo handles no click while a cell runs: stop with its ■, and keep what is done."


class MarimoPanel:
    """One run's panel in the output of one cell (see `sinks.Sink`)."""

    def __init__(self, controls: Controls, wait_mode: notebook.WaitMode) -> None:
        import marimo

        self._mo, self._steering = marimo, Steering(controls)
        self._painted = float("-inf")
        self._buttons: dict[str, Any] = {}
        if wait_mode == "background":
            for button in self._steering.buttons:
                self._buttons[button.kind] = marimo.ui.button(
                    label=button.name, tooltip=button.tip, on_click=partial(_clicked, button.act)
                )

    def update(self, state: RunProgress, events: Sequence[Event]) -> None:
        now = time.monotonic()
        if now - self._painted >= REFRESH_S:
            self._painted = now
            self._put(self._view(state))

    def close(self, state: RunProgress, summary: Summary) -> None:
        self._put(self._mo.Html(summary._repr_html_()))

    def _view(self, state: RunProgress) -> Any:
        self._steering.state = state
        hint = "" if self._buttons else _BLOCKED
        head, body = head_html(state), body_html(state, "")
        if not self._buttons:
            return self._mo.Html(html.box([head, body, html.faint(hint)], html.BLUE))
        shown = list(self._buttons.values())
        bar = self._mo.hstack(shown, justify="start", wrap=True, gap=0.25)
        return self._mo.vstack([self._mo.Html(head), bar, self._mo.Html(body)])

    def _put(self, view: Any) -> None:
        thread = self._mo.current_thread() if notebook.in_marimo_thread() else None
        if thread is None or not thread.should_exit:  # else its cell runs anew
            self._mo.output.replace(view)


def _clicked(act: Callable[[], None], value: Any) -> Any:
    """Act; a marimo button keeps its value."""
    act()
    return value
