"""Settled rows to a parquet file, chunk by chunk."""

from __future__ import annotations

from collections.abc import Callable
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...core.events import RowFinished
from ...tables.chunks import Chunk, Chunks
from ...tables.parquet import ParquetSegments
from .remote import AwayLedger

if TYPE_CHECKING:
    import pyarrow as pa


class FileLedger(AwayLedger):
    """A ledger that writes settled rows to a file, part by part, and lets them go."""

    def __init__(self, parts: Chunks, path: Path, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._parts, self._path, self._holds = parts, path, path
        self._segments = ParquetSegments(path)
        self._next = self._rows = 0  # part to be written; rows that were

    def enter(self, event: RowFinished) -> None:
        super().enter(event)
        self._parts.open[event.row.number // self._parts.tasks].results.add(event)
        while (part := self._parts.open.get(self._next)) and len(part.results) == part.tasks:
            self._write(self._next)
            self._next += 1
            done_with = self._next * self._parts.tasks
            self._control(methodcaller("release", done_with))

    def _settled(self) -> Callable[[int], bool]:
        written = self._next * self._parts.tasks
        open_ = {n for part in list(self._parts.open.values()) for n in part.results.numbers}
        return lambda number: number < written or number in open_

    def _write(self, number: int) -> None:
        part = self._parts.open.pop(number)
        if self._trouble is not None or not len(part.results):
            return
        self._rows += len(part.results)
        try:
            self._segments.write(self._table(part))
        except Exception as error:  # a full disk
            self._trouble = error
            self._control(methodcaller("stop", "target", error, now=False))

    def _table(self, part: Chunk) -> pa.Table:
        return part.finished(self._module.outputs, self._batch.names, self._batch.repeat)

    def finish(self) -> None:
        for number in sorted(self._parts.open):
            self._write(number)
        try:
            if self._trouble is None:
                if self._segments.is_empty:
                    self._segments.write(self._table(self._parts.empty))
                about = self._about_file(rows=self._rows)
                self._holds = self._segments.close(about, complete=self._is_whole)
        except Exception as error:
            self._trouble = error
        self._segments.drop()
