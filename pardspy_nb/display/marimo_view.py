"""A view of marimo's own elements that changes after its cell is done."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

_LOOK_S = 0.5  # how often the thread looks whether its cell runs anew


class MarimoView:
    """Shows what `paint` returns, and again after each `change`.

    marimo shows what a `mo.Thread` puts into the output of the cell that started it. A click on an
    element has no cell of its own, so clicks only wake that thread. Elements that are the same
    objects in the next view keep the keyboard's focus, and details that are open stay open.

    Args:
        paint: returns the elements to show.
        is_over: whether nothing will change any more.
    """

    def __init__(
        self, paint: Callable[[], Any], is_over: Callable[[], bool] = lambda: False
    ) -> None:
        self._paint, self._is_over = paint, is_over
        self._changed = threading.Event()

    def change(self) -> None:
        """Show the view anew. May be called from any thread."""
        self._changed.set()

    def start(self) -> Any:
        """The view, for the cell whose value it is."""
        import marimo

        marimo.Thread(target=self._follow, name="pardspy-view", daemon=True).start()
        return self._paint()

    def _follow(self) -> None:
        import marimo

        thread = marimo.current_thread()
        while not thread.should_exit:
            if self._changed.wait(_LOOK_S):
                self._changed.clear()
                is_over = self._is_over()
                marimo.output.replace(self._paint())
                if is_over:
                    return
