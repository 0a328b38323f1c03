"""Results for other tools (polars, pyarrow, files), with the run's metadata."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from ..core.written_files import written_beside
from .arrow import check_names, only_counts, to_arrow, with_index_columns
from .column_types import is_plain, python_values, simple, text_column
from .json_text import to_json, to_text

if TYPE_CHECKING:
    import pyarrow as pa

_FORMULA = ("=", "+", "-", "@", "\t", "\r")
_NEEDS = {
    "pandas": (),
    "pyarrow": ("pyarrow",),
    "polars": ("polars", "pyarrow"),
    "dask": ("dask", "distributed"),
}


def check_kind(kind: str) -> None:
    """Refuse a kind of result that cannot be made, before anything is paid for.

    Raises:
        ModuleNotFoundError: the library of this kind is not installed.
    """
    for library in _NEEDS[kind]:
        if importlib.util.find_spec(library) is None:
            raise ModuleNotFoundError(f"result={kind!r} needs {library}: pip install {library}")


def convert(df: pd.DataFrame, kind: str) -> Any:
    """A result frame as the requested kind of table: unchanged, `as_arrow` or `as_polars`."""
    if kind == "pyarrow":
        return as_arrow(df)
    return as_polars(df) if kind == "polars" else df


def as_arrow(df: pd.DataFrame) -> pa.Table:
    """A result frame as a pyarrow table.

    `df.attrs` is in the schema's metadata, where pandas looks for it. An index other than
    0, 1, 2, … becomes a column, which pandas makes the index again. Values that no column type can
    hold become JSON.
    """
    table = to_arrow(shown := indexed(df))
    if shown.shape[1] > df.shape[1]:
        table = with_index_columns(table, df.index.names)
    return _with_attrs(table, df)


def as_polars(df: pd.DataFrame) -> Any:
    """A result frame as a polars frame, labels as `Enum`. A polars frame has no place for the run's
    metadata, which stays in `df.attrs`."""
    import polars as pl

    frame: Any = pl.from_arrow(to_arrow(indexed(df)))
    kinds = {
        str(name): pl.Enum(list(column.cat.categories))
        for name, column in df.items()
        if isinstance(column.dtype, pd.CategoricalDtype)
        and all(isinstance(label, str) for label in column.cat.categories)
    }
    return frame.with_columns(pl.col(name).cast(kind) for name, kind in kinds.items())


def to_parquet(df: pd.DataFrame, path: Path) -> Path:
    """Write a result as a parquet file; `pd.read_parquet` restores it with its `attrs`."""
    import pyarrow.parquet as pq

    with written_beside(path) as new:
        pq.write_table(_with_attrs(to_arrow(df, index=True), df), new)
    return path


def to_csv(df: pd.DataFrame, path: Path, *, formulas: Literal["keep", "escape"] = "keep") -> Path:
    """Write a result as CSV and the run's metadata in `NAME.provenance.json` beside it; return the
    path of the CSV. Values other than text, numbers and dates are written as JSON.

    Args:
        formulas: with `"escape"`, an apostrophe stands before texts that a spreadsheet would take
            for a formula (OWASP, "CSV Injection").
    """
    if formulas not in ("keep", "escape"):
        raise ValueError(f"formulas must be 'keep' or 'escape', got {formulas!r}")
    shown = indexed(df)
    for place in range(shown.shape[1]):
        if not is_plain(column := shown.iloc[:, place]):
            texts = [to_text(simple(value)) for value in python_values(column)]
            shown.isetitem(place, text_column(texts))
    if formulas == "escape":
        shown = _escaped(shown)
    with written_beside(path) as new:
        shown.to_csv(new, index=False)
    _put_beside(df, path)
    return path


def to_jsonl(df: pd.DataFrame, path: Path) -> Path:
    """As `to_csv`, with one JSON object per row."""
    shown = indexed(df)
    columns = [_for_json(shown.iloc[:, place]) for place in range(shown.shape[1])]
    names = list(map(str, shown.columns))
    with written_beside(path) as new, new.open("wb") as file:
        for row in zip(*columns, strict=True):
            file.write(to_json(dict(zip(names, row, strict=True))) + b"\n")
    _put_beside(df, path)
    return path


def _put_beside(df: pd.DataFrame, path: Path) -> None:
    beside = path.with_name(f"{path.name}.provenance.json")
    with written_beside(beside) as new:
        new.write_text(json.dumps(df.attrs.get("pardspy", {}), indent=1, default=str))


def _escaped(df: pd.DataFrame) -> pd.DataFrame:
    """The frame with an apostrophe before texts and names that would be formulas."""
    shown = df.rename(columns=_no_formula)
    for place in range(shown.shape[1]):
        column = shown.iloc[:, place]
        if any(isinstance(v, str) and v.startswith(_FORMULA) for v in column.array):
            texts = [_no_formula(value) for value in column.astype(object)]
            shown.isetitem(place, pd.Series(texts, dtype=object).array)
    return shown


def _no_formula(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value


def _with_attrs(table: pa.Table, df: pd.DataFrame) -> pa.Table:
    attrs = {b"PANDAS_ATTRS": json.dumps(df.attrs, default=str).encode()}
    return table.replace_schema_metadata({**(table.schema.metadata or {}), **attrs})


def _for_json(column: pd.Series[Any]) -> list[Any]:
    return [
        value.isoformat() if getattr(value, "nanosecond", 0) else simple(value)
        for value in python_values(column)
    ]


def indexed(df: pd.DataFrame) -> pd.DataFrame:
    """A copy of the frame with its index as the first columns, unless the index only counts."""
    check_names(df)
    index = df.index
    if only_counts(index):
        return df.copy(deep=False)
    names: list[Any] = []
    for level, name in enumerate(index.names):
        known = name if name is not None else "index" if index.nlevels == 1 else f"index_{level}"
        while known in df.columns or known in names:
            known = f"{known}_"
        names.append(known)
    return df.rename_axis(names).reset_index()
