"""A batch job's view: a bar and figures in a notebook, while the provider works."""

from __future__ import annotations

import sys
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any, NamedTuple

from . import html, notebook
from .marimo_view import MarimoView

_WORDS = {
    "submitting": "Submitting",
    "validating": "The provider looks at the requests",
    "in_progress": "The provider is at it",
    "finalizing": "The provider collects the answers",
    "cancelling": "Cancelling",
    "completed": "Completed",
    "failed": "The provider refused the batch",
    "expired": "Expired: the provider's time limit passed",
    "cancelled": "Cancelled",
}
_CANCEL = "Have the provider stop; answers are kept"
_LAYOUT = {
    "max_width": "760px",
    "overflow": "visible",
    "border_left": f"3px solid {html.BLUE}",
    "padding": "0 0 0 12px",
    "margin": "4px 0 8px",
}


class JobFigures(NamedTuple):
    """The state of a job. `rows` counts all rows and `requests` the rows sent to the provider;
    `completed` and `failed` count requests. Times are in seconds since the epoch."""

    id: str
    status: str
    rows: int
    requests: int
    completed: int
    failed: int
    batches: int
    created_at: float
    ended_at: float | None
    model: str
    reason: str | None
    name: str | None = None


class JobView:
    """Shows a job: in a notebook HTML with a button, which becomes static HTML at the end;
    elsewhere lines of text.

    Args:
        cancel: called when the button is clicked.
    """

    def __init__(self, cancel: Callable[[], None]) -> None:
        self._cancel = cancel
        self._handles: dict[int | None, Any] = {}  # by cell
        self._html: Any = None
        self._widgets: list[Any] = []
        self._said: str | None = None
        self._follower: threading.Thread | None = None
        self._marimo: MarimoView | None = None
        self._state: JobFigures | None = None

    def show(self, state: JobFigures) -> None:
        """Show the job in the cell that runs now."""
        cell = notebook.current_cell()
        if not notebook.has_widgets() or cell in self._handles:
            self.update(state)
            return
        from IPython.display import HTML, display

        if state.ended_at is not None:
            display(HTML(job_html(state)))  # type: ignore[no-untyped-call]
            return
        self._handles[cell] = display(self._box(), display_id=True)  # type: ignore[no-untyped-call]
        self.update(state)

    def in_marimo(self, state: JobFigures) -> Any:
        """The job as marimo's own elements, for the cell whose value it is."""
        import marimo

        button = marimo.ui.button(label="Cancel", tooltip=_CANCEL, on_click=self._clicked)

        def paint() -> Any:
            assert self._state is not None
            shown = marimo.Html(job_html(self._state))
            is_open = self._state.ended_at is None
            return marimo.vstack([shown, button], align="start") if is_open else shown

        self._state = state
        self._marimo = MarimoView(paint, lambda: self._state is None or bool(self._state.ended_at))
        return self._marimo.start()

    def _clicked(self, value: Any) -> Any:
        self._cancel()
        return value

    def _box(self) -> Any:
        import ipywidgets

        if self._html is None:
            self._html = ipywidgets.HTML()
            button = ipywidgets.Button(
                description="Cancel",
                icon="stop",
                layout={"width": "auto", "align_self": "flex-start"},
                tooltip=_CANCEL,
            )
            button.on_click(lambda _: self._cancel())
            button.add_class("pardspy-job-cancel")
            box = ipywidgets.VBox([self._html, button], layout=_LAYOUT)
            self._widgets = [button, self._html, box]
        return self._widgets[-1]

    def update(self, state: JobFigures) -> None:
        """Show the current state."""
        self._state = state
        if self._marimo is not None:
            self._marimo.change()
        elif self._html is None:
            self._say(state)
        elif state.ended_at is None:
            self._html.value = job_html(state)
        else:
            self._close(state)

    def _say(self, state: JobFigures) -> None:
        line = f"{state.name or state.id}: {title(state)}"
        if line != self._said and not notebook.has_widgets():
            print(line, file=sys.stderr)
            self._said = line

    def _close(self, state: JobFigures) -> None:
        from IPython.display import HTML

        for handle in self._handles.values():
            if handle is not None:
                handle.update(HTML(job_html(state)))  # type: ignore[no-untyped-call]
        self._handles = {}
        for widget in self._widgets:
            for part in (getattr(widget, "style", None), widget.layout, widget):
                if part is not None:
                    part.close()
        self._html, self._widgets = None, []

    def follow(self, look: Callable[[], bool], every_s: float) -> None:
        """Call `look` every `every_s` seconds in a background thread, until it returns True
        because the job is over."""
        if self._follower is None or not self._follower.is_alive():
            self._follower = threading.Thread(
                target=_follow, args=(look, every_s), name="pardspy-job", daemon=True
            )
            self._follower.start()


def _follow(look: Callable[[], bool], every_s: float) -> None:
    while True:
        time.sleep(every_s)
        try:
            if look():
                return
        except Exception as error:  # `status` raises the same error for the user
            print(
                f"the job's display is no longer updated: {type(error).__name__}: {error}",
                file=sys.stderr,
            )
            return


def title(state: JobFigures) -> str:
    """`The provider is at it: 12 of 40 requests answered (30%)`."""
    share = f" ({state.completed / state.requests:.0%})" if state.requests else ""
    words = _WORDS.get(state.status, state.status)
    return f"{words}: {state.completed:,} of {state.requests:,} requests answered{share}"


def job_html(state: JobFigures) -> str:
    """The state in words, the bar, and the figures."""
    shown = title(state)
    bar = html.progress_bar(state.completed, state.failed, 0, state.requests, shown)
    since = (state.ended_at or time.time()) - state.created_at
    spared = state.rows - state.requests
    figures = [
        ("rows", f"{state.rows:,}"),
        *([("remembered or equal", f"{spared:,}")] if spared else []),
        ("answered", f"{state.completed:,}"),
        ("failed", f"{state.failed:,}"),
        ("batches", f"{state.batches:,}"),
        ("submitted", f"{datetime.fromtimestamp(state.created_at, UTC):%Y-%m-%d %H:%M} UTC"),
        ("took" if state.ended_at else "so far", html.duration(since)),
        ("model", state.model),
    ]
    parts = [
        html.note(" · ".join(filter(None, (state.name, shown, state.id)))),
        bar,
        html.figures(figures),
        html.note(state.reason or "", colour=html.ORANGE),
    ]
    if state.ended_at is None:
        return html.text(parts)
    whole = state.status == "completed" and not state.failed
    return html.box(parts, html.GREEN if whole else html.ORANGE)
