"""Partitions that workers write themselves: what came of them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ...executors.cluster.partitions import _ABOUT, Partitions
from .remote import AwayLedger


class ShardsLedger(AwayLedger):
    """A ledger of rows that are on the workers, or in the files they write."""

    def __init__(self, shards: Partitions, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._shards = shards
        self._path = self._holds = shards.folder or "the workers"
        if (work := shards.work) is not None:
            shutil.rmtree(work, ignore_errors=True)
            work.mkdir()

    def _settled(self) -> Callable[[int], bool]:
        return lambda number: True  # of a run that is given up, what is not told is not known

    def finish(self) -> None:
        work, target = self._shards.work, self._shards.folder
        if work is None or target is None:
            return
        try:
            self._holds = self._moved(work, target)
        except OSError as error:
            self._trouble = error

    def _moved(self, work: Path, target: Path) -> Path:
        """The folder under its name, or beside it if rows are missing."""
        written = sorted(work.glob("part-*.parquet"))
        if self._is_whole and len(written) < sum(map(bool, self._shards.lengths)):
            raise FileNotFoundError(
                f"{len(written)} of {len(self._shards.lengths)} parts are in {str(work)!r}: is it "
                "on a file system that all workers share?"
            )
        if not written:
            import pyarrow.parquet as pq

            pq.write_table(self._shards.empty, work / "part-000000.parquet")
        for half in work.glob("*.tmp"):
            half.unlink()
        (work / _ABOUT).write_text(json.dumps(self._about_file(), default=str))
        partial = target.with_name(f"{target.name}.partial")
        for old in (target, partial) if self._is_whole else (partial,):
            shutil.rmtree(old, ignore_errors=True)
        return work.rename(target if self._is_whole else partial)

    def result(self, df: Any) -> Any:
        return self._shards.collection() if self._options.result == "dask" else df
