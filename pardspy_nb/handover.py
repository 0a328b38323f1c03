"""Results for other tools, with what is known of the run: polars, pyarrow, files."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .fields import Field
from .segments import to_arrow

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_NEEDS = {"pandas": (), "pyarrow": ("pyarrow",), "polars": ("polars", "pyarrow"), "dask": ("dask",)}


def check_kind(kind: str) -> None:
    """Refuse a kind of result that could not be made, before anything is paid for.

    Raises:
        ModuleNotFoundError: its library is not installed.
    """
    for library in _NEEDS[kind]:
        if importlib.util.find_spec(library) is None:
            raise ModuleNotFoundError(f"result={kind!r} needs {library}: pip install {library}")


def handed_over(df: pd.DataFrame, kind: str, outputs: Mapping[str, Field]) -> Any:
    """A result frame as the kind of table that was asked for.

    A pyarrow table has the frame's `attrs["pardspy"]` in its schema's metadata, where pandas looks
    for them; polars keeps none. An index that says something becomes a column.
    """
    if kind == "pandas":
        return df
    table = as_arrow(df, outputs)
    if kind == "pyarrow":
        return table
    import polars

    return polars.from_arrow(table)


def as_arrow(df: pd.DataFrame, outputs: Mapping[str, Field]) -> pa.Table:
    """A result frame as a pyarrow table with what is known of the run."""
    import pandas as pd

    plain = isinstance(df.index, pd.RangeIndex) and df.index.start == 0 and df.index.step == 1
    table = to_arrow(df if plain else _with_index(df), outputs)
    return table.replace_schema_metadata({**(table.schema.metadata or {}), **_attrs(df)})


def _with_index(df: pd.DataFrame) -> pd.DataFrame:
    names = [name if name is not None else "index" for name in df.index.names]
    taken = [str(name) for name in names if name in df.columns]
    if taken:
        raise ValueError(f"the index is named {taken}, as columns are: df.rename_axis(…) first")
    return df.rename_axis(names).reset_index()


def _attrs(df: pd.DataFrame) -> dict[bytes, bytes]:
    return {b"PANDAS_ATTRS": json.dumps(df.attrs, default=str).encode()}


def to_parquet(df: pd.DataFrame, path: Path, outputs: Mapping[str, Field]) -> None:
    """Write a result as a parquet file; `pd.read_parquet` gives it back with its `attrs`."""
    import pyarrow.parquet as pq

    table = to_arrow(df, outputs, index=True)
    pq.write_table(
        table.replace_schema_metadata({**(table.schema.metadata or {}), **_attrs(df)}), path
    )


def to_text(df: pd.DataFrame, path: Path) -> Path:
    """Write a result as .csv or .jsonl, and what is known of the run beside it; where that is."""
    if path.suffix.lower() == ".csv":
        df.to_csv(path, index=False)
    else:
        df.to_json(path, orient="records", lines=True, force_ascii=False, date_format="iso")
    beside = path.with_name(f"{path.name}.provenance.json")
    beside.write_text(json.dumps(df.attrs.get("pardspy", {}), indent=1, default=str))
    return beside
