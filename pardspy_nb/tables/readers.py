"""Reads a path or another library's table as a frame; refuses columns that a run would
overwrite."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any

import pandas as pd

from ..signatures.fields import RESERVED

_READERS: dict[str, Callable[[Any], Any]] = {
    ".csv": pd.read_csv,
    ".parquet": pd.read_parquet,
    ".jsonl": lambda path: pd.read_json(path, lines=True),
}


def as_table(data: Any) -> Any:
    """A file's path or another library's table as a DataFrame; anything else unchanged.

    Raises:
        FileNotFoundError, ValueError: no such file, or not a .csv, .parquet or .jsonl.
    """
    if hasattr(data, "to_delayed") and hasattr(data, "columns"):  # a Dask DataFrame
        return data.compute()
    if isinstance(data, str | Path) and Path(data).is_dir():
        return pd.read_parquet(data)
    if isinstance(data, str | Path):
        reader = _READERS.get(Path(data).suffix.lower())
        if reader is None:
            raise ValueError(
                f"cannot read {str(data)!r}: a path ends in {', '.join(_READERS)}; "
                "pass a single input as {'name': value}"
            )
        return reader(data)
    arrow = not isinstance(data, pd.DataFrame) and hasattr(data, "__arrow_c_stream__")
    if arrow and hasattr(data, "columns"):  # a table of pyarrow or polars, not a column
        return pd.DataFrame.from_arrow(data)  # type: ignore[attr-defined]  # stubs lag
    return data


def read_chunks(path: Path, rows: int, texts: Iterable[str]) -> Iterator[pd.DataFrame]:
    """A .csv or .jsonl file in frames of `rows` rows; the columns in `texts` are read as text."""
    kinds = dict.fromkeys(texts, "str")
    try:
        if path.suffix.lower() == ".csv":
            header = pd.read_csv(path, nrows=0).columns
            kinds = {name: kind for name, kind in kinds.items() if name in header}
            yield from pd.read_csv(path, chunksize=rows, dtype=kinds)
        else:
            yield from pd.read_json(path, lines=True, chunksize=rows, dtype=kinds or None)
    except ValueError as error:  # pandas' errors of parsing and decoding are ValueErrors
        raise ValueError(f"cannot read {str(path)!r}: {error}") from error


def check_columns(table: Any, outputs: Iterable[str]) -> None:
    """Refuse a table with columns that the run would overwrite.

    Raises:
        ValueError: it has such columns.
    """
    check_names(getattr(table, "columns", ()), outputs)


def check_names(columns: Iterable[Any], outputs: Iterable[str]) -> None:
    """As `check_columns`, for the column names alone."""
    taken = {*RESERVED, *outputs}
    if clash := [str(name) for name in columns if name in taken]:
        raise ValueError(
            f"the DataFrame already has columns {clash}, which this run writes; rename them, or "
            "pass only the inputs: df[['…']]"
        )
