"""A review in marimo: one row at a time, a button for each label."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from .marimo_view import MarimoView
from .review_state import MOST_BUTTONS, Reviewed, ReviewState


class MarimoReview:
    """As `ReviewPanel`, of marimo's own elements; `show` returns the cell's value."""

    def __init__(self, review: Reviewed) -> None:
        import marimo

        self._mo, self._state, self._labels = marimo, ReviewState(review), list(review.labels)
        self._view = MarimoView(self._paint)
        self._typed = ""
        self._kept: list[Any] = []
        self._buttons = [
            self._button(str(label), partial(self._decide, label))
            for label in self._labels[:MOST_BUTTONS]
        ]
        self._back = self._button("Back", lambda: self._state.go(-1))
        self._skip = self._button("Skip", lambda: self._state.go(1))

    def show(self) -> Any:
        """The elements to show; they change as one decides."""
        return self._view.start()

    def _button(self, label: str, act: Callable[[], None]) -> Any:
        def clicked(value: Any) -> Any:
            act()
            self._view.change()
            return value

        return self._mo.ui.button(label=label, on_click=clicked)

    def _decide(self, label: Any) -> None:
        self._state.decide(label, self._typed)

    def _enter(self, text: str | None) -> None:
        if text:
            self._state.enter(text, self._typed)
            self._view.change()

    def _note(self, text: str) -> None:
        self._typed = text

    def _paint(self) -> Any:
        mo, state = self._mo, self._state
        self._typed = state.note  # each row has its own
        parts = [mo.Html(state.head_html() + state.row_html())]
        entry = []
        if not state.is_over:
            if len(self._labels) > MOST_BUTTONS:
                labels = [str(label) for label in self._labels]
                entry = [mo.ui.dropdown(labels, searchable=True, on_change=self._enter)]
            elif not self._labels:
                entry = [mo.ui.text(placeholder="an answer, then Enter", on_change=self._enter)]
            parts.append(mo.hstack([*self._buttons, *entry], justify="start", wrap=True, gap=0.25))
        note = mo.ui.text(
            value=state.note, placeholder="a note", on_change=self._note, debounce=False
        )
        self._kept = [note, *entry]  # marimo forgets elements that nobody holds
        shown = [self._back] if state.is_over else [self._back, self._skip, note]
        return mo.vstack([*parts, mo.hstack(shown, justify="start", wrap=True, gap=0.25)])
