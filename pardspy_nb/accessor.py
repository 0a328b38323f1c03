"""`df.parallel`: the figures and pictures of a result, and a run over an input frame."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from . import frame, plots
from .metrics import ParallelMetrics
from .options import takes_options
from .run import run_parallel
from .summary import Summary

if TYPE_CHECKING:
    from matplotlib.axes import Axes


@pd.api.extensions.register_dataframe_accessor("parallel")
class ParallelAccessor:
    """Reached as `df.parallel`."""

    def __init__(self, df: pd.DataFrame) -> None:
        self._df = df

    @takes_options
    def run(self, module: Any, **options: Any) -> Any:
        """`run_parallel(module, df, **options)`."""
        return run_parallel(module, self._df, **options)

    @property
    def metrics(self) -> ParallelMetrics:
        """The run's metrics; of the rows alone where `df.attrs` was lost (merge, csv)."""
        return frame.metrics_of(self._result())

    @property
    def failures(self) -> pd.DataFrame:
        """The rows that are not `ok`."""
        return self._result().loc[lambda df: df["status"] != "ok"]

    def retry_failed(self, module: Any = None, *, error: Any = None, **options: Any) -> Any:
        """See `retry.retry_failed`: the rows without an answer once more, in their places."""
        from .retry import retry_failed

        return retry_failed(self._result(), module, error=error, **options)

    @property
    def cost(self) -> float | None:
        """US dollars, None if unknown."""
        usage = self.metrics.usage
        return None if usage is None else usage.cost_usd

    def summary(self) -> Summary:
        """The run at a glance; HTML in a notebook, text elsewhere."""
        return frame.summarize(self._result())

    def vote(self, column: str) -> pd.DataFrame:
        """See `votes.vote`: what the samples of each row (`repeat`) come to."""
        from .votes import vote

        return vote(self._result(), column)

    def plot_latency(self, ax: Axes | None = None) -> Axes:
        """See `plots.plot_latency`."""
        return plots.plot_latency(self._result(), ax)

    def plot_counts(self, column: str, ax: Axes | None = None) -> Axes:
        """See `plots.plot_counts`."""
        return plots.plot_counts(self._result(), column, ax)

    def plot_timeline(self, ax: Axes | None = None) -> Axes:
        """See `plots.plot_timeline`."""
        return plots.plot_timeline(self._result(), ax)

    def _result(self) -> pd.DataFrame:
        if "status" not in self._df.columns:
            raise ValueError("this frame is not the result of a run; make one with "
                             "df.parallel.run(module)")  # fmt: skip
        return self._df
