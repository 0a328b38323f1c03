"""Types as people write them: `list of Product (name: text, price: number)`."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Union, get_args, get_origin

from ..core.labels import plain_label

_WORDS: dict[Any, str] = {
    str: "text",
    int: "whole number",
    float: "number",
    bool: "true or false",
    dt.datetime: "date and time",
    dt.date: "date",
    dt.time: "time of day",
    dict: "object",
    list: "list",
    tuple: "list",
    set: "list",
    type(None): "nothing",
    Any: "anything",
}
_LISTS = (list, tuple, set, frozenset)


def type_words(kind: Any) -> str:
    """A type in words. A plain scalar keeps its short name (`str`, `int`), as in a signature."""
    if isinstance(kind, type) and kind in (str, int, float, bool, dt.datetime, dict, list):
        return kind.__name__
    return _words(kind, ())


def _words(kind: Any, around: tuple[Any, ...]) -> str:
    origin, args = get_origin(kind), get_args(kind)
    if origin is Annotated:
        return _words(args[0], around)
    if origin is Literal:
        return "one of: " + ", ".join(map(str, args))
    if origin in (Union, types.UnionType):
        return " or ".join(_words(of, around) for of in args)
    if origin in _LISTS and args:
        items = [of for of in args if of is not Ellipsis]
        words = [_words(of, around) for of in items]
        is_fixed = origin is tuple and len(args) == len(items)
        return f"list of {', '.join(words)}" if is_fixed else f"list of {words[0]}"
    if origin is dict or (isinstance(origin, type) and issubclass(origin, Mapping)):
        return f"object of {_words(args[-1], around)} by name" if args else "object"
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return "one of: " + ", ".join(str(plain_label(member)) for member in kind)
    if (fields := _fields_of(kind)) is not None:
        name = getattr(kind, "__name__", str(kind))
        if kind in around:  # it contains itself
            return name
        inner = [f"{own}: {_words(of, (*around, kind))}" for own, of in fields.items()]
        return f"{name} ({', '.join(inner)})" if inner else name
    try:
        return _WORDS.get(kind) or str(getattr(kind, "__name__", kind))
    except TypeError:  # it cannot be hashed
        return str(kind)


def _fields_of(kind: Any) -> dict[str, Any] | None:
    """The fields of a pydantic model, a dataclass or a TypedDict, under their names in JSON."""
    if isinstance(kind, type) and hasattr(kind, "model_fields"):
        declared: Mapping[str, Any] = kind.model_fields
        return {field.alias or name: field.annotation for name, field in declared.items()}
    if isinstance(kind, type) and (dataclasses.is_dataclass(kind) or typing.is_typeddict(kind)):
        return typing.get_type_hints(kind)
    return None
