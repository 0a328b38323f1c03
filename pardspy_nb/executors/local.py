"""The executor that makes attempts in this process."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

from ..core.events import Event, Row
from ..engine.budget import Budget
from ..engine.engine import Engine
from ..engine.protocols import Limiter
from ..engine.rate_limiter import RateLimiter
from ..store.cache import AnswerCache
from .base import Work
from .engine_factory import calling, engine_config, make_engine, prepare


class LocalExecutor:
    """Makes attempts in this process (see `base.Executor`)."""

    def __init__(self, work: Work) -> None:
        self._work = work

    async def prepare(self) -> None:
        """See `base.Executor`."""
        await prepare(self._work.module)

    @asynccontextmanager
    async def engine(
        self, rows: Iterator[Row], emit: Callable[[Event], None], cache: AnswerCache | None
    ) -> AsyncIterator[Engine]:
        """See `base.Executor`."""
        work, options = self._work, self._work.options
        rate_limiter = RateLimiter(options.rpm, options.tpm, lambda row: caller.size(row))
        async with calling(work.module, options, rate_limiter.hear) as caller:
            limiters: list[Limiter] = [rate_limiter]
            if options.max_cost_usd is not None:
                limiters.append(Budget(options.max_cost_usd, caller.worst_case))
            config = engine_config(
                work.module,
                options,
                total=work.batch.total,
                max_workers=work.max_workers,
                failure=work.failure,
                blocking_source=work.batch.blocking,
                most_ahead=work.most_ahead,
            )
            yield make_engine(work.module, caller, rows, emit, config, work.clock, cache, limiters)
