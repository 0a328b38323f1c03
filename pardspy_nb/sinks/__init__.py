"""Sinks watch events. They may fail; the run never does because of them."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Sequence
from typing import Any

from ..events import Event, Progress, Sink


class Watchers:
    """The sinks of one run; one that raises is dropped with one warning."""

    def __init__(self, sinks: Sequence[Sink]) -> None:
        self._sinks = list(sinks)

    def update(self, state: Progress, events: Sequence[Event]) -> None:
        """Pass on what happened."""
        self._each("update", state, events)

    def close(self, state: Progress, summary_html: str) -> None:
        """Pass on the end."""
        self._each("close", state, summary_html)

    def _each(self, method: str, *args: Any) -> None:
        for sink in list(self._sinks):
            try:
                getattr(sink, method)(*args)
            except Exception as error:
                self._sinks.remove(sink)
                warnings.warn(
                    f"progress display {type(sink).__name__} failed and is switched off for this "
                    f"run ({type(error).__name__}: {error}); the run goes on",
                    RuntimeWarning,
                    stacklevel=2,
                )


def choose(progress: Any) -> Watchers:
    """The sinks for `progress=`: a widget in a notebook, else a tqdm bar."""
    if callable(progress):
        from .callback import CallbackSink

        return Watchers([CallbackSink(progress)])
    if progress == "none":
        return Watchers([])
    if progress == "widget" or (progress == "auto" and _in_notebook()):
        from .widget import WidgetSink

        return Watchers([WidgetSink()])
    from .bar import BarSink

    return Watchers([BarSink()])


def _in_notebook() -> bool:
    """Whether this is a Jupyter kernel that has ipywidgets."""
    ipython = sys.modules.get("IPython")
    shell = ipython.get_ipython() if ipython else None
    if shell is None or not hasattr(shell, "kernel"):
        return False
    import importlib.util

    return importlib.util.find_spec("ipywidgets") is not None
