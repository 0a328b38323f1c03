"""From file to file: rows are read, run and written part by part, in order."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from operator import methodcaller
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import frame
from .batch import Batch
from .errors import ParallelError, RunStopped
from .events import RowFinished
from .ledger import Ledger
from .metrics import ParallelMetrics
from .modules import from_module
from .options import Options, takes_options
from .parts import Part, Parts
from .records import Records
from .run import Run
from .segments import Segments, beside, to_arrow
from .summary import Summary

if TYPE_CHECKING:
    import pyarrow as pa

_PARTS_AHEAD = 8  # parts that may be begun before the first of them is written
_ERRORS_KEPT = 1000


class FileLedger(Ledger):
    """A ledger that writes settled rows to a file, part by part, and lets them go."""

    def __init__(self, parts: Parts, path: Path, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._parts, self._path, self._holds = parts, path, path
        self._segments = Segments(path)
        self._next = self._rows = 0  # part to be written; rows that were
        self._trouble: BaseException | None = None
        self._failed: list[BaseException] = []  # the first

    def enter(self, event: RowFinished) -> None:
        if event.status == "failed" and event.error and len(self._failed) < _ERRORS_KEPT:
            self._failed.append(event.error)
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
        """A part's rows, in order: carried columns as they came, then the run's own."""
        import pyarrow as pa

        places = part.records.order()
        names = [] if part.table is not None else self._batch.names
        batch = Batch(iter(()), None, names, repeat=self._batch.repeat)
        df = frame.build(part.records, places, batch, self._module.outputs)
        frame.spell_out_objects(df, self._module.outputs)
        own = to_arrow(df, self._module.outputs)
        if part.table is None:
            return own
        positions = [part.records.positions[place] - part.position for place in places]
        carried = part.table.take(pa.array(positions, pa.int64()))
        return beside(carried, own)

    def finish(self) -> None:
        for number in sorted(self._parts.open):
            self._write(number)
        whole = self.end is not None and self.end.reason == "done" and not self.tally.not_run
        try:
            if self._trouble is None:
                if self._segments.is_empty:
                    self._segments.write(self._table(self._parts.empty))
                about = self._about(
                    rows=self._rows,
                    outputs=list(self._module.outputs),
                    metrics=self._metrics,
                    sources=self._sources.known,
                )
                self._holds = self._segments.close(about, complete=whole)
        except Exception as error:
            self._trouble = error
        self._segments.drop()

    @property
    def _metrics(self) -> dict[str, Any]:
        return self.tally.metrics().to_dict()

    def frame(self, *, selected: bool = False) -> Any:
        """No rows, in the run's columns: they are in the file."""
        df = frame.build(Records(), [], self._batch, self._module.outputs)
        df.attrs["pardspy"] = self._about(rows=0, metrics=self._metrics)
        return df

    def summary(self, df: Any) -> Summary:
        return replace(
            frame.summarize(df),
            groups=self.tally.failures.largest_first(),
            latencies_ms=self.tally.shown_latencies_ms(),
            counts=self.tally.counts,
            where=str(self._holds) if self._trouble is None else "",
        )

    def stopped_by(self) -> ParallelError | None:
        if self._trouble is not None:
            return self.explained(RunStopped, self._trouble)
        return super().stopped_by()

    def _errors(self) -> list[BaseException]:
        return self._failed

    @property
    def _kept(self) -> str:
        if self._trouble is None:
            return f"those that are settled are in {self._holds}"
        again = "; what was answered is remembered" if self._remembers else ""
        return f"{self._path} was not written{again}"


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
        target: the path of the file; one that is there is replaced.
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

    given, described, path = Options.of(options), from_module(module), Path(target).expanduser()
    described = described.with_confidence() if given.confidence else described
    if path.suffix.lower() != ".parquet":
        raise ValueError(f"the target is a parquet file, and {str(path)!r} has another ending")
    if isinstance(source, str | Path) and path.exists() and path.samefile(source):
        raise ValueError(f"{str(path)!r} cannot be read and written at the same time")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {str(path.parent)!r}")
    parts = Parts(source, described.inputs, repeat=given.samples, columns=given.columns)
    frame.check_names(parts.columns, described.outputs)
    run = Run(
        described, parts.batch, given, ledger=partial(FileLedger, parts, path),
        most_ahead=_PARTS_AHEAD * parts.tasks,
    )  # fmt: skip
    run.start().result()
    return run.metrics
