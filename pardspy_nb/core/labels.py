"""When two spellings are the same label: one rule for true labels, predictions and aliases."""

from __future__ import annotations

import enum
import functools
import numbers
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

_WHOLE = re.compile(r"([+-]?\d+)\.0+")
_TRUTHS = {"true": "1", "false": "0"}
_SHOWN = 5


@functools.cache
def shows_names(kind: type[enum.Enum]) -> bool:
    """Whether the members of an Enum are known by their names and not by their values: where the
    values are numbers as `auto()` gives them (1 to n, in an Enum that is no number itself), or
    neither text nor numbers."""
    values = [member.value for member in kind]
    if issubclass(kind, int | str | float) and not issubclass(kind, enum.Flag):
        return False
    is_numbered = values == list(range(1, len(values) + 1)) and bool not in map(type, values)
    return is_numbered or not all(isinstance(v, str | int | float) for v in values)


def plain_label(value: Any) -> Any:
    """A label as a plain value: of an Enum's member its value, or its name (see `shows_names`)."""
    if not isinstance(value, enum.Enum):
        return value
    return value.name if shows_names(type(value)) else value.value


def label_text(value: Any) -> str:
    """A label as text. Whole floats are whole numbers, because pandas makes floats of whole
    numbers where a value is missing."""
    value = plain_label(value)
    if type(value).__name__ in ("bool", "bool_"):
        return str(bool(value))
    if isinstance(value, numbers.Real) and not isinstance(value, int):
        number = float(value)
        return str(int(number)) if number.is_integer() else str(number)
    return str(value)


def label_key(value: Any) -> str:
    """A key that equal labels have in common: case, surrounding space and the way in which Unicode
    composes a character (NFC) do not matter; `1.0` is `1`, and true is 1."""
    text = unicodedata.normalize("NFC", label_text(value)).strip().casefold()
    text = unicodedata.normalize("NFC", text)  # folding may take a character apart
    if whole := _WHOLE.fullmatch(text):
        text = whole[1]
    return _TRUTHS.get(text, text)


def keys_of(labels: Iterable[Any], aliases: Mapping[str, Any]) -> dict[str, Any]:
    """The label of each key, for declared labels and their aliases."""
    keys: dict[str, Any] = {}
    for spelling, label in [*((label, label) for label in labels), *aliases.items()]:
        keys.setdefault(label_key(spelling), label)
    return keys


def unknown_labels(values: Iterable[Any], labels: Iterable[Any]) -> str:
    """A sentence about true labels (these values) that are none of the declared labels: they count
    as wrong answers."""
    counts = Counter(label_text(value) for value in values)
    shown = ", ".join(f"{label!r} ({n:,} rows)" for label, n in counts.most_common(_SHOWN))
    more = ", …" if len(counts) > _SHOWN else ""
    declared = [label_text(label) for label in labels]
    return (
        f"true labels that match no declared label: {shown}{more}; the declared ones are "
        f"{declared[:20]}; these rows count as wrong: check the spelling of the true labels"
    )
