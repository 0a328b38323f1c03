"""Where a reviewer is in a review, and what is shown of it, for every face alike."""

from __future__ import annotations

from typing import Any, Protocol

from . import html

MOST_BUTTONS = 12  # labels; of more, one is chosen from a list
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


class ReviewState:
    """One reviewer at one row, the first that is not decided at the start."""

    def __init__(self, review: Reviewed) -> None:
        self._review = review
        self._places = review.places
        self._said = ""
        undecided = (at for at in range(len(self._places)) if self._decided(at) is None)
        self.at = next(undecided, len(self._places))

    @property
    def is_over(self) -> bool:
        """Whether all picked rows were shown."""
        return self.at >= len(self._places)

    @property
    def note(self) -> str:
        """The note of the row's decision."""
        decision = None if self.is_over else self._review.decision_at(self._places[self.at])
        return (decision.note if decision is not None else None) or ""

    def decide(self, label: Any, note: str) -> None:
        """Keep a decision on the row, and go on to the next one."""
        if self.is_over:
            return
        place = self._places[self.at]
        try:
            self._review.decide_at(place, label, note or None)
        except Exception as error:  # it must be seen: nothing was kept
            self._said = f"not kept: {error}"
            return
        self._said = f"You: {label}. The model: {self._review.answer_at(place)}."
        self.go(1)

    def enter(self, text: str, note: str) -> None:
        """Decide by a label's text."""
        by_text = {str(label): label for label in self._review.labels}
        self.decide(by_text.get(text, text), note)

    def go(self, step: int) -> None:
        """Go to another row without a decision."""
        self.at = max(0, min(len(self._places), self.at + step))
        if step < 0:
            self._said = ""

    def _decided(self, at: int) -> Any:
        decision = self._review.decision_at(self._places[at])
        return None if decision is None else decision.value

    def head_html(self) -> str:
        """How far the review is, and what was said last."""
        parts = [html.note(self._review.in_words(), spoken=True)]
        return html.text([*parts, *([html.faint(self._said)] if self._said else [])])

    def row_html(self) -> str:
        """The row's text, and the model's answer as soon as it may be seen."""
        if self.is_over:
            return html.text([html.note("All picked rows were shown.")])
        place = self._places[self.at]
        shown = [
            html.passage(name, text[:_MOST_CHARACTERS])
            for name, text in self._review.text_at(place)
        ]
        decided = self._decided(self.at)
        if self._review.show_answer or decided is not None:
            shown.append(html.passage("the model's answer", str(self._review.answer_at(place))))
        if decided is not None:
            shown.append(html.passage("decided", str(decided)))
        where = html.faint(f"row {self.at + 1} of {len(self._places)}")
        return html.text([where, *shown])
