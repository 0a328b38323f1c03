"""A cluster as the place where attempts are made: each worker process runs an engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

from ...core.clock import Clock
from ...core.events import Event, Row
from ...core.options import Options
from ...engine.policies import FailurePolicy
from ...modules.module import Module
from ...store.cache import Memory
from ...tables.inputs import Batch
from ..engine_factory import least_of
from .coordinator import ClusterError, Fleet
from .dask_link import DaskLink
from .work_queue import RowSource, Source
from .worker_tasks import Spec

__all__ = ["ClusterError", "OnCluster"]


class OnCluster:
    """A Dask cluster (see `engine_thread.Place`). Rows go there; answers are remembered here."""

    def __init__(
        self,
        module: Module,
        batch: Batch,
        options: Options,
        *,
        workers: int,
        memory: Memory | None,
        clock: Clock,
        most_ahead: int | None = None,
    ) -> None:
        self._batch, self._options, self._workers = batch, options, workers
        self._memory, self._clock, self._most_ahead = memory, clock, most_ahead
        self._link = self._linked(module, options)

    def _linked(self, module: Module, options: Options) -> DaskLink:
        return DaskLink(options.executor, Spec.of(module, options))

    def _source(self, rows: Iterator[Row]) -> Source:
        return RowSource(
            rows,
            blocking=self._batch.blocking,
            total=self._batch.total,
            memory=self._memory,
            most_ahead=self._most_ahead,
        )

    async def prepare(self) -> None:
        """See `engine_thread.Place`."""
        await self._link.connect()

    @asynccontextmanager
    async def engine(
        self, rows: Iterator[Row], emit: Callable[[Event], None]
    ) -> AsyncIterator[Fleet]:
        """See `engine_thread.Place`."""
        batch, options = self._batch, self._options
        failure = FailurePolicy(options.max_failures, options.fail_fast, least_of(batch))
        try:
            yield Fleet(
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
                memory=self._memory,
                twins=options.hedge is not None,
            )
        finally:
            await self._link.close()
