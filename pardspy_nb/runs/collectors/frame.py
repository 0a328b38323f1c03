"""What a run has produced so far: its state, its rows, and the words for how it ended."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Any

from ...core.error_groups import message_of
from ...core.errors import BudgetExceeded, FailFast, ParallelError, RunStopped, TooManyFailures
from ...core.events import Event, RowFinished, RunFinished, RunStarted
from ...core.options import Options
from ...display.progress import RunProgress
from ...display.summary import Summary, summarize
from ...engine.protocols import Controllable
from ...modules.module import Module
from ...modules.provenance import Sources, provenance
from ...tables import frame
from ...tables.export import convert
from ...tables.ground_truth import truths_of
from ...tables.inputs import RowBatch
from ...tables.merge import spans
from ...tables.results import Results

_STOP_ERRORS: dict[str, type[ParallelError]] = {
    "failures": TooManyFailures,
    "fail_fast": FailFast,
    "fatal": RunStopped,
    "store": RunStopped,
    "budget": BudgetExceeded,
    "cluster": RunStopped,
    "target": RunStopped,
    "source": ParallelError,
    "crashed": ParallelError,
}


class Ledger:
    """Adds up the events of one run.

    Args:
        workers: rows in flight to begin with; `remembers`: whether answers are kept in a store.
        control: does something to the engine, on its thread.

    Attributes:
        run: the run's name, which its frame bears, too.
        progress: the accumulated state.
        results: the settled rows.
        end: the last event, once it is there.
    """

    def __init__(
        self,
        module: Module,
        batch: RowBatch,
        options: Options,
        sources: Sources,
        *,
        workers: int,
        remembers: bool,
        control: Callable[[Callable[[Controllable], None]], None],
    ) -> None:
        self._module, self._batch, self._options = module, batch, options
        self._sources, self._workers, self._remembers = sources, workers, remembers
        self._control = control
        self._started_at: float | None = None
        self.run = uuid.uuid4().hex[:12]
        labels = {n: f.labels for n, f in module.outputs.items() if f.labels is not None}
        self.progress = RunProgress(
            batch.total,
            labels,
            batch.index,
            max_cost_usd=options.max_cost_usd,
            truths=truths_of(options.truth, batch, module.outputs),
        )
        self.results = Results(batch.columns)
        self.end: RunFinished | None = None

    def add(self, events: Iterable[Event]) -> None:
        """Enter what happened."""
        for event in events:
            self.progress.add(event)
            if isinstance(event, RowFinished):
                self.enter(event)
            elif isinstance(event, RunStarted):
                self._started_at = event.at
            elif isinstance(event, RunFinished):
                self.end = event

    def enter(self, event: RowFinished) -> None:
        """Keep a settled row."""
        self.results.add(event)

    def finish(self) -> None:
        """The run is over, and nothing more will come."""

    def add_missing(self, ends: Iterable[Event]) -> None:
        """Enter the ends of those rows that have none yet, and of the run if it has none."""
        is_settled = self._settled()
        for event in ends:
            fresh = (
                not is_settled(event.row.number) if isinstance(event, RowFinished) else not self.end
            )
            self.add([event] if fresh else [])

    def _settled(self) -> Callable[[int], bool]:
        """Whether the row of a number is entered, as things stand now."""
        return set(self.results.numbers).__contains__

    def frame(self, *, selected: bool = False) -> Any:
        """Every settled row, with its status; or those that the options ask for."""
        results = self.results
        places = results.order()
        if selected and (self._options.only_successful or not self._options.return_all):
            places = [place for place in places if results.is_ok(place)]
            places = places if self._options.return_all else places[:1]
        df = frame.build(results, places, self._batch, self._module.outputs)
        df.attrs["pardspy"] = self._about(
            rows=len(df),
            order=frame.order_of(df),
            outputs=frame.outputs_of(df, self._batch),
            metrics=self.progress.metrics().to_dict(),
            **self._sources_of(places),
        )
        return df

    def _about(self, **more: Any) -> dict[str, Any]:
        """What the run's result says of the run."""
        return provenance(
            self._module,
            self._options,
            run=self.run,
            inputs=self._batch.names,
            workers=self.progress.max_workers or self._workers,
            remembers=self._remembers,
            ended=None if self.end is None else self.end.reason,
            started_at=_iso(self._started_at),
            finished_at=None if self.end is None else _iso(self.end.at),
            **more,
        )

    def result(self, df: Any) -> Any:
        """What the user gets for the run's frame. ParallelError if it cannot be made of it."""
        kind = self._options.result
        try:
            return convert(df, kind)
        except Exception as error:
            raise ParallelError(
                f"the rows are done, and in this error's .df; they could not be made a {kind} "
                f"table: {type(error).__name__}: {error}",
                df=df,
            ) from error

    def summary(self, df: Any) -> Summary:
        """The run at a glance; `df` is its frame."""
        return summarize(df)

    def _sources_of(self, places: list[int]) -> dict[str, Any]:
        """What made which answers, by the places of rows in the frame."""
        results, by_source = self.results, dict[str, list[int]]()
        for row, place in enumerate(places):
            if results.is_ok(place):
                origin = results.origins.get(place)
                source = origin.source if origin else self._sources.of(results.numbers[place])
                by_source.setdefault(source, []).append(row)
        return {
            "sources": {source: self._sources.known.get(source, {}) for source in by_source},
            "rows_by_source": {source: spans(of) for source, of in by_source.items()},
        }

    def stopped_by(self) -> ParallelError | None:
        """The error that ended the run early, None if it was not an error."""
        if self.end is None or (kind := _STOP_ERRORS.get(self.end.reason)) is None:
            return None
        if kind is BudgetExceeded and self._options.on_budget == "return":
            return None
        return self.explained(kind, self.end.error)

    def explained(self, kind: type[ParallelError], cause: BaseException | None) -> ParallelError:
        """A `ParallelError` of this run: what happened, to how many rows, and what to do."""
        failed = self._errors()
        t, limit = self.progress, self._options.max_failures
        tolerated = f" ({limit}; None goes on whatever fails)" if kind is TooManyFailures else ""
        told = [cause, *failed] if cause is not None and cause not in failed else failed
        distinct = list(dict.fromkeys(f"{type(e).__name__}: {message_of(e)}" for e in told))[:3]
        text = (
            f"{kind.why}{tolerated}: {t.ok} rows done, {t.failed} failed, {t.cancelled} cancelled, "
            f"{t.not_run} not run. {' | '.join(distinct)} ({self._kept})"
        )
        # the error carries every row, whatever the result would have left out
        return kind(text, df=self.frame(), errors=failed)

    def _errors(self) -> list[BaseException]:
        """Those of the failed rows, in order."""
        return [r.error for r in self.results if r.status == "failed" and r.error is not None]

    @property
    def _kept(self) -> str:
        """Where the rows of a run that ended early are."""
        return "every row is in this error's .df"


def _iso(at: float | None) -> str | None:
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat()
