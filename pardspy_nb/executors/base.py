"""The executor interface: an executor decides where attempts are made."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol

from ..core.clock import Clock
from ..core.events import Event, Row
from ..core.options import Options
from ..engine.policies import FailurePolicy
from ..engine.protocols import Runner
from ..modules.module import Module
from ..store.cache import AnswerCache
from ..tables.row_batch import RowBatch


@dataclass(frozen=True, kw_only=True)
class Work:
    """The work that an executor runs.

    Attributes:
        max_workers: the most rows in flight, when the run begins.
        most_ahead: how many rows may be read beyond the oldest row that is not released; None
            for any number.
    """

    module: Module
    batch: RowBatch
    options: Options
    max_workers: int
    clock: Clock
    most_ahead: int | None = None

    @property
    def failure(self) -> FailurePolicy:
        """How many rows may fail."""
        listener = self.batch.listener
        least = None if listener is None else listener.least
        return FailurePolicy(self.options.max_failures, self.options.fail_fast, least)


class Executor(Protocol):
    """Makes the attempts of a run, in this process or elsewhere."""

    async def prepare(self) -> None:
        """Make everything ready that attempts need. Nothing is paid for this."""

    def engine(
        self, rows: Iterator[Row], emit: Callable[[Event], None], cache: AnswerCache | None
    ) -> AbstractAsyncContextManager[Runner]:
        """A runner of these rows, on the running loop."""
