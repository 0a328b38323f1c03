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
from .arrow import plain, to_arrow, to_frame, with_range_index, with_whole_numbers
from .inputs import expand, feeding, is_table, rows_of_chunk
from .names import ColumnNames
from .parquet import beside
from .readers import arrow_table, as_table, checked_path, is_arrow_table, own_table
from .results import Results
from .row_batch import RowBatch, Shape
from .text_files import TextFile

if TYPE_CHECKING:
    import pandas as pd
    import pyarrow as pa

CHUNK_ROWS = 2000  # input rows; a chunk with its answers takes some megabytes


class Part(NamedTuple):
    """Neighbouring rows of a table: as a frame, from which the inputs are taken, and as they are
    copied to the output, with the index as a column unless it only counts."""

    df: pd.DataFrame
    carried: pa.Table


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

    def finished(
        self, outputs: Mapping[str, Field], batch: RowBatch
    ) -> tuple[pa.Table, pd.DataFrame]:
        """The chunk's rows, in order: the input's columns unchanged, then the run's columns; and
        the run's columns alone, as a frame."""
        import pyarrow as pa

        places = self.results.order()
        names = batch.names if self.table is None else []
        df = frame.build(self.results, places, replace(batch, names=names), outputs)
        made = to_arrow(df)
        if self.table is None:
            return made, df
        positions = [self.results.positions[place] - self.position for place in places]
        return beside(self.table.take(pa.array(positions, pa.int64())), made), df


def chunk_of_table(
    part: Part, position: int, inputs: Inputs, shape: Shape
) -> tuple[Chunk, Iterator[Row]]:
    """A chunk of a table, beginning at `position`, and its rows. A ValueError names the rows that
    have a wrong value."""
    feeds = feeding(list(part.df.columns), inputs, shape.columns)
    values = {name: part.df[column].tolist() for name, column in feeds.items()}
    rows = rows_of_chunk(values, len(part.df), inputs, shape, position)
    return Chunk(position, len(part.df) * shape.repeat, part.carried, Results({})), rows


class Chunks:
    """An input in chunks. A chunk is read when its first row is pulled.

    Args:
        source: a path to a .parquet, .csv or .jsonl, a table, or an iterator of dicts.
        shape: how the input is read as rows.
        texts: the columns of a csv that are text, whatever they look like.

    Attributes:
        batch: the rows to run.
        open: the chunks in memory (rows were pulled, the chunk is not written yet), by number.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
        FileNotFoundError, ValueError, TypeError: the input cannot be read.
    """

    def __init__(self, source: Any, inputs: Inputs, shape: Shape, texts: list[Any]) -> None:
        self._inputs, self._shape = inputs, shape
        self.open: dict[int, Chunk] = {}
        if isinstance(source, Iterator):
            stream = expand(source, inputs, shape)
            self._no_rows = None
            self.batch = replace(stream, rows=self._of_stream(stream.rows), in_chunks=True)
            return
        total, parts = _parts(source, texts)
        first = next(parts)
        self._no_rows = first.carried.slice(0, 0)
        feeds = feeding(list(first.df.columns), inputs, shape.columns)
        self.batch = RowBatch(
            self._of_parts(itertools.chain([first], parts)),
            total * shape.repeat,
            list(feeds),
            feeds={name: column for name, column in feeds.items() if name != column},
            column_names=ColumnNames([*first.carried.column_names, *first.df.index.names]),
            repeat=shape.repeat,
            in_chunks=True,
        )

    @property
    def carried(self) -> list[str]:
        """The user's columns in the output."""
        return self.batch.names if self._no_rows is None else self._no_rows.column_names

    @property
    def empty(self) -> Chunk:
        """A chunk without rows, with the input's columns."""
        return Chunk(0, 0, self._no_rows, Results())

    @property
    def tasks(self) -> int:
        """Rows of a chunk, each sample counted as one; the last chunk may have fewer."""
        return CHUNK_ROWS * self._shape.repeat

    def _of_stream(self, rows: Iterator[Row]) -> Iterator[Row]:
        for number in itertools.count():
            self.open[number] = Chunk(number * CHUNK_ROWS, self.tasks, None, Results())
            pulled = 0
            for row in itertools.islice(rows, self.tasks):
                pulled += 1
                yield row
            if pulled < self.tasks:
                return

    def _of_parts(self, parts: Iterator[Part]) -> Iterator[Row]:
        position = 0
        for number, part in enumerate(parts):
            self.open[number], rows = chunk_of_table(part, position, self._inputs, self._shape)
            yield from rows
            position += len(part.df)


def _parts(source: Any, texts: list[Any]) -> tuple[int, Iterator[Part]]:
    """The number of rows, and the input in parts of `CHUNK_ROWS` rows. There is at least one part;
    the last one may have fewer rows."""
    if is_table(source):
        df = own_table(as_table(source))  # the run's own, before the first part is read
        return len(df), _parts_of_frame(df)
    if is_arrow_table(source):
        table = plain(arrow_table(source))
        return table.num_rows, _parts_of_arrow(iter([table]), table.num_rows)
    if not isinstance(source, str | Path):
        raise TypeError(
            f"cannot run a {type(source).__name__} to a file: pass a path to a .parquet, .csv "
            "or .jsonl, a DataFrame, or an iterator of dicts"
        )
    path = checked_path(source)
    if path.is_dir():
        raise ValueError(f"{str(path)!r} is a folder; run_to_parquet reads one file")
    if path.suffix.lower() == ".parquet":
        return _parts_of_parquet(path)
    file = TextFile(path, CHUNK_ROWS, texts)
    return file.n_rows, (Part(df, to_arrow(df)) for df in file.chunks())


def _parts_of_frame(df: pd.DataFrame) -> Iterator[Part]:
    """The parts of a frame. It is converted as a whole, so that all parts have the same types."""
    table = to_arrow(df, index=True)
    for start in range(0, max(1, len(df)), CHUNK_ROWS):
        yield Part(df.iloc[start : start + CHUNK_ROWS], table.slice(start, CHUNK_ROWS))


def _parts_of_parquet(path: Path) -> tuple[int, Iterator[Part]]:
    import pyarrow as pa
    import pyarrow.parquet as pq

    try:
        file = pq.ParquetFile(path)
    except (pa.ArrowException, OSError) as error:
        raise ValueError(f"cannot read {str(path)!r}: {error}") from error
    head = file.schema_arrow.empty_table()
    read = (pa.Table.from_batches([batch]) for batch in file.iter_batches(CHUNK_ROWS))
    rows = file.metadata.num_rows
    return rows, _parts_of_arrow(itertools.chain([head], read), rows)


def _parts_of_arrow(tables: Iterator[pa.Table], rows: int) -> Iterator[Part]:
    """The parts of the tables of one file or frame, which has so many rows."""
    position = 0
    for table in _even(tables):
        part = with_range_index(plain(table), position, rows)
        carried = part.replace_schema_metadata(with_whole_numbers(part.schema).metadata)
        yield Part(to_frame(part), carried)
        position += part.num_rows


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
