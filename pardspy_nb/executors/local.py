"""This process as the place where attempts are made."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager

from ..core.clock import Clock
from ..core.events import Event, Row
from ..core.options import Options
from ..engine.engine import Engine
from ..engine.policies import FailurePolicy
from ..engine.protocols import Cache
from ..modules.module import Module
from ..tables.inputs import RowBatch
from .engine_factory import assembled, calling, least_of, limits_of, prepare


class LocalExecutor:
    """This process as a place for attempts (see `engine_thread.Place`)."""

    def __init__(
        self,
        module: Module,
        batch: RowBatch,
        options: Options,
        *,
        workers: int,
        cache: Cache | None,
        clock: Clock,
        most_ahead: int | None = None,
    ) -> None:
        self._module, self._batch, self._options = module, batch, options
        self._workers, self._cache, self._clock = workers, cache, clock
        self._most_ahead = most_ahead

    async def prepare(self) -> None:
        """See `engine_thread.Place`."""
        await prepare(self._module)

    @asynccontextmanager
    async def engine(
        self, rows: Iterator[Row], emit: Callable[[Event], None]
    ) -> AsyncIterator[Engine]:
        """See `engine_thread.Place`."""
        options, least = self._options, least_of(self._batch)
        async with calling(self._module) as caller:
            yield assembled(
                self._module,
                options,
                caller,
                rows,
                emit,
                clock=self._clock,
                total=self._batch.total,
                max_workers=self._workers,
                failure=FailurePolicy(options.max_failures, options.fail_fast, least),
                blocking_source=self._batch.blocking,
                cache=self._cache,
                gates=limits_of(self._module, options, caller),
                most_ahead=self._most_ahead,
            )
