"""Reads a path or another library's table as a frame."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from ..core.ownership import own_column
from .arrow import to_frame, with_range_index
from .text_files import TextFile

if TYPE_CHECKING:
    import pyarrow as pa

TEXT_FILES = (".csv", ".jsonl")
_READ_FIRST = "read it first: "
_OTHERS = {  # for files of other kinds, how to read them
    **dict.fromkeys((".xlsx", ".xls", ".ods"), f"{_READ_FIRST}pd.read_excel(path, dtype=str)"),
    **dict.fromkeys((".tsv", ".tab"), f"{_READ_FIRST}pd.read_csv(path, sep='\\t', dtype=str)"),
    **dict.fromkeys((".gz", ".zip", ".bz2", ".xz"), f"{_READ_FIRST}pd.read_csv(path, dtype=str)"),
    ".json": f"{_READ_FIRST}pd.read_json(path)",
    ".feather": f"{_READ_FIRST}pd.read_feather(path)",
}
_ENDINGS = (*TEXT_FILES, ".parquet")


def as_table(data: Any, texts: Iterable[str] = ()) -> Any:
    """A file's path or another library's table as a DataFrame; anything else unchanged.

    Args:
        texts: the columns of a csv that are text, whatever they look like.

    Raises:
        FileNotFoundError, ValueError: no such file, one that does not parse, or not a .csv,
            .parquet or .jsonl.
    """
    if hasattr(data, "to_delayed") and hasattr(data, "columns"):  # a Dask DataFrame
        return data.compute()
    if isinstance(data, str | Path):
        return _read(checked_path(data), texts)
    if type(data).__name__ == "LazyFrame":
        raise TypeError("a LazyFrame has no rows yet: pass data.collect()")
    if is_arrow_table(data):
        return to_frame(arrow_table(data))
    return data


def arrow_table(data: Any) -> pa.Table:
    """A table of pyarrow or polars as one of pyarrow. ValueError if it has columns of Python
    objects, or of types that pyarrow lacks."""
    import pyarrow as pa

    dtypes = getattr(data, "dtypes", None) or []
    if odd := [n for n, kind in zip(data.columns, dtypes, strict=False) if str(kind) == "Object"]:
        raise ValueError(f"the columns {odd} hold Python objects: give them a type, or drop them")
    try:
        return pa.table(data)
    except pa.ArrowException as error:
        raise ValueError(f"pyarrow cannot take this table: {error}; cast the column") from error


def is_arrow_table(data: Any) -> bool:
    """Whether this is a table of pyarrow or polars, not a column and not a frame of pandas."""
    is_arrow = not isinstance(data, pd.DataFrame) and hasattr(data, "__arrow_c_stream__")
    return is_arrow and hasattr(data, "columns")


def checked_path(data: str | Path) -> Path:
    """The path of a file that can be read, or of a folder of parquet files.

    Raises:
        FileNotFoundError, ValueError: there is no such file, or it is none that can be read.
    """
    if "://" in str(data):
        raise ValueError(
            f"{str(data)!r} is a URL, and only files are read: pd.read_csv(url, dtype=str)"
        )
    if not str(data).strip():
        raise ValueError("the path is empty")
    path = Path(data).expanduser()
    if path.is_dir():
        if not any(path.glob("**/*.parquet")):
            n_csv = sum(1 for _ in path.glob("*.csv"))
            has = f"it has {n_csv} .csv files" if n_csv else "it has no .parquet files"
            raise ValueError(
                f"cannot read the folder {str(path)!r}: {has}; pass one file, or a frame: "
                "pd.concat((pd.read_csv(p, dtype=str) for p in sorted(Path(folder).glob('*.csv')))"
                ", ignore_index=True)"
            )
        return path
    if path.suffix.lower() not in _ENDINGS:
        how = _OTHERS.get(path.suffix.lower(), "pass a single input as {'name': value}")
        raise ValueError(
            f"cannot read {str(data)!r}: a path ends in .parquet, .csv or .jsonl; {how}"
        )
    if not path.exists():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    return path


class RowGroups:
    """The row groups of a parquet file, or of the files of a folder, read one by one.

    Args:
        path: see `checked_path`.
    """

    def __init__(self, path: Path) -> None:
        import pyarrow.parquet as pq

        self._groups: list[tuple[Path, int, int, int]] = []  # file, group, first row, rows of file
        for file in sorted(path.glob("**/*.parquet")) if path.is_dir() else [path]:
            metadata = pq.ParquetFile(file).metadata
            first = 0
            for group in range(metadata.num_row_groups):
                self._groups.append((file, group, first, metadata.num_rows))
                first += metadata.row_group(group).num_rows
            self._file = file

    def __len__(self) -> int:
        return max(1, len(self._groups))

    def read(self, number: int) -> pd.DataFrame:
        """The rows of a group; without any group an empty frame."""
        import pyarrow.parquet as pq

        if not self._groups:
            return to_frame(pq.ParquetFile(self._file).schema_arrow.empty_table())
        file, group, first, rows = self._groups[number]
        table = pq.ParquetFile(file).read_row_group(group)
        return to_frame(with_range_index(table, first, rows))


def _read(path: Path, texts: Iterable[str]) -> pd.DataFrame:
    if path.suffix.lower() in TEXT_FILES and not path.is_dir():
        return TextFile(path, texts=texts).chunk(0)
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        return to_frame(pq.read_table(path))
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"cannot read {str(path)!r}: {error}") from error


def own_table(table: Any) -> Any:
    """A copy of a frame; values that can themselves be changed are copied, too."""
    table = table.copy(deep=True)
    table.index = table.index.copy(deep=False)
    table.attrs = {}
    for place, dtype in enumerate(table.dtypes):
        if pd.api.types.is_object_dtype(dtype):
            values = table.iloc[:, place].tolist()
            if (copies := own_column(values)) is not values:
                table.isetitem(place, pd.Series(copies, dtype=object, index=table.index))
    return table
