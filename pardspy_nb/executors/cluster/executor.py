"""A cluster as the place where attempts are made: each worker process runs an engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

from ...core.clock import Clock
from ...core.events import Event, Row
from ...core.options import Options
from ...engine.policies import FailurePolicy
from ...modules.module import Module
from ...store.cache import AnswerCache
from ...tables.inputs import RowBatch
from ..engine_factory import least_of
from .coordinator import ClusterError, Coordinator
from .dask_link import DaskLink
from .work_queue import RowWorkQueue, WorkQueue
from .worker_tasks import WorkerSpec

__all__ = ["ClusterError", "ClusterExecutor"]


class ClusterExecutor:
    """A Dask cluster (see `engine_thread.Place`). Rows go there; answers are remembered here."""

    def __init__(
        self,
        module: Module,
        batch: RowBatch,
        options: Options,
        *,
        workers: int,
        cache: AnswerCache | None,
        clock: Clock,
        most_ahead: int | None = None,
    ) -> None:
        self._batch, self._options, self._workers = batch, options, workers
        self._cache, self._clock, self._most_ahead = cache, clock, most_ahead
        self._link = self._linked(module, options)

    def _linked(self, module: Module, options: Options) -> DaskLink:
        return DaskLink(options.executor, WorkerSpec.of(module, options))

    def _source(self, rows: Iterator[Row]) -> WorkQueue:
        return RowWorkQueue(
            rows,
            blocking=self._batch.blocking,
            total=self._batch.total,
            cache=self._cache,
            most_ahead=self._most_ahead,
        )

    async def prepare(self) -> None:
        """See `engine_thread.Place`."""
        await self._link.connect()

    @asynccontextmanager
    async def engine(
        self, rows: Iterator[Row], emit: Callable[[Event], None]
    ) -> AsyncIterator[Coordinator]:
        """See `engine_thread.Place`."""
        batch, options = self._batch, self._options
        failure = FailurePolicy(options.max_failures, options.fail_fast, least_of(batch))
        try:
            yield Coordinator(
                self._source(rows),
                self._link,
                emit,
                clock=self._clock,
                total=batch.total,
                max_workers=self._workers,
                failure=failure,
                rpm=options.rpm,
                tpm=options.tpm,
                max_cost_usd=options.max_cost_usd,
                cache=self._cache,
                duplicates=options.hedge is not None,
            )
        finally:
            await self._link.close()
