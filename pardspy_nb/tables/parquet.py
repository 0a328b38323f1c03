"""A parquet file whose schema may change while rows arrive. Each schema gets a segment; at the end
the segments become one file."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.written_files import take_place
from .arrow import with_whole_numbers
from .json_text import to_text
from .work_folder import WorkFolder

if TYPE_CHECKING:
    import pyarrow as pa

_ROWS_AT_A_TIME, _BYTES_AT_A_TIME = 20_000, 16_000_000


def beside(carried: pa.Table, own: pa.Table) -> pa.Table:
    """The columns of both tables, which have no name in common."""
    import pyarrow as pa

    fields = [*carried.schema, *own.schema]
    schema = pa.schema(fields, _pandas(own.schema, carried.schema))
    return pa.table([*carried.columns, *own.columns], schema=schema)


class ParquetSegments:
    """Writes tables to `path`. Column names and types may differ from table to table.

    Args:
        path: the target.
        source: the file that the rows come from, None for none; it is never replaced or removed.
    """

    def __init__(self, path: Path, source: Path | None = None) -> None:
        self._path = path.resolve() if path.is_symlink() else path
        self._shown, self._source = path, source
        self._folder = WorkFolder(self._path)
        self._files: list[Path] = []
        self._schemas: list[pa.Schema] = []
        self._writer: Any = None

    @property
    def is_empty(self) -> bool:
        """Whether nothing has been written."""
        return not self._files

    def open(self) -> None:
        """Get ready; called once. FileExistsError if another run writes to the target."""
        self._folder.open()

    def write(self, table: pa.Table) -> None:
        """Append the rows of a table."""
        import pyarrow.parquet as pq

        if self._writer is None or not self._schemas[-1].equals(table.schema):
            self._end_segment()
            file = self._folder.path / f"{len(self._files)}.parquet"
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
        about = about if complete else {**about, "partial_of": self._path.name}
        attrs = json.dumps({"pardspy": about}, default=str).encode()  # the key where pandas looks
        schema = one_schema(self._schemas, partial(_fits_in, self._files, self._schemas))
        schema = schema.with_metadata({**(schema.metadata or {}), b"PANDAS_ATTRS": attrs})
        whole = self._folder.path / "whole.parquet"
        with pq.ParquetWriter(whole, schema) as writer:
            for table in self._read():
                writer.write_table(_fitted(table, schema))
        unfinished = self._path.with_suffix(".partial.parquet")
        if not complete:
            free = self._free_for(unfinished, about["metrics"]["successes"])
            take_place(whole, free)
            return free
        take_place(whole, self._path)
        if self._is_ours(unfinished):
            unfinished.unlink()
        return self._shown

    def _free_for(self, unfinished: Path, ok_rows: int) -> Path:
        """The name for the rows of a run that ended early: that of an earlier such run, unless it
        got further; then the first free one of NAME.partial.2.parquet, NAME.partial.3.parquet, …"""
        if not unfinished.exists() or (
            self._is_ours(unfinished) and ok_rows_in(unfinished) <= ok_rows
        ):
            return unfinished
        names = (unfinished.with_suffix(f".{n}.parquet") for n in itertools.count(2))
        return next(name for name in names if not os.path.lexists(name))

    def _is_ours(self, unfinished: Path) -> bool:
        """Whether a file is what an earlier run to this target has left, and not the source."""
        if not unfinished.is_file() or unfinished.is_symlink():
            return False
        source = self._source
        if source is not None and source.exists() and unfinished.samefile(source):
            return False
        about = _about(unfinished)
        is_whole = about.get("ended", "done") == "done" and not about.get("partial_of")
        of = about.get("partial_of", self._path.name)  # files of before do not say it
        return bool(about) and not is_whole and of == self._path.name

    def _read(self) -> Iterator[pa.Table]:
        import pyarrow as pa
        import pyarrow.parquet as pq

        for file in self._files:
            parquet = pq.ParquetFile(file)
            for batch in parquet.iter_batches(_rows_at_a_time(parquet.metadata)):
                yield pa.Table.from_batches([batch])

    def drop(self) -> None:
        """Remove the temporary files; the target stays."""
        with contextlib.suppress(Exception):  # a writer on a full disk cannot end its file
            self._end_segment()
        self._folder.remove()


def make_alike(files: Sequence[Path]) -> None:
    """Give the files of one result the same schema, because a folder of files is read as one."""
    import pyarrow.parquet as pq

    schemas = [pq.read_schema(file) for file in files]
    if all(schema.equals(schemas[0]) for schema in schemas):
        return
    schema = one_schema(schemas, partial(_fits_in, files, schemas))
    for file, before in zip(files, schemas, strict=True):
        if not before.equals(schema):
            made = file.with_suffix(".tmp")
            pq.write_table(_fitted(pq.read_table(file, schema=before), schema), made)
            os.replace(made, file)


def _fits_in(
    files: Sequence[Path], schemas: Sequence[pa.Schema], name: str, kind: pa.DataType
) -> bool:
    """Whether all values of a column can be of this type, unchanged."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for file, schema in zip(files, schemas, strict=True):
        if name not in schema.names or schema.field(name).type == kind:
            continue
        parquet = pq.ParquetFile(file)
        rows = _rows_at_a_time(parquet.metadata)
        for batch in parquet.iter_batches(rows, columns=[name]):
            try:
                batch.column(0).cast(kind)
            except pa.ArrowException:
                return False
    return True


def ok_rows_in(path: Path) -> int:
    """The number of answered rows in a file of a run that ended early; -1 if there is none."""
    try:
        return int(_about(path)["metrics"]["successes"])
    except (KeyError, TypeError, ValueError):
        return -1


def _about(path: Path) -> dict[str, Any]:
    """The run's metadata in a parquet file; empty if the file has none."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        attrs = (pq.read_schema(path).metadata or {}).get(b"PANDAS_ATTRS", b"{}")
        about = json.loads(attrs).get("pardspy")
    except (OSError, AttributeError, ValueError, pa.ArrowException):
        return {}
    return about if isinstance(about, dict) else {}


def _rows_at_a_time(metadata: Any) -> int:
    """So many rows as are a few megabytes in memory."""
    groups = (metadata.row_group(i) for i in range(metadata.num_row_groups))
    size = sum(group.total_byte_size for group in groups) / max(1, metadata.num_rows)
    return max(1, min(_ROWS_AT_A_TIME, int(_BYTES_AT_A_TIME / max(1.0, size))))


def one_schema(schemas: Sequence[pa.Schema], fits: Callable[[str, pa.DataType], bool]) -> pa.Schema:
    """The columns of all schemas, in order. A column has a type that holds the values of every
    schema unchanged, else text. `fits` tells whether all values of a column can be of a type."""
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
    fields = [pa.field(n, _one_type(n, of, fits)) for n, of in zip(names, found, strict=True)]
    kept = {n for n, types in zip(names, found, strict=True) if len(types) == 1}
    return with_whole_numbers(pa.schema(fields, _pandas(*reversed(schemas), names=kept)))


def _one_type(
    name: str, types: set[pa.DataType], fits: Callable[[str, pa.DataType], bool]
) -> pa.DataType:
    import pyarrow as pa

    known = {t for t in types if not _holds_nothing(t)} or types
    if len(known) == 1:
        return next(iter(known))
    if any(map(pa.types.is_decimal, known)) and not all(map(pa.types.is_decimal, known)):
        return pa.large_string()  # a float would round
    try:
        schemas = [pa.schema([(name, kind)]) for kind in known]
        one = pa.unify_schemas(schemas, promote_options="permissive").field(0).type
    except pa.ArrowException:
        return pa.large_string()
    # a struct would give each dict the keys of all
    return one if not _has_struct(one) and fits(name, one) else pa.large_string()


def _has_struct(kind: pa.DataType) -> bool:
    import pyarrow as pa

    is_list = pa.types.is_list(kind) or pa.types.is_large_list(kind)
    return bool(pa.types.is_struct(kind) or (is_list and _has_struct(kind.value_type)))


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
        is_text = pa.types.is_string(column.type) or pa.types.is_large_string(column.type)
        if pa.types.is_large_string(field.type) and not is_text:
            column = pa.chunked_array([pa.array(map(to_text, column.to_pylist()), field.type)])
        columns.append(column.cast(field.type))
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
