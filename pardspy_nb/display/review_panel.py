"""A review in Jupyter: one row at a time, a button for each label."""

from __future__ import annotations

from typing import Any

from . import html
from .review_state import MOST_BUTTONS, Reviewed, ReviewState


class ReviewPanel:
    """Shows a review's rows. The buttons stay where they are from row to row, and so does the
    keyboard's focus: Enter decides the next row alike, Tab goes to another label."""

    def __init__(self, review: Reviewed) -> None:
        import ipywidgets

        self._state = ReviewState(review)
        self._head, self._text = ipywidgets.HTML(), ipywidgets.HTML()
        self._note = ipywidgets.Text(placeholder="a note", layout={"width": "240px"})
        layout = {"width": "auto"}
        labels = list(review.labels)
        self._buttons = []
        for label in labels[:MOST_BUTTONS]:
            button = ipywidgets.Button(description=str(label), layout=layout)
            button.on_click(lambda _, label=label: self._decide(label))
            button.add_class("pardspy-label")
            self._buttons.append(button)
        further = []
        if not labels or len(labels) > MOST_BUTTONS:
            entry = ipywidgets.Combobox(
                options=[str(label) for label in labels],
                placeholder="another answer, then Enter",
                continuous_update=False,
            )
            entry.observe(lambda _: self._entered(entry), "value")
            further = [entry]
        self._skip = ipywidgets.Button(description="Skip", icon="forward", layout=layout)
        self._back = ipywidgets.Button(description="Back", icon="backward", layout=layout)
        self._skip.on_click(lambda _: self._go(1))
        self._back.on_click(lambda _: self._go(-1))
        wrap = {"flex_flow": "row wrap"}
        self._box = ipywidgets.VBox(
            [
                self._head,
                self._text,
                ipywidgets.Box([*self._buttons, *further], layout=wrap),
                ipywidgets.Box([self._back, self._skip, self._note], layout=wrap),
            ],
            layout={
                "max_width": "760px",
                "border_left": f"3px solid {html.BLUE}",
                "padding": "0 0 0 12px",
            },
        )
        self._box.add_class("pardspy-review")
        self._paint()

    def show(self) -> None:
        """Display it in the cell that runs now."""
        from IPython.display import display

        display(self._box)  # type: ignore[no-untyped-call]

    def _entered(self, entry: Any) -> None:
        if entry.value:
            self._state.enter(entry.value, self._note.value)
            self._paint()
            entry.value = ""

    def _decide(self, label: Any) -> None:
        self._state.decide(label, self._note.value)
        self._paint()

    def _go(self, step: int) -> None:
        self._state.go(step)
        self._paint()

    def _paint(self) -> None:
        state = self._state
        self._head.value, self._text.value = state.head_html(), state.row_html()
        for button in [*self._buttons, self._skip]:
            button.disabled = state.is_over
        self._back.disabled = state.at == 0
        if not state.is_over:
            self._note.value = state.note
