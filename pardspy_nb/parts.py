"""A long input, part by part, so that no more than some parts are at hand at a time."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from .batch import Batch, expand, feeding, part_of
from .events import Row
from .modules import Inputs
from .records import Records

if TYPE_CHECKING:
    import pyarrow as pa

PART_ROWS = 2000  # input rows; a part with its answers is some megabytes


class Part(NamedTuple):
    """Neighbouring input rows and what became of them.

    `position` is that of its first row; `tasks` are its rows, samples counted singly; `table` has
    the input's columns, to be carried along, None for a stream, whose inputs the records keep.
    """

    position: int
    tasks: int
    table: pa.Table | None
    records: Records


class Parts:
    """An input in parts, which are read as their rows are pulled.

    Args:
        source: a path to a .parquet, .csv or .jsonl, a table, or an iterator of dicts.
        repeat, columns: as in `Options`.

    Attributes:
        batch: its rows, to be run.
        columns: the input's columns that are carried along.
        open: the parts with rows pulled and not let go, by their numbers.

    Raises:
        ModuleNotFoundError: pyarrow is not installed.
        FileNotFoundError, ValueError, TypeError: an input that cannot be read.
    """

    def __init__(
        self, source: Any, inputs: Inputs, *, repeat: int, columns: Mapping[str, str] | None
    ) -> None:
        self._inputs, self._repeat = inputs, repeat
        self.open: dict[int, Part] = {}
        if isinstance(source, Iterator):
            stream = expand(source, inputs, repeat=repeat, columns=columns)
            self.columns, self._no_rows = stream.names, None
            self.batch = replace(stream, rows=self._of_stream(stream.rows), in_parts=True)
            return
        total, schema, tables = _tables(source)
        self.columns, self._no_rows = schema.names, schema.empty_table()
        feeds = feeding(self.columns, inputs, columns or {})
        self.batch = Batch(
            self._of_tables(tables, feeds), None if total is None else total * repeat,
            list(feeds), repeat=repeat, in_parts=True,
        )  # fmt: skip

    @property
    def empty(self) -> Part:
        """A part without rows, in the input's columns."""
        return Part(0, 0, self._no_rows, Records())

    @property
    def tasks(self) -> int:
        """Rows of a part, samples counted singly; the last may have fewer."""
        return PART_ROWS * self._repeat

    def _of_stream(self, rows: Iterator[Row]) -> Iterator[Row]:
        for number in itertools.count():
            self.open[number] = Part(number * PART_ROWS, self.tasks, None, Records())
            pulled = 0
            for row in itertools.islice(rows, self.tasks):
                pulled += 1
                yield row
            if pulled < self.tasks:
                return

    def _of_tables(self, tables: Iterator[pa.Table], feeds: Mapping[str, str]) -> Iterator[Row]:
        position = 0
        for number, table in enumerate(tables):
            values = {name: table.column(column).to_pylist() for name, column in feeds.items()}
            rows = part_of(values, table.num_rows, self._inputs, self._repeat, position)
            tasks = table.num_rows * self._repeat
            self.open[number] = Part(position, tasks, table, Records(columns={}))
            yield from rows
            position += table.num_rows


def _tables(source: Any) -> tuple[int | None, pa.Schema, Iterator[pa.Table]]:
    """(rows, schema, tables of `PART_ROWS` rows, the last with fewer)."""
    import pyarrow as pa

    if isinstance(source, str | Path):
        total, schema, batches = _opened(Path(source))
    else:
        if not hasattr(source, "__arrow_c_stream__"):
            raise TypeError(
                f"cannot run a {type(source).__name__} to a file: pass a path to a .parquet, .csv "
                "or .jsonl, a DataFrame, or an iterator of dicts"
            )
        table = pa.table(source)
        total, schema, batches = table.num_rows, table.schema, iter(table.to_batches())
    return total, schema, _even(batches, schema)


def _opened(path: Path) -> tuple[int | None, pa.Schema, Iterator[pa.RecordBatch]]:
    kind = path.suffix.lower()
    if kind == ".parquet":
        import pyarrow.parquet as pq

        file = pq.ParquetFile(path)
        batches = file.iter_batches(PART_ROWS)
        return file.metadata.num_rows, file.schema_arrow, batches
    if kind == ".csv":
        import pyarrow.csv

        reader = pyarrow.csv.open_csv(path)
    elif kind == ".jsonl":
        import pyarrow.json

        reader = pyarrow.json.open_json(path)
    else:
        raise ValueError(f"cannot read {str(path)!r}: a path ends in .parquet, .csv or .jsonl")
    return None, reader.schema, iter(reader)


def _even(batches: Iterator[pa.RecordBatch], schema: pa.Schema) -> Iterator[pa.Table]:
    """Tables of `PART_ROWS` rows, whatever the sizes of the batches."""
    import pyarrow as pa

    held, rows = [], 0
    for batch in batches:
        while batch.num_rows:
            more = batch.slice(0, PART_ROWS - rows)
            held.append(more)
            rows += more.num_rows
            batch = batch.slice(more.num_rows)
            if rows == PART_ROWS:
                yield pa.Table.from_batches(held, schema)
                held, rows = [], 0
    if held:
        yield pa.Table.from_batches(held, schema)
