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

from ..core.error_groups import ErrorGroup
from ..core.events import Event
from . import html, notebook
from .live_html import body_html, errors_html, head_html
from .steering import Button, Controls, Steering

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
        self._again: dict[tuple[str, str], Any] = {}  # the buttons of groups of errors
        if wait_mode == "background":
            self._buttons = {b.kind: self._made(b) for b in self._steering.buttons}

    def update(self, state: RunProgress, events: Sequence[Event]) -> None:
        now = time.monotonic()
        if now - self._painted >= REFRESH_S or state.asks_again:
            self._painted = now
            self._put(self._view(state))

    def close(self, state: RunProgress, summary: Summary) -> None:
        self._put(self._mo.Html(summary._repr_html_()))

    def _view(self, state: RunProgress) -> Any:
        self._steering.state = state
        hint = "" if self._buttons else _BLOCKED
        head, body = head_html(state), body_html(state, "")
        groups = state.failures.largest_first()
        if not self._buttons:
            body += errors_html(groups, self._steering)
            return self._mo.Html(html.box([head, body, html.faint(hint)], html.BLUE))
        shown = list(self._buttons.values())
        bar = self._mo.hstack(shown, justify="start", wrap=True, gap=0.25)
        errors = [self._group(group) for group in groups[: html.MOST_GROUPS]]
        errors += (
            [self._mo.Html(rest)]
            if (rest := html.further_errors(groups[html.MOST_GROUPS :]))
            else []
        )
        return self._mo.vstack([self._mo.Html(head), bar, self._mo.Html(body), *errors])

    def _group(self, group: ErrorGroup) -> Any:
        words = html.text([html.error_group(group, self._steering.story(group))])
        button = self._steering.retry_button(group)
        if button is None:
            return self._mo.Html(words)
        if self._steering.is_asked_again(group):
            return self._mo.Html(words + html.faint("Asked again at the end"))
        if group.key not in self._again:
            self._again[group.key] = self._made(button)
        line = [self._mo.Html(words), self._again[group.key]]
        return self._mo.hstack(line, align="start", widths=[6, 1])

    def _made(self, button: Button) -> Any:
        return self._mo.ui.button(
            label=button.name, tooltip=button.tip, on_click=partial(_clicked, button.act)
        )

    def _put(self, view: Any) -> None:
        thread = self._mo.current_thread() if notebook.in_marimo_thread() else None
        if thread is None or not thread.should_exit:  # else its cell runs anew
            self._mo.output.replace(view)


def _clicked(act: Callable[[], None], value: Any) -> Any:
    """Act; a marimo button keeps its value."""
    act()
    return value
