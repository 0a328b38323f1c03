"""A long input, read chunk by chunk, so that only a few chunks are in memory at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ..core.events import Row
from ..signatures.fields import Field, Inputs
from . import frame
from .inputs import RowBatch, expand, feeding, rows_of_chunk
from .parquet import beside, to_arrow
from .readers import read_chunks
from .results import Results

if TYPE_CHECKING:
    import pyarrow as pa

CHUNK_ROWS = 2000  # input rows; a chunk with its answers takes some megabytes


class Chunk(NamedTuple):
    """Neighbouring input rows and their results.

    Attributes:
        position: the position of the first row.
        tasks: the number of rows, each sample counted as one.
        table: the input's columns, which are copied to the output; None for a stream, whose
            inputs are in `results`.
        results: the settled rows.
    """

    position: int
    tasks: int
    table: pa.Table | None
    results: Results

    def finished(self, outputs: Mapping[str, Field], names: list[str], repeat: int) -> pa.Table:
        """The chunk's rows, in order: the input's columns unchanged, then the run's columns.
        `names` are the inputs of a chunk without a table."""
        import pyarrow as pa

        places = self.results.order()
        batch = RowBatch(iter(()), None, names if self.table is None else [], repeat=repeat)
        df = frame.build(self.results, places, batch, outputs)
        frame.objects_to_text(df, outputs)
        own = to_arrow(df, outputs)
        if self.table is None:
            return own
        positions = [self.results.positions[place] - self.position for place in places]
        return beside(self.table.take(pa.array(positions, pa.int64())), own)


def chunk_of_table(
    table: pa.Table, position: int, inputs: Inputs, *, repeat: int, columns: Mapping[str, str]
) -> tuple[Chunk, Iterator[Row]]:
    """A chunk of a table, beginning at `position`, and its rows. A ValueError names the rows that
    have a missing or a wrong value."""
    feeds = feeding(table.column_names, inputs, columns)
    values = {name: table.column(column).to_pylist() for name, column in feeds.items()}
    rows = rows_of_chunk(values, table.num_rows, inputs, repeat, position)
    renamed = [(n, c) for n, c in feeds.items() if n not in table.column_names]
    for name, column in renamed:  # as in the frame, the column has the input's name
        table = table.append_column(name, table.column(column))
    return Chunk(position, table.num_rows * repeat, table, Results({})), rows


class Chunks:
    """An input in chunks. A chunk is read when its first row is pulled.

    Args:
        source: a path to a .parquet, .csv or .jsonl, a table, or an iterator of dicts.
        repeat, columns: as in `Options`.

    Attributes:
        batch: the rows to run.
        columns: the table's columns, which are copied to the output; empty for a stream.
        open: the chunks in memory (rows were pulled, the chunk is not written yet), by number.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
        FileNotFoundError, ValueError, TypeError: the input cannot be read.
    """

    def __init__(
        self, source: Any, inputs: Inputs, *, repeat: int, columns: Mapping[str, str] | None
    ) -> None:
        self._inputs, self._repeat, self._columns = inputs, repeat, columns or {}
        self.open: dict[int, Chunk] = {}
        if isinstance(source, Iterator):
            stream = expand(source, inputs, repeat=repeat, columns=columns)
            self.columns, self._no_rows = list[str](), None
            self.batch = replace(stream, rows=self._of_stream(stream.rows), in_chunks=True)
            return
        fed = {n: (columns or {}).get(n, n) for n in inputs.fields}
        texts = [fed[n] for n, f in inputs.fields.items() if f.value_type is str]
        total, tables = _tables(source, texts)
        first = next(tables)
        self.columns, self._no_rows = first.column_names, first.slice(0, 0)
        feeds = feeding(self.columns, inputs, columns or {})
        rows = self._of_tables(itertools.chain([first], tables))
        tasks = None if total is None else total * repeat
        self.batch = RowBatch(rows, tasks, list(feeds), repeat=repeat, in_chunks=True)

    @property
    def empty(self) -> Chunk:
        """A chunk without rows, with the input's columns."""
        return Chunk(0, 0, self._no_rows, Results())

    @property
    def tasks(self) -> int:
        """Rows of a chunk, each sample counted as one; the last chunk may have fewer."""
        return CHUNK_ROWS * self._repeat

    def _of_stream(self, rows: Iterator[Row]) -> Iterator[Row]:
        for number in itertools.count():
            self.open[number] = Chunk(number * CHUNK_ROWS, self.tasks, None, Results())
            pulled = 0
            for row in itertools.islice(rows, self.tasks):
                pulled += 1
                yield row
            if pulled < self.tasks:
                return

    def _of_tables(self, tables: Iterator[pa.Table]) -> Iterator[Row]:
        position = 0
        for number, table in enumerate(tables):
            self.open[number], rows = chunk_of_table(
                table, position, self._inputs, repeat=self._repeat, columns=self._columns
            )
            yield from rows
            position += table.num_rows


def _tables(source: Any, texts: list[str]) -> tuple[int | None, Iterator[pa.Table]]:
    """The number of rows (None if unknown), and the input as tables of `CHUNK_ROWS` rows. There is
    at least one table; the last one may have fewer rows."""
    import pyarrow as pa

    if not isinstance(source, str | Path):
        if not hasattr(source, "__arrow_c_stream__"):
            raise TypeError(
                f"cannot run a {type(source).__name__} to a file: pass a path to a .parquet, .csv "
                "or .jsonl, a DataFrame, or an iterator of dicts"
            )
        is_pandas = hasattr(source, "iloc")
        table = to_arrow(source, {}, index=True) if is_pandas else _without_views(pa.table(source))
        return table.num_rows, _even(iter([table]))
    path = Path(source)
    kind = path.suffix.lower()
    if kind not in (".parquet", ".csv", ".jsonl"):
        raise ValueError(f"cannot read {str(path)!r}: a path ends in .parquet, .csv or .jsonl")
    if not path.exists():
        raise FileNotFoundError(f"there is no file {str(path)!r}")
    if kind == ".parquet":
        import pyarrow.parquet as pq

        file = pq.ParquetFile(path)
        head = file.schema_arrow.empty_table()
        read = (pa.Table.from_batches([batch]) for batch in file.iter_batches(CHUNK_ROWS))
        return file.metadata.num_rows, _even(itertools.chain([head], read))
    frames = read_chunks(path, CHUNK_ROWS, texts)
    return None, _even(to_arrow(df, {}) for df in frames)


def _without_views(table: pa.Table) -> pa.Table:
    """The table with text and bytes in a layout that supports `take`; view layouts do not."""
    import pyarrow as pa

    plain = {pa.string_view(): pa.large_string(), pa.binary_view(): pa.large_binary()}
    types = [pa.field(f.name, plain.get(f.type, f.type), f.nullable) for f in table.schema]
    return table.cast(pa.schema(types, table.schema.metadata))


def _even(tables: Iterator[pa.Table]) -> Iterator[pa.Table]:
    """The same rows in tables of `CHUNK_ROWS` rows; one empty table if all given tables are
    empty."""
    import pyarrow as pa

    held: list[pa.Table] = []
    rows = given = 0
    last = None
    for table in tables:
        last = table
        while table.num_rows:
            more = table.slice(0, CHUNK_ROWS - rows)
            held.append(more)
            rows += more.num_rows
            table = table.slice(more.num_rows)
            if rows == CHUNK_ROWS:
                yield pa.concat_tables(held, promote_options="permissive")
                given += rows
                held, rows = [], 0
    if held or (not given and last is not None):
        yield pa.concat_tables(held, promote_options="permissive") if held else last
