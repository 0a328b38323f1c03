"""Settled rows that cluster workers keep or write themselves."""

from __future__ import annotations

import itertools
import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...core.events import RowFinished
from ...core.options import Options
from ...executors.cluster.partitions import ABOUT_FILE, Partitions, check_folder
from ...tables.parquet import make_alike
from ...tables.results import Results
from ...tables.work_folder import WorkFolder
from .collector import Control
from .words import kept_elsewhere


def _ok_rows_in(folder: Path) -> int:
    """The number of answered rows in a folder of a run that ended early; -1 if there is none."""
    try:
        return int(json.loads((folder / ABOUT_FILE).read_text())["metrics"]["successes"])
    except (OSError, KeyError, ValueError):
        return -1


class PartitionDestination:
    """Rows stay on the workers, or in files that the workers write (see
    `collector.Destination`)."""

    keeps_rows = False

    def __init__(self, partitions: Partitions, options: Options) -> None:
        self._partitions, self._options = partitions, options
        self._written_to: object = partitions.folder or "the workers"
        self._work = None if partitions.folder is None else WorkFolder(partitions.folder)
        self.results = Results()
        self.error: BaseException | None = None

    def prepare(self, control: Control) -> None:
        """Make the folder that workers write to; see `collector.Destination`."""
        if self._work is not None:
            self._work.open()

    def add(self, event: RowFinished) -> None:
        """See `collector.Destination`."""

    def is_settled(self) -> Callable[[int], bool]:
        """See `collector.Destination`. After an abandoned run, rows that no worker reported are
        unknown, so no row gets a closing event."""
        return lambda number: True

    def close(self, about: dict[str, Any], *, is_whole: bool) -> None:
        """See `collector.Destination`."""
        work, target = self._work, self._partitions.folder
        if work is None or target is None:
            return
        try:
            self._written_to = self._move(work, target, about, is_whole)
        except OSError as error:
            self.error = error
            work.remove()

    def drop(self) -> None:
        """See `collector.Destination`."""
        if self._work is not None:
            self._work.remove()

    def _move(
        self, folder: WorkFolder, target: Path, about: dict[str, Any], is_whole: bool
    ) -> Path:
        """Move the folder to its final name, or to `NAME.partial` if rows are missing."""
        work = folder.path
        written = sorted(work.glob("part-*.parquet"))
        lengths = self._partitions.lengths
        if is_whole and len(written) < sum(map(bool, lengths)):
            raise FileNotFoundError(
                f"{len(written)} of {len(lengths)} partitions are in {str(work)!r}: is this folder "
                "on a file system that all workers share?"
            )
        if not written:
            import pyarrow.parquet as pq

            pq.write_table(self._partitions.empty, work / "part-000000.parquet")
        for unfinished in work.glob("*.tmp"):
            unfinished.unlink()
        make_alike(written)
        (work / ABOUT_FILE).write_text(json.dumps(about, default=str))
        partial = target.with_name(f"{target.name}.partial")
        if is_whole:
            check_folder(target)
            shutil.rmtree(target, ignore_errors=True)
        elif partial.exists() and not 0 <= _ok_rows_in(partial) <= about["metrics"]["successes"]:
            # that run got further, or it is not ours
            names = (partial.with_name(f"{partial.name}.{n}") for n in itertools.count(2))
            return folder.become(next(name for name in names if not os.path.lexists(name)))
        if _ok_rows_in(partial) >= 0 and not self._partitions.is_source(partial):
            shutil.rmtree(partial, ignore_errors=True)
        return folder.become(target if is_whole else partial)

    def result(self, df: Any) -> Any:
        """See `collector.Destination`."""
        return self._partitions.collection() if self._options.result == "dask" else df

    @property
    def location(self) -> str:
        """See `collector.Destination`."""
        return str(self._written_to)

    def kept(self, remembers: bool) -> str:
        """See `collector.Destination`."""
        return kept_elsewhere(self.location, self._written_to, self.error, remembers)
