"""Settled rows that are not kept in this process."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from ...core.errors import ParallelError, RunStopped
from ...core.events import RowFinished
from ...display.summary import Summary, summarize
from ...tables import frame
from ...tables.results import Results
from .frame import Ledger

_ERRORS_KEPT = 1000  # where rows are not


class AwayLedger(Ledger):
    """A ledger of a run whose rows are not kept here."""

    _holds: Any  # where the rows are
    _path: Any  # where they were to be

    def __init__(self, *args: Any, **more: Any) -> None:
        super().__init__(*args, **more)
        self._trouble: BaseException | None = None
        self._failed: list[BaseException] = []  # the first

    def enter(self, event: RowFinished) -> None:
        """See that a row is settled."""
        if event.status == "failed" and event.error and len(self._failed) < _ERRORS_KEPT:
            self._failed.append(event.error)

    @property
    def _is_whole(self) -> bool:
        return self.end is not None and self.end.reason == "done" and not self.progress.not_run

    def _about_file(self, **more: Any) -> dict[str, Any]:
        """What a file says of the run."""
        return self._about(
            outputs=list(self._module.outputs),
            metrics=self.progress.metrics().to_dict(),
            sources=self._sources.known,
            **more,
        )

    def frame(self, *, selected: bool = False) -> Any:
        """No rows, in the run's columns: they are elsewhere."""
        df = frame.build(Results(), [], self._batch, self._module.outputs)
        df.attrs["pardspy"] = self._about(rows=0, metrics=self.progress.metrics().to_dict())
        return df

    def summary(self, df: Any) -> Summary:
        return replace(
            summarize(df),
            groups=self.progress.failures.largest_first(),
            latencies_ms=self.progress.shown_latencies_ms(),
            counts=self.progress.counts,
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
