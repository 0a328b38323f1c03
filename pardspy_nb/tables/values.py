"""Checks the values of inputs, before anything is asked."""

from __future__ import annotations

import numbers
from collections.abc import Callable, Iterable
from typing import Any

from ..signatures.fields import Field, Inputs
from ..signatures.image import Image

_SHOWN = 5
_INVISIBLE = " \t\r\n\u200b\u200c\u200d\u2060\ufeff"  # white space, and of no width
_WITHOUT_INVISIBLE = dict.fromkeys(map(ord, _INVISIBLE))


def is_missing(value: Any) -> bool:
    """Whether a value is missing: None, nan, NA or NaT."""
    if value is None:
        return True
    kind = type(value)
    if kind is str or kind is int or kind is list or kind is dict:
        return False
    if kind.__name__ in ("NAType", "NaTType"):
        return True
    if kind.__name__ == "datetime64" or isinstance(value, numbers.Number):
        return bool(value != value)
    return False


def is_blank(value: Any) -> bool:
    """Whether a value is missing, or a text without a visible character."""
    return _is_blank_text(value) if isinstance(value, str) else is_missing(value)


def _is_blank_text(text: str) -> bool:
    if not text or text.isspace():
        return True
    return text[0] in _INVISIBLE and not text.translate(_WITHOUT_INVISIBLE).strip()


def blank_rows(name: str, values: Iterable[Any], inputs: Inputs, first: int = 0) -> set[int]:
    """The positions of the rows where this input is required and blank. The first value's position
    is `first`.

    Raises:
        ValueError: other values are not of the declared type; the message names their rows.
    """
    field = inputs.fields.get(name)
    if field is None:
        return set()
    fits = _fits(field)
    blank, wrong = set(), []
    for position, value in enumerate(values, first):
        if isinstance(value, str):
            if _is_blank_text(value):
                blank.add(position)
        elif is_missing(value):
            blank.add(position)
            continue
        if fits is not None and not fits(value):
            wrong.append((position, value))
    wrong = [(p, v) for p, v in wrong if p not in blank]
    if wrong:
        position, value = wrong[0]
        raise ValueError(
            f"input {name!r} must be {field.type_name}, but {len(wrong)} rows are not (row "
            f"{listed([p for p, _ in wrong])}); row {position} is {type(value).__name__} "
            f"{str(value)[:60]!r}{_why(field, value)}"
        )
    return set() if field.optional else blank


def _why(field: Field, value: Any) -> str:
    """Why a value is no image; empty for other fields."""
    if field.value_type is not Image:
        return ""
    try:
        Image.of(value)
    except ValueError as error:
        return f": {error}"
    return ""


def _fits(field: Field) -> Callable[[Any], bool] | None:
    """Whether a value is of the field's type; None if every value is."""
    if field.type is Any:
        return None
    if field.type is str:
        return lambda value: isinstance(value, str)

    def fits(value: Any) -> bool:
        try:
            field.adapter.validate_python(value)
        except ValueError:
            return False
        return True

    return fits


def listed(positions: list[int]) -> str:
    """The first of some positions, for a message."""
    shown = ", ".join(map(str, positions[:_SHOWN]))
    return shown + (", …" if len(positions) > _SHOWN else "")
