"""A review in a notebook: one row at a time, a button for each label."""

from __future__ import annotations

from typing import Any, Protocol

from . import html

_MOST_BUTTONS = 12  # labels; of more, one is chosen from a list
_MOST_CHARACTERS = 4000


class Reviewed(Protocol):
    """What a panel needs of a review."""

    labels: list[Any]
    places: list[int]
    show_answer: bool

    def decide_at(self, place: int, value: Any, note: str | None = None) -> None: ...
    def decision_at(self, place: int) -> Any: ...
    def text_at(self, place: int) -> list[tuple[str, str]]: ...
    def answer_at(self, place: int) -> Any: ...
    def in_words(self) -> str: ...


class ReviewPanel:
    """Shows a review's rows. The buttons stay where they are from row to row, and so does the
    keyboard's focus: Enter decides the next row alike, Tab goes to another label."""

    def __init__(self, review: Reviewed) -> None:
        import ipywidgets

        self._review = review
        self._at = self._first_open()
        self._said = ""
        self._head, self._text = ipywidgets.HTML(), ipywidgets.HTML()
        self._note = ipywidgets.Text(placeholder="a note", layout={"width": "240px"})
        layout = {"width": "auto"}
        labels = list(review.labels)
        self._buttons = []
        for label in labels[:_MOST_BUTTONS]:
            button = ipywidgets.Button(description=str(label), layout=layout)
            button.on_click(lambda _, label=label: self._decide(label))
            button.add_class("pardspy-label")
            self._buttons.append(button)
        further = []
        if not labels or len(labels) > _MOST_BUTTONS:
            entry = ipywidgets.Combobox(
                options=[str(label) for label in labels],
                placeholder="another answer, then Enter",
                continuous_update=False,
            )
            entry.observe(lambda _: self._entered(entry, labels), "value")
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

    def _first_open(self) -> int:
        for at, place in enumerate(self._review.places):
            decision = self._review.decision_at(place)
            if decision is None or decision.value is None:
                return at
        return len(self._review.places)

    def _entered(self, entry: Any, labels: list[Any]) -> None:
        if entry.value:
            by_text = {str(label): label for label in labels}
            self._decide(by_text.get(entry.value, entry.value))
            entry.value = ""

    def _decide(self, label: Any) -> None:
        if self._at >= len(self._review.places):
            return
        place = self._review.places[self._at]
        try:
            self._review.decide_at(place, label, self._note.value or None)
        except Exception as error:  # it must be seen: nothing was kept
            self._said = f"not kept: {error}"
            self._paint()
            return
        answer = self._review.answer_at(place)
        self._said = f"You: {label}. The model: {answer}."
        self._go(1)

    def _go(self, step: int) -> None:
        self._at = max(0, min(len(self._review.places), self._at + step))
        if step < 0:
            self._said = ""
        self._paint()

    def _paint(self) -> None:
        places = self._review.places
        parts = [html.note(self._review.in_words(), spoken=True)]
        if self._said:
            parts.append(html.faint(self._said))
        self._head.value = html.text(parts)
        is_over = self._at >= len(places)
        for button in [*self._buttons, self._skip]:
            button.disabled = is_over
        self._back.disabled = self._at == 0
        if is_over:
            self._text.value = html.text([html.note("All picked rows were shown.")])
            return
        place = places[self._at]
        shown = [
            html.passage(name, text[:_MOST_CHARACTERS])
            for name, text in self._review.text_at(place)
        ]
        decision = self._review.decision_at(place)
        decided = None if decision is None else decision.value
        self._note.value = (decision.note if decision is not None else None) or ""
        if self._review.show_answer or decided is not None:
            shown.append(html.passage("the model's answer", str(self._review.answer_at(place))))
        if decided is not None:
            shown.append(html.passage("decided", str(decided)))
        self._text.value = html.text([html.faint(f"row {self._at + 1} of {len(places)}"), *shown])
