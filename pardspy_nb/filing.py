"""From file to file: rows are read, run and written part by part, in order."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .core.events import RowFinished
from .core.metrics import ParallelMetrics
from .core.options import Options, takes_options
from .ledger import AwayLedger
from .modules.module import from_module
from .run import Run, sharded
from .tables.chunks import Part, Parts
from .tables.parquet import Segments
from .tables.readers import check_names

if TYPE_CHECKING:
    import pyarrow as pa

_PARTS_AHEAD = 8  # parts that may be begun before the first of them is written


class FileLedger(AwayLedger):
    """A ledger that writes settled rows to a file, part by part, and lets them go."""

    def __init__(self, parts: Parts, path: Path, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._parts, self._path, self._holds = parts, path, path
        self._segments = Segments(path)
        self._next = self._rows = 0  # part to be written; rows that were

    def enter(self, event: RowFinished) -> None:
        super().enter(event)
        self._parts.open[event.row.number // self._parts.tasks].records.add(event)
        while (part := self._parts.open.get(self._next)) and len(part.records) == part.tasks:
            self._write(self._next)
            self._next += 1
            done_with = self._next * self._parts.tasks
            self._control(methodcaller("release", done_with))

    def _settled(self) -> Callable[[int], bool]:
        written = self._next * self._parts.tasks
        open_ = {n for part in list(self._parts.open.values()) for n in part.records.numbers}
        return lambda number: number < written or number in open_

    def _write(self, number: int) -> None:
        part = self._parts.open.pop(number)
        if self._trouble is not None or not len(part.records):
            return
        self._rows += len(part.records)
        try:
            self._segments.write(self._table(part))
        except Exception as error:  # a full disk
            self._trouble = error
            self._control(methodcaller("stop", "target", error, now=False))

    def _table(self, part: Part) -> pa.Table:
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


@takes_options
def run_to_parquet(module: Any, source: Any, target: Any, **options: Any) -> ParallelMetrics:
    """Run every row of a table or stream through a module, into a parquet file.

    Only some parts of 2,000 rows are in memory at a time: a row that takes long holds up the
    reading once 8 parts wait for it. The file has the columns of `run_parallel`'s frame, in input
    order, and appears once it is complete (rows of a run that ended early are in
    `NAME.partial.parquet` beside it); called again after an interruption, rows that are
    remembered (`store`) are not asked again. Outputs that are neither text, numbers, labels,
    dates nor lists of those are written as JSON.

    Args:
        module: as in `run_parallel`.
        source: a path to a .parquet, .csv or .jsonl, a DataFrame (pandas, polars, pyarrow), or an
            iterator of dicts.
        target: the path of the file; one that is there is replaced. With an `executor`, a path
            without the ending .parquet is that of a folder, which all workers can write to: each
            partition of `source` (a Dask DataFrame, a path that all workers can read, or a
            DataFrame) is run and written by a worker, and nothing but what happened to each row
            comes back. Then each worker has its own store.
        options: as in `run_parallel`; `return_all` and `only_successful` have no say here.

    Returns:
        The run's metrics; after an interrupt, too, with `not_run` or `cancelled` above 0.
        `pd.read_parquet(target)` is its frame.

    Raises:
        ValueError, TypeError, FileNotFoundError, ModuleNotFoundError: bad input, or pyarrow is
            missing; nothing was sent.
        ParallelError: as `run_parallel`; settled rows are in the file, which the message names.
    """
    import pyarrow.parquet  # noqa: F401 - before anything is paid for

    given, described = Options.of(options), from_module(module)
    path = Path(target).expanduser().absolute()
    described = described.with_confidence() if given.confidence else described
    if path.suffix.lower() != ".parquet" and given.executor is not None:
        run = sharded(described, source, given, path)
        run.start().result()
        return run.metrics
    if path.suffix.lower() != ".parquet":
        raise ValueError(
            f"the target is a parquet file, and {str(path)!r} has another ending; a "
            "folder of such files needs executor="
        )
    if isinstance(source, str | Path) and path.exists() and path.samefile(source):
        raise ValueError(f"{str(path)!r} cannot be read and written at the same time")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {str(path.parent)!r}")
    parts = Parts(source, described.inputs, repeat=given.samples, columns=given.columns)
    check_names(parts.columns, described.outputs)
    run = Run(
        described,
        parts.batch,
        given,
        ledger=partial(FileLedger, parts, path),
        most_ahead=_PARTS_AHEAD * parts.tasks,
    )
    run.start().result()
    return run.metrics
