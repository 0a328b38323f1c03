"""The notebook's panel: figures, pictures, failures and buttons while the run lasts.

The panel is made of plain ipywidgets. It is repainted five times a second, however many rows
finish, because JupyterLab drops messages above about a thousand a second. JupyterLab does not save
widget state, so at the end the display becomes static HTML and every widget is closed. A reopened
notebook then still shows the result.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ..core.events import Event
from ..core.metrics import Latency
from . import html, notebook
from .html import dollars, duration, milliseconds, number, saved

if TYPE_CHECKING:
    from .progress import RunProgress
    from .summary import Summary

REFRESH_S = 0.2
_STEP = 1.25  # one click on a workers button multiplies or divides by this
_BOX_LAYOUT = {
    "max_width": "760px",
    "overflow": "visible",
    "border_left": f"3px solid {html.BLUE}",
    "padding": "0 0 0 12px",
    "margin": "4px 0 8px",
}
_STOPPING = {
    "cancelled": "Cancelling",
    "failures": "Too many failures: rows in flight finish",
    "fail_fast": "A row failed: stopping",
    "fatal": "Stopping, because every further row would fail alike",
    "outage": "The endpoint asks for a longer wait than outage_s: rows in flight finish",
    "source": "The input broke: rows in flight finish",
    "store": "The store failed: rows in flight finish",
    "budget": "At max_cost_usd: rows in flight finish",
    "cluster": "No worker of the cluster is left",
    "target": "The output cannot be written: rows in flight finish",
}


class Controls(Protocol):
    """The actions of a panel's buttons on a run. Each returns at once and works from any thread."""

    max_workers: int

    def pause(self) -> None:
        """Start nothing new; rows in flight finish."""

    def resume(self) -> None:
        """Start new rows again."""

    def drop_stragglers(self) -> None:
        """From now on, cancel rows that take much longer than the others."""

    def cancel(self) -> None:
        """Stop now."""


class Panel:
    """One run's panel; it may be shown in several cells.

    Args:
        controls: the actions of the buttons; each action returns at once.
        wait_mode: how the caller waits for the run, which decides whether clicks arrive.
    """

    def __init__(self, controls: Controls, wait_mode: notebook.WaitMode) -> None:
        import ipywidgets

        self._controls, self._wait_mode = controls, wait_mode
        self._state: RunProgress | None = None
        self._handles: dict[int | None, Any] = {}  # by cell
        self._born = time.monotonic()
        self._painted = float("-inf")
        self._head, self._body = ipywidgets.HTML(), ipywidgets.HTML()

        def button(kind: str, name: str, tip: str, icon: str, act: Callable[[], None]) -> Any:
            made = ipywidgets.Button(
                description=name, tooltip=tip, icon=icon, layout={"width": "auto"}
            )
            made.on_click(lambda _: act())
            made.add_class(f"pardspy-{kind}")
            return made

        self._pause = button(
            "pause", "Pause", "Start no new rows; rows in flight finish", "pause", self._toggle
        )
        self._fewer = button(
            "fewer", "Fewer workers", "A fifth fewer rows in flight", "minus", self._slower
        )
        self._more = button(
            "more", "More workers", "A quarter more rows in flight", "plus", self._faster
        )
        self._finish = button(
            "finish",
            "Finish without stragglers",
            "Cancel every row that takes more than twice as long as nine rows in ten did",
            "forward",
            controls.drop_stragglers,
        )
        self._cancel = button(
            "cancel",
            "Cancel (or ■ Interrupt)",
            "Stop now; finished rows are kept",
            "stop",
            controls.cancel,
        )
        self._buttons = [self._pause, self._fewer, self._more, self._finish, self._cancel]
        bar = ipywidgets.Box(self._buttons, layout={"flex_flow": "row wrap", "overflow": "visible"})
        self._box = ipywidgets.VBox([self._head, bar, self._body], layout=_BOX_LAYOUT)
        self._box.add_class("pardspy-panel")
        self._widgets = [*self._buttons, bar, self._head, self._body, self._box]

    # -- the buttons' actions (no drawing in them: the kernel may call them from a thread) -----

    def _toggle(self) -> None:
        if self._state is not None and self._state.paused:
            self._controls.resume()
        else:
            self._controls.pause()

    def _faster(self) -> None:
        now = self._controls.max_workers
        self._controls.max_workers = max(now + 1, int(now * _STEP))

    def _slower(self) -> None:
        now = self._controls.max_workers
        self._controls.max_workers = max(1, min(now - 1, int(now / _STEP)))

    # -- showing ------------------------------------------------------------------------------

    def show(self) -> None:
        """Display the panel in the cell that runs now, unless it is there already."""
        from IPython.display import display

        cell = notebook.current_cell()
        if cell not in self._handles:
            self._handles[cell] = display(self._box, display_id=True)  # type: ignore[no-untyped-call]
            self._let_clicks_through()

    def update(self, state: RunProgress, events: Sequence[Event]) -> None:
        now = time.monotonic()
        if now - self._painted >= REFRESH_S:
            self._painted = now
            self._paint(state)

    def close(self, state: RunProgress, summary: Summary) -> None:
        for handle in self._handles.values():
            if handle is not None:
                handle.update(summary)
        for widget in self._widgets:
            for part in (getattr(widget, "style", None), widget.layout, widget):
                if part is not None:
                    part.close()

    def _paint(self, state: RunProgress) -> None:
        self._state = state
        self._head.value = head_html(state)
        self._body.value = body_html(state, self._hint())
        self._pause.description, self._pause.icon = (
            ("Resume", "play") if state.paused else ("Pause", "pause")
        )
        self._pause.disabled = self._cancel.disabled = state.stopping is not None
        self._fewer.disabled = self._controls.max_workers <= 1
        self._finish.disabled = state.dropping or not state.latencies_ms
        self._let_clicks_through()

    def _hint(self) -> str:
        if notebook.clicks_arrive(self._wait_mode, time.monotonic() - self._born):
            return ""
        return (
            "With this kernel and page, clicks wait until the cell is done. Stop with ■ (what is "
            "done is kept), or use start_parallel, whose buttons always work."
        )

    def _let_clicks_through(self) -> None:
        if self._wait_mode == "blocking":
            for button in self._buttons:
                notebook.let_clicks_through(button)


def head_html(state: RunProgress) -> str:
    """The state in words, the bar, and the figures."""
    title = title_text(state)
    bar = html.progress_bar(
        state.ok, state.failed, state.cancelled + state.skipped, state.total, title
    )
    return html.text([html.note(title), bar, html.figures(live_figures(state))])


def title_text(state: RunProgress) -> str:
    """`Running: 12 of 40 rows (30%)`."""
    of = f" of {state.total:,}" if state.total is not None else ""
    share = f" ({state.done / state.total:.0%})" if state.total else ""
    rows = f"{state.done:,}{of} rows{share}"
    if not state.started:
        return (state.waits_for or "Starting") + ("; paused" if state.paused else "")
    if state.finished:
        return f"Finishing: {rows}"
    if state.stopping:
        return f"{_STOPPING.get(state.stopping, 'Stopping')}: {rows}"
    if state.paused:
        return f"Paused: {rows}" + (", rows in flight finish" if state.in_flight else "")
    if state.waits_for is not None:
        return f"Running: {rows}; {state.waits_for}"
    return ("Running, without stragglers: " if state.dropping else "Running: ") + rows


def live_figures(state: RunProgress) -> list[tuple[str, str]]:
    """The figures of a run under way, as (name, text)."""
    usage, latency = state.usage, Latency.of(state.shown_latencies_ms())
    limit = "" if state.max_cost_usd is None else f" of {dollars(state.max_cost_usd)}"
    return [
        ("done", f"{state.done:,}"),
        ("running", f"{state.in_flight:,}"),
        ("waiting", number(state.waiting)),
        ("retrying", f"{state.backing_off:,}"),
        ("failed", f"{state.failed:,}"),
        *([("skipped", f"{state.skipped:,}")] if state.skipped else []),
        *([("repaired", f"{state.repaired:,}")] if state.repaired else []),
        ("cached", f"{state.cached:,}"),
        *([("saved", saved(state.saved))] if state.cached else []),
        *html.accuracies(state.judged, state.unanswered),
        ("workers", f"{state.max_workers:,}"),
        ("rows/s", f"{state.recent_rows_per_s:,.1f}"),
        ("time left", duration(state.eta_s)),
        ("tokens", number(usage.total_tokens if usage else None)),
        ("cost", (dollars(usage.cost_usd) if usage else "–") + limit),
        ("cost at end", "–" if (cost := state.projected_cost_usd) is None else dollars(cost)),
        ("p50", milliseconds(latency.p50_ms)),
        ("p90", milliseconds(latency.p90_ms)),
        ("p99", milliseconds(latency.p99_ms)),
    ]


def body_html(state: RunProgress, hint: str) -> str:
    """Latency histogram, label counts, failures by error."""
    pictures = [
        *filter(None, [html.histogram(state.shown_latencies_ms(), live=True)]),
        *(
            html.label_counts(name, of, live=True)
            for name, of in state.counts.items()
            if any(of.values())
        ),
    ]
    return html.text(
        [
            html.note(hint, colour=html.ORANGE),
            html.pictures(pictures),
            html.error_list(state.failures.largest_first()),
        ]
    )
