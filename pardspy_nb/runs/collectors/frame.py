"""Keeps settled rows in this process; they become the run's frame."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from ...core.errors import ParallelError
from ...core.events import RowFinished
from ...tables.export import convert
from ...tables.results import Results
from ..plan import RunPlan
from .collector import Control


class FrameDestination:
    """Keeps settled rows in memory (see `collector.Destination`)."""

    keeps_rows = True
    location = ""

    def __init__(self, plan: RunPlan) -> None:
        self._kind = plan.options.result
        self.results = Results(plan.batch.columns)
        self.error: BaseException | None = None

    def prepare(self, control: Control) -> None:
        """See `collector.Destination`."""

    def add(self, event: RowFinished) -> None:
        """See `collector.Destination`."""
        self.results.add(event)

    def is_settled(self) -> Callable[[int], bool]:
        """See `collector.Destination`."""
        return set(self.results.numbers).__contains__

    def close(self, about: dict[str, Any], *, is_whole: bool) -> None:
        """See `collector.Destination`."""

    def drop(self) -> None:
        """See `collector.Destination`."""

    def result(self, df: Any) -> Any:
        """See `collector.Destination`."""
        try:
            return convert(df, self._kind)
        except Exception as error:
            raise ParallelError(
                "the rows are done, and are in this error's .df; they could not be converted to a "
                f"{self._kind} table: {type(error).__name__}: {error}",
                df=df,
            ) from error

    def kept(self, remembers: bool) -> str:
        """See `collector.Destination`."""
        return "pn.last_run().df has every row; a variable that was to get it is as before"
