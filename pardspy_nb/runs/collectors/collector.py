"""Collects what a run has produced so far: its progress, its rows and its end."""

from __future__ import annotations

import contextlib
import uuid
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol

from ...core.error_groups import ErrorGroup
from ...core.errors import ParallelError
from ...core.events import AttemptFailed, Event, RowFinished, RunFinished, RunStarted
from ...display.progress import RunProgress
from ...display.summary import Summary, summarize
from ...engine.controls import RunControls
from ...modules.provenance import provenance
from ...tables import frame
from ...tables.ground_truth import truths_of
from ...tables.inputs import ONLY_BLANK
from ...tables.merge import spans
from ...tables.names import renamed_outputs
from ...tables.results import Results
from ..attempts import FailedAttempts
from ..plan import RunPlan
from ..stories import stories_of
from .endings import error_class, explain

Control = Callable[[Callable[[RunControls], None]], None]
_MAX_ERRORS = 1000  # kept if the rows themselves are not kept


class Destination(Protocol):
    """The place where settled rows go.

    Attributes:
        results: the rows that are kept in this process.
        keeps_rows: whether all rows are kept in this process.
        error: the error that stopped the writing of rows, None if there was none.
    """

    results: Results
    error: BaseException | None

    @property
    def keeps_rows(self) -> bool: ...

    def prepare(self, control: Control) -> None:
        """Get ready; called once, before the first row. `control` changes the run's settings."""

    def add(self, event: RowFinished) -> None:
        """Take a settled row."""

    def is_settled(self) -> Callable[[int], bool]:
        """A function that tells whether the row of a number has been taken by now."""

    def close(self, about: dict[str, Any], *, is_whole: bool) -> None:
        """Finish, because the run is over. `about` is the run's metadata; `is_whole` tells whether
        every row is done."""

    def drop(self) -> None:
        """Take back what `prepare` did: the run never began."""

    def result(self, df: Any) -> Any:
        """The user's result, made from the run's frame. ParallelError if it cannot be made."""

    @property
    def location(self) -> str:
        """The name of the place that holds the rows, empty for the frame."""

    def kept(self, remembers: bool) -> str:
        """A phrase that tells where the rows of a run that ended early are."""


class Collector:
    """Adds up the events of one run.

    Args:
        plan: the plan of the run.
        max_workers: the number of rows in flight at the start.
        destination: the place where settled rows go.
        remembers: tells whether answers are kept in a store.

    Attributes:
        run: the run's id, which is also in the metadata of its frame.
        progress: the accumulated state.
        end: the event that ended the run; None before.
        broken: the first error of our own accounting; the run must not go on.
    """

    def __init__(
        self,
        plan: RunPlan,
        max_workers: int,
        destination: Destination,
        remembers: Callable[[], bool],
        attempts: FailedAttempts | None = None,
    ) -> None:
        self._plan, self._max_workers = plan, max_workers
        self._destination, self._remembers = destination, remembers
        self._started_at: float | None = None
        self._first_errors: list[BaseException] = []
        self.run = uuid.uuid4().hex[:12]
        outputs, batch = plan.module.outputs, plan.batch
        self.progress = RunProgress(
            batch.total,
            {n: f.labels for n, f in outputs.items() if f.labels is not None},
            batch.index,
            max_cost_usd=plan.options.max_cost_usd,
            truths=truths_of(plan.options.truth, batch, outputs),
            name=plan.options.name,
        )
        self.attempts = FailedAttempts() if attempts is None else attempts
        self._keeps_attempts = plan.options.keep == "attempts"
        self.end: RunFinished | None = None
        self.broken: Exception | None = None

    @property
    def results(self) -> Results:
        """The settled rows that are kept in this process."""
        return self._destination.results

    def prepare(self, control: Control) -> None:
        """Get ready; called once, before the first event."""
        self._destination.prepare(control)

    def drop(self) -> None:
        """Take back what `prepare` did: the run never began."""
        self._destination.drop()

    def add(self, events: Iterable[Event]) -> None:
        """Add events."""
        for event in events:
            try:
                self._add(event)
            except Exception as error:  # our own code; each row is entered all the same
                self.broken = self.broken or error
                self._add_after(error, event)

    @contextlib.contextmanager
    def guarded(self) -> Iterator[None]:
        """A scope for what must not cost a row: an error ends the run, as `broken`."""
        try:
            yield
        except Exception as error:
            self.broken = self.broken or error

    def _add(self, event: Event) -> None:
        if isinstance(event, RowFinished):
            self._add_row(event)
        elif isinstance(event, AttemptFailed):
            if self._keeps_attempts:
                self.attempts.add(event)
        elif isinstance(event, RunStarted):
            self._started_at = event.at
        elif isinstance(event, RunFinished):
            self.end = event
        self.progress.add(event)

    def _add_after(self, error: Exception, event: Event) -> None:
        """Enter a row whose event could not be added, as far as that is possible."""
        if not isinstance(event, RowFinished) or self._destination.is_settled()(event.row.number):
            return
        with contextlib.suppress(Exception):
            failed = event._replace(status="failed", error=error, answer=None)
            self._add_row(failed)
            self.progress.add(failed)

    def _add_row(self, event: RowFinished) -> None:
        self._destination.add(event)
        if event.error is not None and self._keeps_attempts:
            self.attempts.add(event)
        has_room = len(self._first_errors) < _MAX_ERRORS
        if event.status == "failed" and event.error is not None and has_room:
            self._first_errors.append(event.error)

    def add_missing(self, ends: Iterable[Event]) -> None:
        """Add those closing events whose row is not settled, or whose run has not ended."""
        is_settled = self._destination.is_settled()
        for event in ends:
            if isinstance(event, RowFinished):
                is_new = not is_settled(event.row.number)
            else:
                is_new = self.end is None
            self.add([event] if is_new else [])

    def finish(self) -> None:
        """Close the destination, because the run is over."""
        about = self._about(
            inputs=self._plan.batch.input_columns,
            metrics=self.progress.metrics().to_dict(),
            sources=self._plan.sources.known,
        )
        self._destination.close(about, is_whole=self.is_whole)

    @property
    def is_whole(self) -> bool:
        """Whether the run came to its end, and every row is done."""
        is_done = self.end is not None and self.end.reason == "done"
        return is_done and not self.progress.not_run and self.broken is None

    @property
    def keeps_rows(self) -> bool:
        """Whether all rows are kept in this process."""
        return self._destination.keeps_rows

    def first_of(self, group: ErrorGroup) -> Any:
        """The frame of the first failed row of a group; None if it is not in this process."""
        results, index = self.results, self._plan.batch.index
        for place, error in results.errors.items():
            position = results.positions[place]
            name = position if index is None else index[position]
            is_it = name is group.example or (
                type(name) is type(group.example) and name == group.example
            )
            if is_it and type(error).__name__ == group.error_type:
                return self._frame([place])
        return None

    def frame(self, *, selected: bool = False) -> Any:
        """The settled rows that are kept in this process, with their status; with `selected` only
        the rows that the options ask for."""
        results, options = self.results, self._plan.options
        places = results.order()
        if selected and (options.only_successful or not options.return_all):
            places = [place for place in places if results.is_ok(place)]
            places = places if options.return_all else places[:1]
        return self._frame(places)

    def _frame(self, places: list[int]) -> Any:
        results = self.results
        try:
            df = frame.build(results, places, self._plan.batch, self._plan.module.outputs)
        except Exception as error:
            self.broken = self.broken or error
            return frame.plain(results, places)
        with self.guarded():
            sums = frame.checksums(df)
            df.attrs["pardspy"] |= self._about(
                rows=len(df),
                checksum=sums.rows,
                order=sums.order,
                metrics=self.progress.metrics().to_dict(),
                **self._samples_of(df, places),
                **self._sources_of(places),
            )
        return df

    def _samples_of(self, df: Any, places: list[int]) -> dict[str, Any]:
        """How many samples each input row has, where the index does not tell the rows apart."""
        index, results = self._plan.batch.index, self.results
        if self._plan.batch.repeat == 1 or index is None or index.is_unique:
            return {}
        counts = Counter(results.positions[place] for place in places)
        return {"samples": list(counts.values())}

    def _about(self, **more: Any) -> dict[str, Any]:
        """The run's metadata, which its result carries."""
        return provenance(
            self._plan.module,
            self._plan.options,
            run=self.run,
            workers=self.progress.max_workers or self._max_workers,
            remembers=self._remembers(),
            ended=None if self.end is None else self.end.reason,
            started_at=_iso(self._started_at),
            finished_at=None if self.end is None else _iso(self.end.at),
            **more,
        )

    def _sources_of(self, places: list[int]) -> dict[str, Any]:
        """The sources of the answers (module and model), by the rows' places in the frame."""
        results, by_source = self.results, dict[str, list[int]]()
        sources = self._plan.sources
        for row, place in enumerate(places):
            if results.is_ok(place):
                origin = results.origins.get(place)
                stages = results.outputs.get("stage") if self._plan.module.router else None
                stage = 0 if stages is None else stages[place] - 1
                source = origin.source if origin else sources.of(results.numbers[place], stage)
                by_source.setdefault(source, []).append(row)
        return {
            "sources": {source: sources.known.get(source, {}) for source in by_source},
            "rows_by_source": {source: spans(of) for source, of in by_source.items()},
        }

    def result(self, df: Any) -> Any:
        """The user's result, made from the run's frame. ParallelError if it cannot be made."""
        return self._destination.result(df)

    def summary(self, df: Any) -> Summary:
        """The run's summary; `df` is its frame."""
        summary = summarize(df)
        summary = replace(summary, stories=stories_of(df, summary.groups))
        if self._destination.keeps_rows:
            return summary
        return replace(
            summary,
            groups=self.progress.failures.largest_first(),
            latencies_ms=self.progress.shown_latencies_ms(),
            counts=self.progress.counts,
            examples=self.progress.examples,
            where="" if self._destination.error is not None else self._destination.location,
        )

    def warn_of_renamed(self, df: Any) -> None:
        """Warn of outputs that have another column, because the user's table has theirs. `df` is
        the run's frame."""
        batch = self._plan.batch
        renamed = batch.column_names.renamed if batch.in_chunks else df.attrs["pardspy"]["renamed"]
        if outputs := renamed_outputs(renamed):
            warnings.warn(
                f"the table has columns {list(outputs)} already, which stay as they are; the "
                f"run's own are in {list(outputs.values())}",
                UserWarning,
                stacklevel=2,
            )

    def stopped_by(self) -> ParallelError | None:
        """The error that ended the run early; None if the run did not end with an error."""
        if (error := self._destination.error) is not None:
            return self.explained(error_class("target"), error)
        if self.broken is not None:
            return self.explained(error_class("crashed"), self.broken)
        p = self.progress
        if p.skipped and p.skipped == p.done and self._plan.batch.positions is None:
            return ParallelError(f"{ONLY_BLANK}; nothing was asked", df=self.frame())
        if self.end is None or (kind := error_class(self.end.reason)) is None:
            return None
        if self.end.reason == "budget" and self._plan.options.on_budget == "return":
            return None
        return self.explained(kind, self.end.error)

    def explained(
        self, kind: type[ParallelError] | None, cause: BaseException | None
    ) -> ParallelError:
        """A `ParallelError` of this run. The text tells what happened, to how many rows, and where
        the rows are. The error carries every row, also those that the result would leave out."""
        errors = self._errors()
        text = explain(
            kind or ParallelError,
            cause,
            errors,
            self.progress,
            max_failures=self._plan.options.max_failures,
            kept=self._destination.kept(self._remembers()),
        )
        return (kind or ParallelError)(text, df=self.frame(), errors=errors)

    def _errors(self) -> list[BaseException]:
        """The errors of the failed rows; in row order if this process keeps the rows."""
        if not self._destination.keeps_rows:
            return self._first_errors
        return [r.error for r in self.results if r.status == "failed" and r.error is not None]


def _iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()
