"""Copies of values, so that a later change of the original is not seen."""

from __future__ import annotations

import copy
import datetime as dt
from collections.abc import Mapping
from decimal import Decimal
from typing import Any
from uuid import UUID

_IMMUTABLE = frozenset(
    {str, int, float, bool, bytes, complex, type(None), Decimal, UUID}
    | {dt.date, dt.datetime, dt.time, dt.timedelta}
)


def own(value: Any) -> Any:
    """A copy of a value that can be changed. What cannot be copied (a lock, an open file) stays
    the same object."""
    if type(value) in _IMMUTABLE:
        return value
    try:
        return copy.deepcopy(value)
    except Exception:
        if type(value) is dict:
            return {own(key): own(inner) for key, inner in value.items()}
        return [own(inner) for inner in value] if type(value) is list else value


def own_row(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """A row's values by name, with copies of those that can be changed."""
    return {
        name: value if type(value) in _IMMUTABLE else own(value) for name, value in inputs.items()
    }


def own_column(values: list[Any]) -> list[Any]:
    """A column with copies of the values that can be changed; without any, the list itself."""
    if set(map(type, values)) <= _IMMUTABLE:
        return values
    return [own(value) for value in values]
