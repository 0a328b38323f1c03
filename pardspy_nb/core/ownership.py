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
_LISTS = (list, tuple)
_DEEPEST = 10  # levels of a value that are looked through


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


def one_shot_in(value: Any, depth: int = 0) -> Any:
    """An iterator in a value: it can be read only once. None if there is none."""
    if type(value) in _IMMUTABLE or depth > _DEEPEST:
        return None
    if hasattr(value, "__next__") or type(value).__name__ in ("dict_values", "dict_keys"):
        return value
    inner = value.values() if type(value) is dict else value if type(value) in _LISTS else ()
    found = (one_shot_in(one, depth + 1) for one in inner)
    return next((one for one in found if one is not None), None)


def own_row(inputs: Mapping[str, Any]) -> dict[str, Any]:
    """A row's values by name, with copies of those that can be changed."""
    return {
        name: value if type(value) in _IMMUTABLE else own(value) for name, value in inputs.items()
    }


def are_immutable(values: list[Any]) -> bool:
    """Whether none of the values can be changed."""
    return set(map(type, values)) <= _IMMUTABLE


def own_column(values: list[Any]) -> list[Any]:
    """A column with copies of the values that can be changed; without any, the list itself."""
    if are_immutable(values):
        return values
    return [own(value) for value in values]
