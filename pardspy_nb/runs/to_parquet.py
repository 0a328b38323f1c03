"""From file to file: rows are read, run and written part by part, in order."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.metrics import ParallelMetrics
from ..core.options import Options, takes_options
from ..modules.module import from_module
from ..tables.chunks import Chunks
from ..tables.readers import check_names
from .api import sharded
from .collectors.file import FileLedger
from .run import Run

if TYPE_CHECKING:
    pass

_PARTS_AHEAD = 8  # parts that may be begun before the first of them is written


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
    parts = Chunks(source, described.inputs, repeat=given.samples, columns=given.columns)
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
