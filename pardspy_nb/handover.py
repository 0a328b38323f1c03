"""Results for other tools, with what is known of the run: polars, pyarrow, files."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

if TYPE_CHECKING:
    import pyarrow as pa

_NEEDS = {"pandas": (), "pyarrow": ("pyarrow",), "polars": ("polars", "pyarrow"),
          "dask": ("dask", "distributed")}  # fmt: skip


def check_kind(kind: str) -> None:
    """Refuse a kind of result that could not be made, before anything is paid for.

    Raises:
        ModuleNotFoundError: its library is not installed.
    """
    for library in _NEEDS[kind]:
        if importlib.util.find_spec(library) is None:
            raise ModuleNotFoundError(f"result={kind!r} needs {library}: pip install {library}")


def handed_over(df: pd.DataFrame, kind: str) -> Any:
    """A result frame as the kind of table that was asked for: as it is, `as_arrow`, `as_polars`."""
    if kind == "pyarrow":
        return as_arrow(df)
    return as_polars(df) if kind == "polars" else df


def as_arrow(df: pd.DataFrame) -> pa.Table:
    """A result frame as a pyarrow table. Its schema's metadata have `df.attrs`, where pandas looks
    for them; an index that says something becomes a column; values that no column can hold become
    JSON."""
    index = df.index
    counts = isinstance(index, pd.RangeIndex) and (index.start, index.step) == (0, 1)
    return _table(df if counts else _with_index(df), index=False)


def as_polars(df: pd.DataFrame) -> Any:
    """A result frame as a polars one, labels as `Enum`. It has no place for what is known of the
    run: that stays in `df.attrs`."""
    import polars as pl

    frame: Any = pl.from_arrow(as_arrow(df))
    kinds = {
        str(name): pl.Enum(list(column.cat.categories))
        for name, column in df.items()
        if isinstance(column.dtype, pd.CategoricalDtype)
        and all(isinstance(label, str) for label in column.cat.categories)
    }
    return frame.with_columns(pl.col(name).cast(kind) for name, kind in kinds.items())


def to_parquet(df: pd.DataFrame, path: Path) -> Path:
    """Write a result as a parquet file; `pd.read_parquet` gives it back with its `attrs`."""
    import pyarrow.parquet as pq

    pq.write_table(_table(df, index=None), path)
    return path


def to_csv(df: pd.DataFrame, path: Path) -> Path:
    """Write a result as text, and what is known of the run beside it; where that is."""
    _spelled_out(df).to_csv(path, index=False)
    return _beside(df, path)


def to_jsonl(df: pd.DataFrame, path: Path) -> Path:
    """The same, with a JSON object a row."""
    _spelled_out(df).to_json(path, orient="records", lines=True, force_ascii=False,
                             date_format="iso")  # fmt: skip
    return _beside(df, path)


def _beside(df: pd.DataFrame, path: Path) -> Path:
    beside = path.with_name(f"{path.name}.provenance.json")
    beside.write_text(json.dumps(df.attrs.get("pardspy", {}), indent=1, default=str))
    return beside


def _table(df: pd.DataFrame, *, index: bool | None) -> pa.Table:
    import pyarrow as pa

    table = pa.Table.from_pandas(_columnar(df), preserve_index=index)
    attrs = {b"PANDAS_ATTRS": json.dumps(df.attrs, default=str).encode()}
    return table.replace_schema_metadata({**(table.schema.metadata or {}), **attrs})


def _columnar(df: pd.DataFrame) -> pd.DataFrame:
    """The same with columns of mixed or unknown values as JSON."""
    import pyarrow as pa

    odd = []
    for name, column in df.items():
        if column.dtype == object:
            try:
                pa.array(column, from_pandas=True)
            except (pa.ArrowException, OverflowError, TypeError, ValueError):
                odd.append(name)
    return df.assign(**{str(name): _as_json(df[name]) for name in odd})


def _spelled_out(df: pd.DataFrame) -> pd.DataFrame:
    objects = [name for name, column in df.items() if column.dtype == object]
    return df.assign(**{str(name): _as_json(df[name]) for name in objects})


def _as_json(column: pd.Series[Any]) -> Any:
    from pydantic_core import to_json

    def text(value: Any) -> Any:
        if value is None or isinstance(value, str):
            return value
        return to_json(value, fallback=str).decode()

    return pd.array([text(value) for value in column], dtype="str")


def _with_index(df: pd.DataFrame) -> pd.DataFrame:
    names = [name if name is not None else "index" for name in df.index.names]
    if taken := [str(name) for name in names if name in df.columns]:
        raise ValueError(f"the index is called {taken}, as columns are: df.rename_axis(…) first")
    return df.rename_axis(names).reset_index()
