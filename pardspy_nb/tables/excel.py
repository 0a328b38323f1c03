"""Results as an Excel workbook."""

from __future__ import annotations

import datetime as dt
import json
from pathlib import Path
from typing import Any

import pandas as pd

from ..core.written_files import written_beside
from .column_types import python_values, simple
from .export import indexed
from .json_text import to_text

_MOST_ROWS = 1_048_575  # below the header (Excel specifications and limits)
_MOST_CHARACTERS = 32_767  # in a cell
_EXACT = 10**15  # Excel keeps 15 digits of a number
_FIRST_YEAR = 1900
_OPTIONS = {"strings_to_formulas": False, "strings_to_urls": False, "strings_to_numbers": False}


def to_excel(df: pd.DataFrame, path: Path) -> Path:
    """Write a result as a workbook: the sheet `rows` with the rows, the sheet `run` with the run's
    metadata. Returns the path.

    Raises:
        ModuleNotFoundError: XlsxWriter is not installed.
        ValueError: more rows, or longer texts, than a sheet can hold; nothing is written.
    """
    if len(df) > _MOST_ROWS:
        raise ValueError(
            f"a sheet holds {_MOST_ROWS:,} rows, and there are {len(df):,}: use to_parquet, or "
            "write parts of the frame"
        )
    shown = indexed(df)
    for place in range(shown.shape[1]):
        shown.isetitem(place, _cells(shown.iloc[:, place]).array)
    shown.columns = pd.Index([_name(name) for name in shown.columns])
    about = df.attrs.get("pardspy", {})
    run = pd.DataFrame(
        [(key, (to_text(value) or "")[:_MOST_CHARACTERS]) for key, value in about.items()],
        columns=["name", "value"],
    )
    kwargs: Any = {"options": _OPTIONS}
    with (
        written_beside(path) as new,
        pd.ExcelWriter(new, engine="xlsxwriter", engine_kwargs=kwargs) as writer,
    ):
        shown.to_excel(writer, sheet_name="rows", index=False, freeze_panes=(1, 0))
        run.to_excel(writer, sheet_name="run", index=False)
    return path


def _name(name: Any) -> str:
    return name if isinstance(name, str) else json.dumps(name, default=str)


def _cells(column: pd.Series) -> pd.Series:
    """A column in values that a cell can hold unchanged."""
    if isinstance(column.dtype, pd.ArrowDtype):
        column = pd.Series(python_values(column), dtype=object, index=column.index)
    kind = column.dtype
    if isinstance(kind, pd.DatetimeTZDtype):
        column = column.dt.tz_convert("UTC").dt.tz_localize(None)
        kind = column.dtype
    if pd.api.types.is_bool_dtype(kind) or pd.api.types.is_float_dtype(kind):
        return column
    if pd.api.types.is_integer_dtype(kind) and not (column.abs() >= _EXACT).any():
        return column
    if pd.api.types.is_datetime64_any_dtype(kind) and not (column.dt.year < _FIRST_YEAR).any():
        return column
    values = [_cell(value) for value in column.astype(object)]
    for label, value in zip(column.index, values, strict=True):
        if isinstance(value, str) and _length(value) > _MOST_CHARACTERS:
            raise ValueError(
                f"a cell holds {_MOST_CHARACTERS:,} characters, and column {column.name!r} of row "
                f"{label!r} has {len(value):,}: use to_parquet or to_csv, or shorten the column"
            )
    return pd.Series(values, dtype=object, index=column.index)


def _length(text: str) -> int:
    """The length as Excel counts it: in UTF-16 units."""
    return len(text) if text.isascii() else len(text.encode("utf-16-le", "replace")) // 2


def _cell(value: Any) -> Any:
    value = simple(value)
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, bool | float | str):
        return value
    if isinstance(value, int):
        return value if abs(value) < _EXACT else str(value)
    if isinstance(value, dt.datetime) and value.tzinfo is not None:
        value = value.astimezone(dt.UTC).replace(tzinfo=None)
    if isinstance(value, dt.date) and value.year >= _FIRST_YEAR:
        return value
    return to_text(value)
