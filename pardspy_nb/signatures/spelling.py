"""Which label a text spells: exactly first, then more and more freely, and only where it is unique.

A text that could be two labels, or that says more than a label, is none.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Iterable, Mapping
from typing import Any

MARKS = " \t\r\n\"'`*_.,;:!?()[]“”‘’"  # characters that may surround a label in a text
NO_LABEL: Any = object()
# characters that look like others, or like nothing (Unicode Standard, chapter 6 and 23)
_TWINS = str.maketrans(
    {
        **dict.fromkeys("\u2018\u2019\u201a\u201b\u02bc\u2032", "'"),
        **dict.fromkeys("\u201c\u201d\u201e\u201f\u2033", '"'),
        **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212", "-"),
        **dict.fromkeys("\u00a0\u2007\u202f\u2009\u200a", " "),
        **dict.fromkeys("\u200b\u200c\u200d\u2060\ufeff\u00ad", None),
    }
)
_SPACES = re.compile(r"\s+")


def _plain(text: str) -> str:
    """The text with typographic characters as those of a keyboard (NFC)."""
    plain = unicodedata.normalize("NFC", text).translate(_TWINS)
    return _SPACES.sub(" ", plain).strip()


def _folded(text: str) -> str:
    return unicodedata.normalize("NFC", _plain(text).casefold())


_LEVELS: tuple[Callable[[str], str], ...] = (str, str.strip, _plain, _folded)


class Spellings:
    """The spellings of the labels of a field.

    Args:
        labels: the labels, of any type; their text is a spelling of each.
        aliases: labels by other spellings.
    """

    def __init__(self, labels: Iterable[Any], aliases: Mapping[str, Any]) -> None:
        self.spelled: list[tuple[str, Any]] = [(str(label), label) for label in labels]
        self.spelled += list(aliases.items())
        self._levels = [_by_key(self.spelled, fold) for fold in _LEVELS]

    @property
    def folds_alike(self) -> bool:
        """Whether two labels differ only in case, or only in characters that look the same."""
        return len(set(self._levels[-1])) < len({text for text, _ in self.spelled})

    def label_of(self, text: str) -> Any:
        """The label that a text spells, `NO_LABEL` for none."""
        for fold, known in zip(_LEVELS, self._levels, strict=True):
            found = known.get(fold(text), ())
            if len(found) == 1:
                return found[0]
            if len(found) > 1:
                return NO_LABEL  # freer spellings are not clearer
        bare = text.strip(MARKS)
        return self.label_of(bare) if bare and bare != text else NO_LABEL


def _by_key(spelled: Iterable[tuple[str, Any]], fold: Callable[[str], str]) -> dict[str, list[Any]]:
    known: dict[str, list[Any]] = {}
    for text, label in spelled:
        found = known.setdefault(fold(text), [])
        # 1 and True, and 1 and "1", are different labels
        if not any(type(label) is type(other) and label == other for other in found):
            found.append(label)
    return known
