"""`df.parallel`: the figures and pictures of a result, and a run over an input frame."""

from __future__ import annotations

import inspect
import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import pandas as pd

from ..core.metrics import ParallelMetrics
from ..core.options import takes_options
from ..display.summary import Summary, summarize
from ..runs.api import run_parallel
from ..tables import frame
from ..tables.names import column_of
from ..tables.targets import checked_target

if TYPE_CHECKING:
    import polars as pl
    import pyarrow as pa
    from matplotlib.axes import Axes

    from ..runs.row_story import RowStory
    from .review import Review


_NEEDED = ("error_type", "error", "attempts", "cached")  # to tell what became of the rows


@pd.api.extensions.register_dataframe_accessor("parallel")
class ParallelAccessor:
    """Reached as `df.parallel`."""

    def __init__(self, df: pd.DataFrame) -> None:
        self._df = df

    def __repr__(self) -> str:
        members = [(n, getattr(type(self), n)) for n in dir(type(self)) if not n.startswith("_")]
        lines = ["df.parallel can do:"]
        if column_of(self._df, "status") not in self._df.columns:
            lines = ["df.parallel can do (.run and .explode here, the others of a run's result):"]
        for name, member in members:
            first = (inspect.getdoc(member) or "").split("\n\n")[0]
            words = " ".join(re.split(r"[.;:] |[.;:]$", first)[0].split())
            call = name if isinstance(member, property) else f"{name}(…)"
            lines.append(f"  .{call:<18} {words}")
        return "\n".join(lines)

    @takes_options
    def run(self, module: Any, **options: Any) -> Any:
        """`run_parallel(module, df, **options)`."""
        return run_parallel(module, self._df, **options)

    @property
    def metrics(self) -> ParallelMetrics:
        """The run's metrics; computed from the rows if `df.attrs` was lost (merge, csv)."""
        return frame.metrics_of(self._result(*_NEEDED))

    @property
    def failures(self) -> pd.DataFrame:
        """The rows without an answer, except those skipped as blank. The error comes first, so that
        a notebook shows it."""
        df = self._result("error_type")
        status, *more = (column_of(df, n) for n in ("status", "error_type", "error"))
        failed: pd.DataFrame = df[~df[status].isin(["ok", "skipped"])]
        first = [status, *(name for name in more if name in df.columns)]
        return failed[[*first, *(name for name in df.columns if name not in first)]]

    def retry_failed(self, module: Any = None, *, error: Any = None, **options: Any) -> Any:
        """Run the rows without an answer again and put their answers in their places.

        Args:
            module: None for the module that made the frame; another one, for example with a
                larger model.
            error: only failures of this type (`"RateLimitError"`), with this text in the message,
                or of a group of the summary; None for all.
            options: what is to differ from the run that made the frame, as in `run_parallel`.
        """
        from ..runs.retry import retry_failed

        return retry_failed(self._result(*_NEEDED), module, error=error, **options)

    def row(self, label: Any, module: Any = None, *, sample: int | None = None) -> RowStory:
        """One row's story: the inputs, what was sent and what came back in each attempt, what was
        wrong, tokens, cost and times, and since when its answer is remembered.

        Args:
            label: the row's label in the index.
            module: the module that made the frame, if another kernel made it.
            sample: which of several samples (`repeat`).
        """
        from ..runs.row_story import row_story

        return row_story(self._result(), label, module, sample=sample)

    @property
    def cost(self) -> float | None:
        """The run's cost in US dollars, None if unknown."""
        usage = self.metrics.usage
        return None if usage is None else usage.cost_usd

    def summary(self) -> Summary:
        """The run at a glance; HTML in a notebook, text elsewhere."""
        from ..runs.stories import stories_of

        df = self._result(*_NEEDED)
        summary = summarize(df)
        return replace(summary, stories=stories_of(df, summary.groups))

    def explode(self, output: str, *, keep_empty: bool = True) -> pd.DataFrame:
        """One row for each item of a nested output, its fields as typed columns; see
        `tables.explode`. The index is repeated; rows without items are kept, without values, unless
        `keep_empty=False`."""
        from ..tables.explode import explode

        return explode(self._df, output, keep_empty=keep_empty)

    def to_parquet(self, path: str | Path) -> Path:
        """Write the frame with the run's metadata; `pd.read_parquet` restores both. Outputs that
        no column type can hold are written as JSON."""
        from ..tables.export import to_parquet

        return to_parquet(self._result(), checked_target(path, ".parquet"))

    def to_csv(self, path: str | Path, *, formulas: Literal["keep", "escape"] = "keep") -> Path:
        """Write the rows as CSV, and the run's metadata beside them as `NAME.provenance.json`;
        return the path of the CSV. With `formulas="escape"`, texts that a spreadsheet would take
        for a formula (`=…`, `+…`, `-…`, `@…`) get an apostrophe before them."""
        from ..tables.export import to_csv

        return to_csv(self._result(), checked_target(path, ".csv"), formulas=formulas)

    def to_jsonl(self, path: str | Path) -> Path:
        """As `to_csv`, with one JSON object per row."""
        from ..tables.export import to_jsonl

        return to_jsonl(self._result(), checked_target(path, ".jsonl"))

    def to_excel(self, path: str | Path) -> Path:
        """Write the rows as a workbook, with the run's metadata on a second sheet; needs
        `pardspy_nb[excel]`. Text is never a formula; times are in UTC without a zone; whole numbers
        of more than 15 digits, which Excel would round, are text.

        Raises:
            ValueError: more rows, or longer texts, than a sheet can hold.
        """
        from ..tables.excel import to_excel

        return to_excel(self._result(), checked_target(path, ".xlsx"))

    def to_arrow(self) -> pa.Table:
        """The frame as a pyarrow table, with the run's metadata in the schema's metadata."""
        from ..tables.export import as_arrow

        return as_arrow(self._result())

    def to_polars(self) -> pl.DataFrame:
        """The frame as a polars frame, labels as `Enum`. The run's metadata is not in it; it stays
        in `df.attrs["pardspy"]`."""
        from ..tables.export import as_polars

        polars: pl.DataFrame = as_polars(self._result())
        return polars

    def vote(self, column: str) -> pd.DataFrame:
        """The vote of each row's samples (`repeat`) on an output: the most frequent answer, how
        many samples agree, the entropy in bits, and whether it is a tie."""
        from .vote import vote

        return vote(self._result(), column)

    def review(self, output: str, **how: Any) -> Review:
        """A sample of rows for a human to decide, with a button for each label.

        Args:
            output: the class output.
            how: `n=50` rows, `pick="random"`, `"stratified"` or `"uncertain"`, `by=` a column of
                strata, `reviewer=` a name, `show_answer=True` to see the model's answer before.
        """
        from .review import review

        return review(self._result(), output, **how)

    def corrected(self, output: str) -> pd.DataFrame:
        """The frame with human labels in their places, and a column `<output>_by` that says whose
        label it is."""
        from .corrected import corrected

        return corrected(self._result(), output)

    def plot_latency(self, ax: Axes | None = None) -> Axes:
        """Draw the distribution of the calls' latency, with p50, p90 and p99.

        Args:
            ax: where to draw; None for a new figure. Returned.
        """
        from .plots import plot_latency

        return plot_latency(self._result(), ax)

    def plot_counts(self, column: str, ax: Axes | None = None, *, by: str | None = None) -> Axes:
        """Draw how many rows have each label of a column.

        Args:
            column: the column; items of lists are counted one by one.
            ax: where to draw; None for a new figure. Returned.
            by: another column, such as a product or a month: bars are split by its values.
        """
        from .plots import plot_counts

        return plot_counts(self._result(), column, ax, by=by)

    def plot_timeline(self, ax: Axes | None = None) -> Axes:
        """Draw how many rows were in flight over time, with marks where rows failed.

        Args:
            ax: where to draw; None for a new figure. Returned.
        """
        from .plots import plot_timeline

        return plot_timeline(self._result(), ax)

    def _result(self, *more: str) -> pd.DataFrame:
        """The frame, if it has a run's status and these further columns. ValueError if not."""
        names = (column_of(self._df, name) for name in ("status", *more))
        if not all(name in self._df.columns for name in names):
            raise ValueError(
                "this frame is not the result of a run; make one with df.parallel.run(module)"
            )
        return self._df
