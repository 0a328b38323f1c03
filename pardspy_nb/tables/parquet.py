"""A parquet file whose schema may change while rows arrive. Each schema gets a segment; at the end
the segments become one file."""

from __future__ import annotations

import json
import os
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..signatures.fields import Field
from . import frame

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

_ROWS_AT_A_TIME = 20_000


def to_arrow(df: pd.DataFrame, outputs: Mapping[str, Field], *, index: bool = False) -> pa.Table:
    """A frame as a table; with `index=True` also its index, unless that is a plain range. A column
    of mixed values, or of values that no file can hold, becomes text."""
    import pyarrow as pa

    keep = None if index else False
    try:
        return pa.Table.from_pandas(df, preserve_index=keep)
    except (pa.ArrowException, OverflowError, TypeError, ValueError):
        df = df.copy(deep=False)
        for name in df.columns:
            try:
                pa.array(df[name], from_pandas=True)
            except (pa.ArrowException, OverflowError, TypeError, ValueError):
                frame.to_text(df, name, outputs.get(name))
        return pa.Table.from_pandas(df, preserve_index=keep)


def beside(carried: pa.Table, own: pa.Table) -> pa.Table:
    """The columns of both tables. A column of `own` replaces the column of the same name in
    `carried`, at the same position."""
    columns = dict(zip(carried.column_names, carried.columns, strict=True))
    fields = {f.name: f for f in carried.schema}
    columns |= dict(zip(own.column_names, own.columns, strict=True))
    fields |= {f.name: f for f in own.schema}
    import pyarrow as pa

    schema = pa.schema(list(fields.values()), _pandas(own.schema, carried.schema))
    return pa.table(list(columns.values()), schema=schema)


class ParquetSegments:
    """Writes tables to `path`. Column names and types may differ from table to table."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._files: list[Path] = []
        self._schemas: list[pa.Schema] = []
        self._writer: Any = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been written."""
        return not self._files

    def write(self, table: pa.Table) -> None:
        """Append the rows of a table."""
        import pyarrow.parquet as pq

        if self._folder is None:  # beside the target, so that the file can be moved there
            self._folder = tempfile.TemporaryDirectory(
                prefix=f".{self._path.name}.", suffix=".part", dir=self._path.parent
            )
        if self._writer is None or not self._schemas[-1].equals(table.schema):
            self._end_segment()
            file = Path(self._folder.name) / f"{len(self._files)}.parquet"
            self._writer = pq.ParquetWriter(file, table.schema)
            self._files.append(file)
            self._schemas.append(table.schema)
        self._writer.write_table(table)

    def _end_segment(self) -> None:
        if self._writer is not None:
            self._writer.close()
            self._writer = None

    def close(self, about: Mapping[str, Any], *, complete: bool) -> Path:
        """Join the segments into one file and return its path. If the rows are not complete, the
        file is beside the target."""
        import pyarrow.parquet as pq

        self._end_segment()
        assert self._folder is not None
        attrs = json.dumps({"pardspy": about}, default=str).encode()  # the key where pandas looks
        schema = one_schema(self._schemas)
        schema = schema.with_metadata({**(schema.metadata or {}), b"PANDAS_ATTRS": attrs})
        whole = Path(self._folder.name) / "whole.parquet"
        with pq.ParquetWriter(whole, schema) as writer:
            for table in self._read():
                writer.write_table(_fitted(table, schema))
        partial = self._path.with_suffix(".partial.parquet")
        target = self._path if complete else partial
        os.replace(whole, target)
        if complete:
            partial.unlink(missing_ok=True)
        return target

    def _read(self) -> Iterator[pa.Table]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        for file in self._files:
            for batch in pq.ParquetFile(file).iter_batches(_ROWS_AT_A_TIME):
                yield pa.Table.from_batches([batch])

    def drop(self) -> None:
        """Remove the temporary files; the target stays."""
        self._end_segment()
        if self._folder is not None:
            self._folder.cleanup()


def one_schema(schemas: Sequence[pa.Schema]) -> pa.Schema:
    """The columns of all schemas, in order. A column has a type that holds the values of every
    schema: a number type if all its types are numbers, else text."""
    import pyarrow as pa

    names: list[str] = []
    for schema in schemas:
        at = 0
        for name in schema.names:
            if name in names:
                at = names.index(name) + 1
            else:
                names.insert(at, name)
                at += 1
    found = [{s.field(n).type for s in schemas if n in s.names} for n in names]
    fields = [pa.field(n, _one_type(types)) for n, types in zip(names, found, strict=True)]
    kept = {n for n, types in zip(names, found, strict=True) if len(types) == 1}
    return pa.schema(fields, _pandas(*reversed(schemas), names=kept))


def _one_type(types: set[pa.DataType]) -> pa.DataType:
    import pyarrow as pa

    known = {t for t in types if not _holds_nothing(t)} or types
    if len(known) == 1:
        return next(iter(known))
    if all(pa.types.is_integer(t) for t in known):
        return pa.int64()
    if all(pa.types.is_integer(t) or pa.types.is_floating(t) for t in known):
        return pa.float64()
    return pa.large_string()


def _holds_nothing(kind: pa.DataType) -> bool:
    import pyarrow as pa

    return bool(
        pa.types.is_null(kind) or (pa.types.is_list(kind) and pa.types.is_null(kind.value_type))
    )


def _fitted(table: pa.Table, schema: pa.Schema) -> pa.Table:
    import pyarrow as pa

    columns = []
    for field in schema:
        if field.name not in table.column_names:
            columns.append(pa.nulls(table.num_rows, field.type))
            continue
        column = table.column(field.name)
        try:
            columns.append(column.cast(field.type))
        except pa.ArrowException:  # lists, structs and similar values become text
            spelled = [
                v if v is None or isinstance(v, str) else json.dumps(v, default=str)
                for v in column.to_pylist()
            ]
            columns.append(pa.array(spelled, field.type))
    return pa.table(columns, schema=schema)


def _pandas(*schemas: pa.Schema, names: set[str] | None = None) -> dict[bytes, bytes]:
    """The metadata that pandas needs to restore the columns. For each column the first schema that
    has it counts."""
    known: dict[str, Any] = {}
    head: dict[str, Any] = {}
    index: list[str] = []
    for schema in schemas:
        stored = json.loads((schema.metadata or {}).get(b"pandas", b"{}"))
        head = head or stored
        levels = [n for n in stored.get("index_columns", ()) if isinstance(n, str)]
        index = index or [n for n in levels if n in schema.names]
        for column in stored.get("columns", ()):
            name = column["field_name"]
            if name in schema.names and (names is None or name in names):
                known.setdefault(name, column)
    if not head:
        return {}
    head = head | {"columns": list(known.values()), "index_columns": index, "column_indexes": []}
    return {b"pandas": json.dumps(head).encode()}
