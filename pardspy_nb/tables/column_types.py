"""Columns in types that files and other tables have, without a change of values."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
from collections.abc import Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..core.labels import plain_label
from ..core.plain_text import writable
from .json_text import to_text
from .values import is_missing

if TYPE_CHECKING:
    import pyarrow as pa

# pandas' type of text, in which a missing value is missing: `str` from pandas 3 on. For pandas 2
# `str` is numpy's, which makes the text "None" of None; its type of text is called `string`.
TEXT: str = "str" if isinstance(pd.api.types.pandas_dtype("str"), pd.StringDtype) else "string"

_EXACT = 2**53  # whole numbers beyond this have no exact float (IEEE 754)
_FAILURES = (NotImplementedError, OverflowError, TypeError, ValueError)  # Arrow's are ValueErrors


def with_arrow_type(column: pd.Series) -> Any:
    """The column with values that Arrow has one type for. A column of mixed values, and one of
    dicts that differ in their keys, is text (see `json_text`)."""
    dtype: Any = column.dtype
    if isinstance(dtype, pd.SparseDtype):
        column = column.astype(dtype.subtype)
    elif isinstance(dtype, pd.CategoricalDtype) and not _is_text(dtype.categories):
        column = column.astype(dtype.categories.dtype)  # parquet keeps categories of text only
    if not pd.api.types.is_object_dtype(column.dtype) and has_arrow_type(column):
        return column.array
    values = _simple_values(column)
    if _fits_arrow(values):
        return pd.Series(values, dtype=object).array
    return text_column([None if is_missing(v) else to_text(v) or "" for v in values])


def text_column(values: Iterable[str | None]) -> Any:
    """A column of text. Half a surrogate pair, which no file can hold, is spelled out."""
    whole = [writable(v) if isinstance(v, str) and not v.isascii() else v for v in values]
    return pd.array(whole, dtype=TEXT)  # type: ignore[call-overload]


def utc_times(seconds: Any) -> Any:
    """A column of times from seconds since 1970, to the microsecond. A nan is a missing time;
    `to_datetime` of pandas 2 would sometimes fail at one ("overflow")."""
    known = ~np.isnan(seconds)
    times = np.full(len(seconds), np.datetime64("NaT", "us"))
    times[known] = np.round(seconds[known] * 1e6).astype("int64").astype("datetime64[us]")
    return pd.Series(times).dt.tz_localize("UTC").array


def has_arrow_type(column: Any) -> bool:
    """Whether Arrow has a type for a column or an index, without a conversion of its values."""
    import pyarrow as pa

    dtype = column.dtype
    if isinstance(dtype, pd.StringDtype) or (dtype.kind in "iufbM" and dtype.itemsize <= 8):
        return True  # the usual ones; a trial would convert them twice
    try:
        pa.array(column, from_pandas=True)
    except _FAILURES:
        return False
    return True


def python_values(column: pd.Series) -> list[Any]:
    """The values as Python has them, None where one is missing."""
    if isinstance(column.dtype, pd.ArrowDtype):
        import pyarrow as pa

        listed: list[Any] = pa.array(column, from_pandas=True).to_pylist()
        return listed
    return [None if is_missing(value) else value for value in column.astype(object)]


def is_plain(column: pd.Series) -> bool:
    """Whether the values are numbers, text, truth values or times, which every file can hold."""
    dtype: Any = column.dtype
    if isinstance(dtype, pd.CategoricalDtype):
        return _is_text(dtype.categories)
    if isinstance(dtype, pd.ArrowDtype):
        return dtype.kind in "iufbM" and not isinstance(dtype.type, Decimal)
    return isinstance(dtype, pd.StringDtype) or dtype.kind in "iufbM"


def _is_text(index: pd.Index) -> bool:
    return isinstance(index.dtype, pd.StringDtype) or all(isinstance(v, str) for v in index)


def _simple_values(column: pd.Series) -> list[Any]:
    found = []
    for value in python_values(column):
        try:
            found.append(simple(value))
        except RecursionError:  # it contains itself
            found.append(repr(value))
    return found


def simple(value: Any) -> Any:
    """A value as lists, dicts and scalars that Arrow and JSON know."""
    kind = type(value)
    if value is None or kind in (int, float, bool):
        return value
    if kind is str:
        return value if value.isascii() else writable(value)
    if isinstance(value, enum.Enum):
        return simple(plain_label(value))
    if kind.__module__.startswith("numpy"):
        return _of_numpy(value)
    if isinstance(value, pd.Period | pd.Interval):
        return str(value)
    if hasattr(value, "model_dump"):  # of pydantic
        return simple(value.model_dump())
    if isinstance(value, dict):
        return {simple(key): simple(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple | range):
        return [simple(inner) for inner in value]
    if isinstance(value, pd.DataFrame):
        return simple(value.to_dict(orient="records"))
    return [simple(inner) for inner in value.tolist()] if isinstance(value, pd.Series) else value


def without_models(value: Any) -> Any:
    """A value with plain dicts in place of pydantic's models and dataclasses, and with labels in
    place of enum members, so that pandas and every file can read it. Nothing else is changed."""
    kind = type(value)
    if value is None or kind in (str, int, float, bool):
        return value
    try:
        return _without_models(value)
    except RecursionError:  # it contains itself
        return value


def _without_models(value: Any) -> Any:
    kind = type(value)
    if hasattr(kind, "model_dump"):
        return _without_models(value.model_dump())
    if dataclasses.is_dataclass(kind):
        return {f.name: _without_models(getattr(value, f.name)) for f in dataclasses.fields(value)}
    if isinstance(value, enum.Enum):
        return plain_label(value)
    if kind is dict:
        return {key: _without_models(inner) for key, inner in value.items()}
    return kind(map(_without_models, value)) if kind in (list, tuple) else value


def _of_numpy(value: Any) -> Any:
    if isinstance(value, np.datetime64 | np.timedelta64):
        kind: Any = pd.Timestamp if isinstance(value, np.datetime64) else pd.Timedelta
        made = kind(value)
        return None if made is pd.NaT else made
    if isinstance(value, np.ndarray):
        is_numbers = value.dtype.kind in "iufb" and value.dtype.itemsize <= 8
        if value.ndim == 1 and is_numbers and not isinstance(value, np.ma.MaskedArray):
            return value
        return [simple(inner) for inner in (value if value.dtype.kind in "Mm" else value.tolist())]
    item = value.item()
    return float(value) if isinstance(item, np.floating) else simple(item)


def _fits_arrow(values: list[Any]) -> bool:
    import pyarrow as pa

    try:
        kind = pa.array(values, from_pandas=True).type
    except _FAILURES:
        return False
    return not _is_empty_struct(kind) and _are_alike(values)


def _is_empty_struct(kind: pa.DataType) -> bool:
    """Whether a struct without fields is in a type: no file can hold one."""
    import pyarrow as pa

    if pa.types.is_struct(kind):
        fields = [kind.field(i).type for i in range(kind.num_fields)]
        return not fields or any(map(_is_empty_struct, fields))
    return pa.types.is_list(kind) and _is_empty_struct(kind.value_type)


def _are_alike(values: list[Any]) -> bool:
    """Whether Arrow keeps values as they are. It would give all dicts the keys of all, all times
    the zone of the first, and make dates of times among dates."""
    keys: dict[str, Any] = {}
    families: dict[str, set[str]] = {}
    stack = [("", value) for value in values]
    while stack:
        path, value = stack.pop()
        if is_missing(value):
            continue
        families.setdefault(path, set()).add(_family(value))
        if isinstance(value, dict):
            if not all(isinstance(key, str) and "\0" not in key for key in value):
                return False  # names of fields are texts that end at a NUL
            if keys.setdefault(path, value.keys()) != value.keys():
                return False
            stack += [(f"{path}/{key}", inner) for key, inner in value.items()]
        elif isinstance(value, list):
            if any(map(is_missing, value)):
                families.setdefault(f"{path}[]", set()).add("float")  # as pandas reads them
            stack += [(f"{path}[]", inner) for inner in value]
    return all(len(of) == 1 or of == {"float", "int"} for of in families.values())


def _family(value: Any) -> str:
    """The kind of a value; Arrow has no type for values of several kinds, or changes some."""
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        return "int" if abs(value) <= _EXACT else "large int"
    if isinstance(value, dt.datetime):
        return f"time in {value.tzinfo}"
    if isinstance(value, dt.time) and value.tzinfo is not None:
        return f"clock in {value.tzinfo}, {value}"
    for kind in (float, str, bytes, dict, list, np.ndarray, dt.date, dt.timedelta, Decimal):
        if isinstance(value, kind):
            return "list" if kind is np.ndarray else kind.__name__
    return type(value).__name__
