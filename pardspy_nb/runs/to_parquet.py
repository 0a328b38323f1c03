"""From file to file: rows are read, run and written chunk by chunk, in order."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..core.metrics import ParallelMetrics
from ..core.options import Options, takes_options
from ..modules.module import Module, from_module
from ..tables.chunks import Chunks
from ..tables.rows import shape_of, text_columns
from .api import partitioned_run
from .collectors.file import FileDestination
from .plan import plan_run
from .run import Run

MAX_CHUNKS_AHEAD = 8  # chunks that may be begun before the first of them is written


@takes_options
def run_to_parquet(module: Any, source: Any, target: Any, **options: Any) -> ParallelMetrics:
    """Run every row of a table or stream through a module, into a parquet file.

    Only a few chunks of 2,000 rows are in memory at a time: a slow row holds up the reading once
    8 chunks wait for it. The file has the columns of `run_parallel`'s frame, in input order, and
    appears once it is complete. The rows of a run that ended early are in `NAME.partial.parquet`
    beside it; one that got further is not replaced (then they are in `NAME.partial.2.parquet`, …).
    A repeated call after an interruption does not ask rows again that are remembered (`store`).
    Values keep their type where Arrow has one for all of a column, else the column is JSON.

    Args:
        module: as in `run_parallel`.
        source: a path to a .parquet, .csv or .jsonl, a DataFrame (pandas, polars, pyarrow), or an
            iterator of dicts.
        target: the path of the file; an existing file is replaced. With an `executor`, a path
            without the ending .parquet is a folder that all workers can write to: a worker runs
            and writes each partition of `source` (a Dask DataFrame, a path that all workers can
            read, or a DataFrame), and only the outcome of each row comes back. Then each worker
            has its own store.
        options: as in `run_parallel`; `return_all` and `only_successful` have no effect.

    Returns:
        The run's metrics, also after an interrupt; then `not_run` or `cancelled` is above 0.
        `pd.read_parquet(target)` reads the run's frame.

    Raises:
        ValueError, TypeError, FileNotFoundError, ModuleNotFoundError: bad input, or pyarrow is
            missing; nothing was sent.
        ParallelError: as in `run_parallel`; the message names the file that has the settled rows.
    """
    import pyarrow.parquet  # noqa: F401 - fail before anything is paid for

    checked, described = Options.of(options), from_module(module)
    path = Path(target).expanduser().absolute()
    described = described.with_confidence() if checked.confidence else described
    if path.suffix.lower() != ".parquet" and checked.executor is not None:
        run = partitioned_run(described, source, checked, path)
    else:
        run = _run_to_file(described, source, checked, path)
    run.start().result()
    return run.metrics


def _run_to_file(module: Module, source: Any, options: Options, path: Path) -> Run:
    """A run that writes its rows to a parquet file."""
    if path.suffix.lower() != ".parquet":
        raise ValueError(
            f"the target is a parquet file, and {str(path)!r} has another ending; a "
            "folder of such files needs executor="
        )
    if isinstance(source, str | Path) and path.exists() and path.samefile(source):
        raise ValueError(f"{str(path)!r} cannot be read and written at the same time")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {str(path.parent)!r}")
    chunks = Chunks(
        source,
        module.inputs,
        shape_of(options, options.samples),
        text_columns(module.inputs, options),
    )
    plan = plan_run(module, chunks.batch, options, most_ahead=MAX_CHUNKS_AHEAD * chunks.tasks)
    return Run(plan, destination=FileDestination(chunks, path, module, _path(source)))


def _path(source: Any) -> Path | None:
    return Path(source).expanduser() if isinstance(source, str | Path) else None
