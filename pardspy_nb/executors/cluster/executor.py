"""The executor that makes attempts on a cluster: each worker process runs an engine."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

from ...core.events import Event, Row
from ...store.cache import AnswerCache
from ..base import Work
from .config import CoordinatorConfig
from .coordinator import Coordinator
from .dask_link import DaskLink
from .link import ClusterError
from .work_queue import RowWorkQueue, WorkQueue
from .worker_tasks import WorkerSpec

__all__ = ["ClusterError", "ClusterExecutor"]


class ClusterExecutor:
    """Makes attempts at the workers of a Dask cluster (see `base.Executor`). Rows are sent to the
    workers; answers are remembered in this process.

    Args:
        link: the link to the workers; None for a link that sends rows.
    """

    def __init__(self, work: Work, link: DaskLink | None = None) -> None:
        self._work = work
        self._link = link or DaskLink(
            work.options.executor, WorkerSpec.of(work.module, work.options)
        )

    async def prepare(self) -> None:
        """See `base.Executor`."""
        await self._link.connect()

    @asynccontextmanager
    async def engine(
        self, rows: Iterator[Row], emit: Callable[[Event], None], cache: AnswerCache | None
    ) -> AsyncIterator[Coordinator]:
        """See `base.Executor`."""
        batch = self._work.batch
        queue = RowWorkQueue(
            rows,
            blocking=batch.blocking,
            total=batch.total,
            cache=cache,
            most_ahead=self._work.most_ahead,
        )
        async with coordinating(self._work, self._link, queue, emit, cache) as coordinator:
            yield coordinator


@asynccontextmanager
async def coordinating(
    work: Work,
    link: DaskLink,
    queue: WorkQueue,
    emit: Callable[[Event], None],
    cache: AnswerCache | None,
) -> AsyncIterator[Coordinator]:
    """A coordinator for some work. The link is closed afterwards. With a cache, answers are
    remembered in this process."""
    options = work.options
    config = CoordinatorConfig(
        total=work.batch.total,
        max_workers=work.max_workers,
        failure=work.failure,
        rpm=options.rpm,
        tpm=options.tpm,
        max_cost_usd=options.max_cost_usd,
        remembers=cache is not None,
        may_hedge=options.hedge is not None,
    )
    try:
        yield Coordinator(queue, link, emit, config, clock=work.clock)
    finally:
        await link.close()
