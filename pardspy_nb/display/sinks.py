"""Sinks watch events. A sink may fail; the run never fails because of a sink."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ..core.events import Event
from . import notebook
from .panel import Panel
from .steering import Controls

if TYPE_CHECKING:
    from .progress import RunProgress
    from .summary import Summary


class Sink(Protocol):
    """Watches a run. It is called at a fixed rate from one thread, never per row, and may raise."""

    def update(self, state: RunProgress, events: Sequence[Event]) -> None:
        """Take the events since the last call and the state that they add up to."""

    def close(self, state: RunProgress, summary: Summary) -> None:
        """The run is over: show the final state."""


class Watchers:
    """The sinks of one run. A sink that raises is dropped, with one warning."""

    def __init__(self, sinks: Sequence[Sink] = ()) -> None:
        self._sinks = list(sinks)

    @property
    def has_panel(self) -> bool:
        """Whether the run has a panel in a notebook."""
        return self._panel() is not None

    def update(self, state: RunProgress, events: Sequence[Event]) -> None:
        """Pass the events on to every sink."""
        self._each("update", state, events)

    def close(self, state: RunProgress, summary: Summary) -> None:
        """Pass the final state on to every sink."""
        self._each("close", state, summary)

    def show_panel(self, controls: Controls, wait_mode: notebook.WaitMode) -> None:
        """Show the run's panel in the current cell; create the panel if there is none yet."""
        panel = self._panel()
        if panel is None:
            panel = Panel(controls, wait_mode)
            self._sinks.append(panel)
        panel.show()

    def _panel(self) -> Panel | None:
        return next((sink for sink in self._sinks if isinstance(sink, Panel)), None)

    def _each(self, method: str, *args: Any) -> None:
        for sink in list(self._sinks):
            try:
                getattr(sink, method)(*args)
            except Exception as error:
                self._sinks.remove(sink)
                _warn(type(sink).__name__, error)


def _warn(name: str, error: Exception) -> None:
    warnings.warn(
        f"progress display {name} failed and is switched off for this run "
        f"({type(error).__name__}: {error}); the run goes on",
        RuntimeWarning,
        stacklevel=3,
    )


def has_stderr() -> bool:
    """Whether there is a standard error to write to: a service or a window has none."""
    return sys.stderr is not None and not getattr(sys.stderr, "closed", False)


def choose(progress: Any, controls: Controls, wait_mode: notebook.WaitMode) -> Watchers:
    """The sinks for `progress=`: a panel in a notebook, a bar in a terminal, lines in a log."""
    if callable(progress):
        from .callback import CallbackSink

        return Watchers([CallbackSink(progress)])
    in_marimo = notebook.in_marimo()
    if progress == "none" or (not has_stderr() and not notebook.in_kernel() and not in_marimo):
        return Watchers()
    if in_marimo and progress in ("auto", "widget"):
        from .marimo_panel import MarimoPanel

        return Watchers([MarimoPanel(controls, wait_mode)])
    if progress == "widget" and not notebook.has_widgets():
        raise ValueError("progress='widget' needs a notebook with ipywidgets; use 'auto'")
    if progress == "widget" or (progress == "auto" and notebook.has_widgets()):
        watchers = Watchers()
        try:
            watchers.show_panel(controls, wait_mode)
        except Exception as error:
            _warn("Panel", error)
        return watchers
    from .bar import BarSink, LogSink

    if notebook.in_kernel():
        return Watchers([BarSink(every_s=1.0)])  # because every refresh sends a message to the page
    return Watchers([BarSink() if sys.stderr.isatty() else LogSink()])
