"""Writes settled rows to a parquet file, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from operator import methodcaller
from pathlib import Path
from typing import Any

from ...core.events import RowFinished
from ...modules.module import Module
from ...tables.chunks import Chunk, Chunks
from ...tables.frame import CHECKSUM_LIMIT, checksums
from ...tables.parquet import ParquetSegments
from ...tables.results import Results
from .collector import Control
from .words import kept_elsewhere


class FileDestination:
    """Writes settled rows to a file, chunk by chunk, and then drops them from memory (see
    `collector.Destination`)."""

    keeps_rows = False

    def __init__(
        self, chunks: Chunks, path: Path, module: Module, source: Path | None = None
    ) -> None:
        self._chunks, self._path, self._module = chunks, path, module
        self._written_to = path
        self._segments = ParquetSegments(path, source)
        self._next = self._rows = 0  # the next chunk to write; rows written
        self._checksum = 0
        self._outputs: dict[str, None] = {}  # the columns of the outputs, in order
        self.results = Results()
        self.error: BaseException | None = None

    def prepare(self, control: Control) -> None:
        """See `collector.Destination`. FileExistsError if another run writes to the file."""
        self._control = control
        self._segments.open()

    def add(self, event: RowFinished) -> None:
        """See `collector.Destination`."""
        chunks = self._chunks
        chunks.open[event.row.number // chunks.tasks].results.add(event)
        while (chunk := chunks.open.get(self._next)) and len(chunk.results) == chunk.tasks:
            self._write(self._next)
            self._next += 1
            finished = self._next * chunks.tasks
            self._control(methodcaller("release", finished))

    def is_settled(self) -> Callable[[int], bool]:
        """See `collector.Destination`."""
        written = self._next * self._chunks.tasks
        open_chunks = list(self._chunks.open.values())
        in_memory = {n for chunk in open_chunks for n in chunk.results.numbers}
        return lambda number: number < written or number in in_memory

    def _write(self, number: int) -> None:
        chunk = self._chunks.open.pop(number)
        if self.error is not None or not len(chunk.results):
            return
        self._rows += len(chunk.results)
        try:
            self._write_table(chunk)
        except Exception as error:  # for example a full disk
            self.error = error
            self._control(methodcaller("stop", "target", error, now=False))

    def _write_table(self, chunk: Chunk) -> None:
        table, df = chunk.finished(self._module.outputs, self._chunks.batch)
        self._checksum = (self._checksum + checksums(df).rows) % CHECKSUM_LIMIT
        for name in df.attrs["pardspy"]["outputs"]:
            self._outputs.setdefault(name)
        self._segments.write(table)

    def close(self, about: dict[str, Any], *, is_whole: bool) -> None:
        """See `collector.Destination`."""
        for number in sorted(self._chunks.open):
            self._write(number)
        try:
            if self.error is None:
                if self._segments.is_empty:
                    self._write_table(self._chunks.empty)
                about = {
                    **about,
                    "rows": self._rows,
                    "checksum": self._checksum,
                    "outputs": list(self._outputs),
                    "carried": self._chunks.carried,
                    "renamed": dict(self._chunks.batch.column_names.renamed),
                }
                self._written_to = self._segments.close(about, complete=is_whole)
        except Exception as error:
            self.error = error
        self._segments.drop()

    def drop(self) -> None:
        """See `collector.Destination`."""
        self._segments.drop()

    def result(self, df: Any) -> Any:
        """See `collector.Destination`."""
        return df

    @property
    def location(self) -> str:
        """See `collector.Destination`."""
        return str(self._written_to)

    def kept(self, remembers: bool) -> str:
        """See `collector.Destination`."""
        return kept_elsewhere(self.location, self._path, self.error, remembers)
