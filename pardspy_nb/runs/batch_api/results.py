"""What a job asked, what was answered, and the frame of both."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from ...core.errors import BatchExpiredError, BatchRejectedError
from ...core.events import (
    Answer,
    Event,
    Made,
    Row,
    RowFinished,
    RowStarted,
    RunFinished,
    RunStarted,
    Status,
)
from ...core.options import Options
from ...llm.lm import LM
from ...modules.module import from_module
from ...modules.predict import Predict
from ...modules.provenance import Sources
from ...store.cache import AnswerCache, open_cache
from ...tables.row_batch import RowBatch
from ...tables.rows import read_rows
from ..collectors.collector import Collector
from ..collectors.frame import FrameDestination
from ..plan import RunPlan
from .client import Batch
from .job_folder import JobFolder
from .job_state import JobState, PartState
from .jsonl import outcomes

Results = dict[int, Answer | BaseException | None]  # by row; None for one that was cancelled


class JobRequest(NamedTuple):
    """What a job asks. `leaders` says, by number, which equal row's answer a row shares."""

    predict: Predict
    table: Any
    options: dict[str, Any]
    leaders: dict[int, int]


class JobResults:
    """A job's rows and their answers.

    Args:
        lm: the model with its key.
        factor: what answers cost, of the usual price.
    """

    def __init__(self, request: JobRequest, lm: LM, folder: JobFolder, factor: float) -> None:
        self._request, self._lm, self._folder, self._factor = request, lm, folder, factor
        self._options = Options.of({**request.options, "progress": "none"})
        module = from_module(request.predict)
        self._module = module.with_confidence() if self._options.confidence else module

    def _rows(self) -> RowBatch:
        return read_rows(
            self._request.table, self._module.inputs, self._module.outputs, self._options
        )

    def _cache(self, rows: RowBatch, sources: Sources) -> AnswerCache | None:
        return open_cache(self._options, self._module, sources, total=rows.total)

    def results(self, number: int, part: PartState, *, is_cancelled: bool = False) -> Results:
        """What became of the rows of a batch, as far as the provider has reported."""
        found: Results = {}
        for kind in ("errors", "output"):
            content = self._folder.get(f"{kind}-{number}.jsonl")
            if content is not None:
                found |= dict(outcomes(content, self._module.source, self._lm, self._factor))
        batch = part.batch
        if batch is None and is_cancelled:  # it was never begun
            found |= dict.fromkeys(part.rows)
        elif batch is not None and batch.has_ended and part.fetched:
            error = _unanswered(batch)
            found |= {row: error for row in part.rows if row not in found}
        return found

    async def remember(self, number: int, part: PartState) -> None:
        """Put the answers of a batch into the store. StoreError if that cannot be."""
        rows, results = self._rows(), self.results(number, part)
        cache = self._cache(rows, Sources(self._module, self._options.cache_key))
        if cache is None:
            return
        try:
            for row in rows.rows:
                key, result = cache.key(row), results.get(row.number)
                if isinstance(result, Answer):
                    await cache.put(row, key, result, Made(1, None, None))
        finally:
            cache.close()

    def frame(self, state: JobState) -> Any:
        """Every row of a job in this state, in `run_parallel`'s columns."""
        began, ended = state.created_at, state.ended_at
        rows, sources = self._rows(), Sources(self._module, self._options.cache_key)
        cache = self._cache(rows, sources)
        results: Results = {}
        for number, part in enumerate(state.parts):
            results |= self.results(number, part, is_cancelled=state.is_cancelled)
        try:
            plan = RunPlan(module=self._module, batch=rows, options=self._options, sources=sources)
            collector = Collector(plan, 1, FrameDestination(plan), lambda: cache is not None)
            collector.add([RunStarted(rows.total, began)])
            for row in rows.rows:
                collector.add(self._events_of(row, results, cache, began))
            if ended is not None:
                collector.add([RunFinished("done", None, ended - began, 0, ended)])
            return collector.frame()
        finally:
            if cache is not None:
                cache.close()

    def _events_of(
        self, row: Row, results: Results, cache: AnswerCache | None, began: float
    ) -> Iterator[Event]:
        """The events that a run would have for a row."""
        if row.is_blank:
            yield RowFinished(row, "skipped", None, None, 0, None, None, None, None, None)
            return
        leader = self._request.leaders.get(row.number)
        result = results.get(row.number if leader is None else leader)
        if isinstance(result, Answer):
            if leader is None or cache is None:
                yield RowStarted(row, 1)
                yield RowFinished(row, "ok", result, None, 1, None, None, None, began, result.usage)
            else:
                yield _settled(row, cache.copy_for(row, result, Made(1, None, None)))
            return
        remembered = None if cache is None else cache.get(row, cache.key(row))
        if remembered is not None:  # before it was submitted, or asked since
            yield _settled(row, remembered)
        elif isinstance(result, BaseException):
            yield RowStarted(row, 1)
            usage = getattr(result, "usage", None)
            yield RowFinished(row, "failed", None, result, 1, None, None, None, began, usage)
        else:
            asked = row.number if leader is None else leader
            status: Status = "cancelled" if asked in results else "not_run"
            yield RowFinished(row, status, None, None, 0, None, None, None, None, None)


def _settled(row: Row, answer: Answer) -> RowFinished:
    return RowFinished(row, "ok", answer, None, 0, None, None, None, None, answer.usage)


def _unanswered(batch: Batch) -> BaseException | None:
    """Why a batch that has ended has no answer to a row; None if it was cancelled."""
    if batch.status == "cancelled":
        return None
    if batch.status == "expired":
        return BatchExpiredError("the batch expired before this row was answered")
    return BatchRejectedError(batch.reason or "the provider gave no answer to this row")
