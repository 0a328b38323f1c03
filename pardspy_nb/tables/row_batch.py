"""The rows of a run, and how input is read as rows."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

from ..core.events import Event, Row
from .names import ColumnNames


class Listener(Protocol):
    """Receives the run's events, where later rows depend on the results of earlier rows.

    Attributes:
        least: the least possible number of rows; None if it is not known.
    """

    least: int | None

    def hear(self, event: Event) -> None:
        """Take an event. Called on the event loop's thread, so it must be quick."""

    def close(self) -> None:
        """The run is abandoned: wake every waiting thread. May be called from any thread."""


@dataclass(frozen=True)
class RowBatch:
    """Rows to run.

    Attributes:
        rows: the rows; each is pulled once.
        total: the number of rows times samples; None for a stream.
        names: the inputs, in order.
        table, index: the input's table and index, which are copied to the result.
        feeds: the table's column of each input, where their names differ.
        column_names: gives the result's columns their names.
        blocking: whether pulling a row may wait.
        repeat: samples per row.
        columns: the inputs' values by position, if all rows are in memory.
        in_chunks: whether the rows come in chunks, each dropped from memory once it is written;
            rows that were never pulled are not in the result.
        positions: the number of input rows; None if they are not all in memory.
        listener: receives the run's events and decides from them which rows follow.
    """

    rows: Iterator[Row]
    total: int | None
    names: list[str]
    table: Any = None
    index: Any = None
    feeds: Mapping[str, Any] = field(default_factory=dict)
    column_names: ColumnNames = field(default_factory=lambda: ColumnNames(()))
    blocking: bool = False
    repeat: int = 1
    columns: Mapping[str, Sequence[Any]] | None = None
    in_chunks: bool = False
    positions: int | None = None
    listener: Listener | None = None

    @property
    def names_rest(self) -> bool:
        """Whether rows that were never pulled are in the result."""
        return self.positions is not None and not self.in_chunks

    @property
    def input_columns(self) -> list[Any]:
        """The columns of the result that hold the inputs."""
        return [self.feeds.get(name, name) for name in self.names]


@dataclass(frozen=True)
class Shape:
    """How input is read as rows; see `Options`."""

    batch_key: str = "_batch"
    repeat: int = 1
    columns: Mapping[str, Any] = field(default_factory=dict)
    skips_blank: bool = True
    image_sources: tuple[Path | None, tuple[str, ...]] = (None, ())
