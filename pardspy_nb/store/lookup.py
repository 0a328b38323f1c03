"""What is known of a row before it is asked: its key, and what the store holds under it."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .schema import Kept


class Lookup:
    """The look-up of a row under way.

    Attributes:
        key: the row's key, None if the inputs cannot be written as text.
        words: the inputs as text, as far as they decide the answer.
        stage: the row's stage, of which all this is true.
        was_looked_up: whether the store was searched in advance.
        kept: the stored answer that was found in advance, or None.
        is_claimed: whether the row is this run's to ask.
        was_answered: whether an answer came into the store after it was searched.
        waits_since: when it was first found to be under way in another run.
    """

    __slots__ = (
        "is_claimed",
        "kept",
        "key",
        "stage",
        "waits_since",
        "was_answered",
        "was_looked_up",
        "words",
    )

    def __init__(self, key: bytes | None, words: str, stage: int) -> None:
        self.key, self.words, self.stage = key, words, stage
        self.kept: Kept | None = None
        self.was_looked_up = self.was_answered = self.is_claimed = False
        self.waits_since: float | None = None
