"""The panel in Jupyter: figures, pictures, failures and buttons while the run lasts.

The panel is made of plain ipywidgets. It is repainted five times a second, however many rows
finish, because JupyterLab drops messages above about a thousand a second. JupyterLab does not save
widget state, so at the end the display becomes static HTML and every widget is closed. A reopened
notebook then still shows the result.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from ..core.error_groups import ErrorGroup
from ..core.events import Event
from . import html, notebook
from .live_html import body_html, head_html
from .lost_page import PANEL_CLASS, lost_page_html
from .steering import Button, Controls, Steering

if TYPE_CHECKING:
    from .progress import RunProgress
    from .summary import Summary

REFRESH_S = 0.2
_DETAILS_S = 10.0  # between two updates of the first rows of a group of errors
_LONG_S = 5.0  # after so long, somebody may load the page anew
_WORDS_S = 1.0  # between two updates of the words for such a page
_NOTHING = {"text/html": ""}  # an output cannot be taken back, only emptied
_BOX_LAYOUT = {
    "max_width": "760px",
    "overflow": "visible",
    "border_left": f"3px solid {html.BLUE}",
    "padding": "0 0 0 12px",
    "margin": "4px 0 8px",
}


class Panel:
    """One run's panel; it may be shown in several cells.

    Args:
        controls: the actions of the buttons; each action returns at once.
        wait_mode: how the caller waits for the run, which decides whether clicks arrive.
    """

    def __init__(self, controls: Controls, wait_mode: notebook.WaitMode) -> None:
        import ipywidgets

        self._steering, self._wait_mode = Steering(controls), wait_mode
        self._handles: dict[int | None, Any] = {}  # by cell
        self._words: Any = None  # for a page that is loaded anew; see `lost_page`
        self._name, self._worded = secrets.token_hex(4), float("-inf")
        self._born = time.monotonic()
        self._painted = float("-inf")
        self._head, self._body, self._rest = (ipywidgets.HTML() for _ in range(3))
        self._buttons = {button.kind: _made(button) for button in self._steering.buttons}
        self._groups: dict[tuple[str, str], _GroupLine] = {}
        self._errors = ipywidgets.VBox(layout={"overflow": "visible"})
        bar = ipywidgets.Box(
            list(self._buttons.values()), layout={"flex_flow": "row wrap", "overflow": "visible"}
        )
        shown = [self._head, bar, self._body, self._errors, self._rest]
        self._box = ipywidgets.VBox(shown, layout=_BOX_LAYOUT)
        self._box.add_class(PANEL_CLASS)
        self._widgets = [*self._buttons.values(), *shown, self._box]

    def show(self) -> None:
        """Display the panel in the cell that runs now, unless it is there already."""
        from IPython.display import display

        cell = notebook.current_cell()
        if cell not in self._handles:
            self._handles[cell] = display(self._box, display_id=True)  # type: ignore[no-untyped-call]
            self._let_clicks_through()

    def update(self, state: RunProgress, events: Sequence[Event]) -> None:
        now = time.monotonic()
        if now - self._painted >= REFRESH_S or state.asks_again:
            self._painted = now
            self._paint(state)

    def close(self, state: RunProgress, summary: Summary) -> None:
        for handle in self._handles.values():
            if handle is not None:
                handle.update(summary)
        if self._words is not None:
            self._words.update(_NOTHING, raw=True)
        lines = [widget for line in self._groups.values() for widget in line.widgets]
        for widget in [*lines, *self._widgets]:
            for part in (getattr(widget, "style", None), widget.layout, widget):
                if part is not None:
                    part.close()

    def _paint_words(self, state: RunProgress) -> None:
        """Words for a page that is loaded anew while the cell runs: the file may be saved at any
        time. In a kernel that is free, such a page finds the panel itself."""
        now = time.monotonic()
        is_long = now - self._born >= _LONG_S and self._wait_mode != "background"
        if not is_long or now - self._worded < _WORDS_S:
            return
        from IPython.display import HTML, display

        self._worded = now
        words = HTML(lost_page_html(state, self._name))  # type: ignore[no-untyped-call]
        if self._words is not None:
            self._words.update(words)
        elif notebook.current_cell() in self._handles:
            self._words = display(words, display_id=True)  # type: ignore[no-untyped-call]

    def _paint(self, state: RunProgress) -> None:
        self._steering.state = state
        self._paint_words(state)
        self._head.value = head_html(state)
        self._body.value = body_html(state, self._hint())
        self._paint_errors(state.failures.largest_first())
        for kind, button in self._buttons.items():
            button.disabled = self._steering.is_off(kind, state)
        pause = self._buttons["pause"]
        pause.description, pause.icon = ("Resume", "play") if state.paused else ("Pause", "pause")
        self._let_clicks_through()

    def _paint_errors(self, groups: Sequence[ErrorGroup]) -> None:
        """A line for each of the first groups, in order of appearance: a line that moved would
        close under the reader's eyes."""
        before, rest = len(self._groups), []
        for group in groups:
            if group.key not in self._groups:
                if len(self._groups) >= html.MOST_GROUPS:
                    rest.append(group)
                    continue
                self._groups[group.key] = _GroupLine(group, self._steering)
            self._groups[group.key].paint(group)
        if len(self._groups) != before:
            self._errors.children = [line.box for line in self._groups.values()]
        if (further := html.further_errors(rest)) != self._rest.value:
            self._rest.value = further

    def _hint(self) -> str:
        if notebook.clicks_arrive(self._wait_mode, time.monotonic() - self._born):
            return ""
        return (
            "With this kernel and page, clicks wait until the cell is done. Stop with ■ (what is "
            "done is kept), or use start_parallel, whose buttons always work."
        )

    def _let_clicks_through(self) -> None:
        if self._wait_mode == "blocking":
            again = [line.button for line in self._groups.values() if line.button is not None]
            for button in [*self._buttons.values(), *again]:
                notebook.let_clicks_through(button)


class _GroupLine:
    """One group of errors: its words, which open to its rows, and the button that asks them
    again."""

    def __init__(self, group: ErrorGroup, steering: Steering) -> None:
        import ipywidgets

        self._steering = steering
        self._rows, self._painted = 0, float("-inf")
        self._count = ipywidgets.HTML(layout={"margin": "2px 8px 0 2px", "overflow": "visible"})
        self._details = ipywidgets.HTML(layout={"flex": "1 1 240px", "overflow": "visible"})
        button = steering.retry_button(group)
        self.button = None if button is None else _made(button)
        again = [] if self.button is None else [self.button]
        self.widgets = [self._count, self._details, *again]
        layout = {"flex_flow": "row wrap", "align_items": "flex-start", "overflow": "visible"}
        self.box = ipywidgets.Box(self.widgets, layout=layout)
        self.widgets = [*self.widgets, self.box]

    def paint(self, group: ErrorGroup) -> None:
        now = time.monotonic()
        if group.rows != self._rows:
            self._count.value = html.text([html.error_count(group)])
            self._rows = group.rows
        if now - self._painted >= _DETAILS_S:  # what one reads must not close all the time
            self._painted = now
            story = self._steering.story(group)
            told = html.text([html.error_group(group, story, counted=False)])
            if told != self._details.value:
                self._details.value = told
        if self.button is not None and self._steering.is_asked_again(group):
            self.button.disabled, self.button.description = True, "Asked again at the end"


def _made(button: Button) -> Any:
    import ipywidgets

    widget = ipywidgets.Button(
        description=button.name, tooltip=button.tip, icon=button.icon, layout={"width": "auto"}
    )
    widget.on_click(lambda _: button.act())
    widget.add_class(f"pardspy-{button.kind}")
    return widget
