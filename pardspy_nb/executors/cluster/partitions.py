"""Runs a table that need not fit into one process. Workers load its partitions, run them, and keep
or write the answers. The events of rows come back to the run, the contents of rows do not."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager
from itertools import accumulate
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ...core.events import Event, Row
from ...core.options import Options
from ...modules.module import Module
from ...store.cache import AnswerCache
from ...tables.arrow import to_arrow, to_frame
from ...tables.chunks import CHUNK_ROWS, Part, chunk_of_table
from ...tables.inputs import feeding
from ...tables.names import ColumnNames
from ...tables.readers import TEXT_FILES, RowGroups, as_table, checked_path
from ...tables.row_batch import RowBatch, Shape
from ...tables.rows import shape_of, text_columns
from ...tables.text_files import TextFile
from ...tables.work_folder import WorkFolder
from ..base import Work
from .coordinator import Coordinator
from .dask_link import DaskLink
from .executor import coordinating
from .messages import PartitionError, dumps, loads
from .work_queue import PartitionWorkQueue, WorkItem
from .worker_tasks import WorkerSpec, hosted_here

if TYPE_CHECKING:
    import pyarrow as pa

ABOUT_FILE = "_pardspy.json"  # readers of a folder skip names that begin with _


class Partitions:
    """A table in partitions on a Dask cluster, and the destination of its answers.

    Args:
        source: a Dask DataFrame; a path to a .parquet (file or folder), .csv or .jsonl that all
            workers can read; a DataFrame.
        folder: where the answers are written, None if they stay on the workers.

    Attributes:
        batch: the facts known about the table's rows.
        lengths: the number of rows of each partition.
        futures: the answers of the partitions, by partition number.

    Raises:
        FileNotFoundError, ValueError, TypeError: the input cannot be read.
        FileNotFoundError: the parent of `folder` does not exist.
        FileExistsError: `folder` holds something else than an earlier result.
    """

    def __init__(self, source: Any, module: Module, options: Options, folder: Path | None) -> None:
        self._module, self._options, self.folder = module, options, folder
        self._client = options.executor
        self._source = Path(source).expanduser() if isinstance(source, str | Path) else None
        self._shape = shape_of(options, options.samples)
        import dask

        # values stay as they are: Dask would make text of lists, dicts and dates
        with dask.config.set({"dataframe.convert-string": False}):
            table = _as_dask(source, text_columns(module.inputs, options))
        feeds = feeding(list(table.columns), module.inputs, self._shape.columns)
        lengths = self._client.compute(table.map_partitions(len, meta=(None, "int64")), sync=True)
        self.lengths = [int(n) for n in lengths]
        self._firsts = list(accumulate(self.lengths, initial=0))
        self._partitions = table.to_delayed()
        self._meta = table._meta
        self.futures: dict[int, Any] = {}
        self._shipped = 0
        self.batch = RowBatch(
            iter(()),
            sum(self.lengths) * options.samples,
            list(feeds),
            feeds={name: column for name, column in feeds.items() if name != column},
            column_names=ColumnNames([*table.columns, *table._meta.index.names]),
            repeat=options.samples,
            in_chunks=True,
        )
        if folder is not None:
            check_folder(folder)

    @property
    def work_folder(self) -> Path | None:
        """Where partitions are written while the run goes on."""
        return None if self.folder is None else WorkFolder(self.folder).path

    def is_source(self, path: Path) -> bool:
        """Whether the rows come from this folder."""
        return self._source is not None and self._source.exists() and self._source.samefile(path)

    def ship(self, run: str, worker: str, item: WorkItem) -> Any:
        """Start a task that runs a partition at a worker. Returns the task's future."""
        number = item.number
        partition = self._client.compute(self._partitions[number], workers=[worker])
        self._shipped += 1
        job = self._job(run, number)
        future = self._client.submit(
            run_partition,
            dumps(job),
            partition,
            workers=[worker],
            allow_other_workers=False,
            pure=False,
            retries=0,
            key=f"pardspy-part-{run}-{self._shipped}",
        )
        self.futures[number] = future
        return future

    def _job(self, run: str, number: int) -> Job:
        work = None if self.work_folder is None else str(self.work_folder)
        return Job(
            run,
            self._module,
            number,
            self._firsts[number],
            self._shape,
            work,
        )

    @property
    def empty(self) -> pa.Table:
        """A table with the result's columns and no rows."""
        return _finished(self._job("", 0), self._meta, lambda rows, keep: None)

    def collection(self) -> Any:
        """The answers as a Dask DataFrame. Its partitions stay on the workers."""
        import dask
        import dask.dataframe as dd

        done = [self.futures[n] for n in sorted(self.futures)]
        empty = to_frame(self.empty)
        with dask.config.set({"dataframe.convert-string": False}):  # values stay as they are
            if not done:
                return dd.from_pandas(empty, npartitions=1)
            return dd.from_delayed(done, meta=empty, verify_meta=False)


class Job(NamedTuple):
    """One partition to run. `position` is the table position of its first row, `shape` tells how
    the table is read as rows."""

    run: str
    module: Module
    number: int
    position: int
    shape: Shape
    folder: str | None


def run_partition(job_bytes: bytes, partition: Any) -> Any:
    """The task that runs a partition in a Dask worker, on the worker engine there.

    Returns:
        The answers, or their number if they are written to a file. A `PartitionError` is returned,
        not raised, because Dask logs every raised error.
    """
    from distributed import secede

    job: Job = loads(job_bytes)
    hosted = hosted_here(job.run)
    secede()
    try:
        return _written(job, _finished(job, partition, hosted.run_to_end))
    except PartitionError as error:
        return error


def _written(job: Job, table: pa.Table) -> Any:
    if job.folder is None:
        return to_frame(table)
    import pyarrow.parquet as pq

    path = Path(job.folder) / f"part-{job.number:06d}.parquet"
    try:
        pq.write_table(table, path.with_suffix(".tmp"))
        os.replace(path.with_suffix(".tmp"), path)
    except OSError as error:
        raise PartitionError("target", f"{type(error).__name__}: {error}") from error
    return table.num_rows


def _finished(
    job: Job, partition: Any, run: Callable[[Iterator[Row], Callable[..., None]], None]
) -> pa.Table:
    """Run a partition. Returns its rows with their outcomes."""
    inputs, outputs = job.module.inputs, job.module.outputs
    try:
        df = _indexed(partition, job.position)
        part = Part(df, to_arrow(df, index=True))
        chunk, rows = chunk_of_table(part, job.position, inputs, job.shape)
    except (TypeError, ValueError) as error:
        raise PartitionError("source", f"partition {job.number}: {error}") from error
    run(rows, chunk.results.add)
    taken = [*part.carried.column_names, *df.index.names]
    batch = RowBatch(iter(()), None, [], column_names=ColumnNames(taken), repeat=job.shape.repeat)
    return chunk.finished(outputs, batch)[0]


def _indexed(partition: Any, position: int) -> Any:
    """The partition, whose index becomes a column of the result unless it only counts the rows."""
    index = partition.index
    counts = getattr(index, "start", None) in (0, position) and index.step == 1
    if counts and index.name is None:
        return partition.set_axis(range(len(index)))
    is_range = getattr(index, "start", None) is not None
    return partition.set_axis(index.astype("int64") if is_range else index)


class PartitionExecutor:
    """Makes attempts at the workers of a Dask cluster. The workers load the partitions and remember
    the answers themselves (see `base.Executor`)."""

    def __init__(self, partitions: Partitions, work: Work) -> None:
        self._partitions, self._work = partitions, work
        spec = WorkerSpec.of(work.module, work.options, remembers=True)
        self._link = DaskLink(work.options.executor, spec, partitions.ship)

    async def prepare(self) -> None:
        """See `base.Executor`."""
        await self._link.connect()

    @asynccontextmanager
    async def engine(
        self, rows: Iterator[Row], emit: Callable[[Event], None], cache: AnswerCache | None
    ) -> AsyncIterator[Coordinator]:
        """See `base.Executor`."""
        queue = PartitionWorkQueue(self._partitions.lengths, self._work.options.samples)
        async with coordinating(self._work, self._link, queue, emit, None) as coordinator:
            yield coordinator


def check_folder(folder: Path) -> None:
    """Refuse a folder that holds anything except an earlier result.

    Raises:
        FileNotFoundError: the parent folder does not exist.
        FileExistsError: the folder holds other files.
    """
    if not folder.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {str(folder.parent)!r}")
    if folder.exists() and not (folder / ABOUT_FILE).exists() and any(folder.iterdir()):
        raise FileExistsError(f"{str(folder)!r} holds something else than the result of a run")


def _as_dask(source: Any, texts: list[str]) -> Any:
    """Any table as a Dask DataFrame. The columns in `texts` are read as text."""
    import dask.dataframe as dd

    if hasattr(source, "to_delayed"):
        return source
    if isinstance(source, str | Path):
        path = checked_path(source)
        if path.is_dir() or path.suffix.lower() not in TEXT_FILES:
            groups = RowGroups(path)
            return dd.from_map(groups.read, range(len(groups)), meta=groups.read(0).iloc[:0])
        file = TextFile(path, CHUNK_ROWS, texts)
        return dd.from_map(file.chunk, range(file.n_chunks), meta=file.chunk(0).iloc[:0])
    table = as_table(source)
    if not hasattr(table, "iloc"):
        raise TypeError(
            f"cannot split a {type(source).__name__} into partitions: pass a Dask DataFrame, a "
            "DataFrame, or a path that all workers can read"
        )
    if table.index.nlevels > 1:
        raise ValueError(
            "a table with several levels of index cannot be split: df.reset_index() makes columns "
            "of them"
        )
    n_partitions = max(1, -(-len(table) // CHUNK_ROWS))
    return dd.from_pandas(table, npartitions=n_partitions, sort=False)
