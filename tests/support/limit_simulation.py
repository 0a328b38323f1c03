"""What the tests of limits have in common."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable
from typing import Any

from pardspy_nb.core.events import (
    Answer,
    Event,
    Row,
    RowFinished,
    RunFinished,
)
from pardspy_nb.engine.adaptive_concurrency import AdaptiveConcurrency
from pardspy_nb.engine.config import EngineConfig
from pardspy_nb.engine.engine import Engine
from pardspy_nb.engine.policies import FailurePolicy, HedgePolicy, RetryPolicy
from pardspy_nb.testing import VirtualClock

Ask = Callable[[Row], Awaitable[Answer]]


class TooMany(Exception):
    retryable = rate_limited = True
    overloaded = False

    def __init__(self, retry_after_s: float | None = None) -> None:
        super().__init__("429")
        self.retry_after_s = retry_after_s


class Broken(Exception):
    retryable = overloaded = True
    rate_limited = False


class Sim:
    """An engine on a virtual clock, with what happened when."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.loop = self.clock.new_event_loop()
        self.events: list[tuple[float, Event]] = []
        self.limits: list[tuple[float, int]] = []

    def run(
        self,
        n: int,
        ask: Ask,
        *,
        workers: int = 500,
        auto: bool = False,
        limiters: Any = (),
        attempts: int = 4,
        hedge: HedgePolicy | None = None,
        inputs: Any = None,
        timeout_s: float | None = None,
        control: Callable[[Engine], None] = lambda engine: None,
    ) -> dict[int, RowFinished]:
        adaptive = AdaptiveConcurrency(workers) if auto else None

        def emit(event: Event) -> None:
            self.events.append((self.loop.time(), event))
            if adaptive:
                adaptive.observe(event, self.loop, follow)

        def follow(adaptive: AdaptiveConcurrency) -> None:
            self.limits.append((self.loop.time(), adaptive.limit))
            engine.controls.set_workers(adaptive.limit)

        engine = Engine(
            (Row(i, i, 0, inputs(i) if inputs else {}) for i in range(n)),
            ask,
            emit,
            EngineConfig(
                total=n,
                max_workers=workers,
                retry=RetryPolicy(attempts, rand=random.Random(1).random),
                failure=FailurePolicy(None),
                hedge=hedge,
                timeout_s=timeout_s,
            ),
            clock=self.clock,
            limiters=limiters,
        )
        control(engine)
        self.loop.run_until_complete(engine.run())
        return {e.row.number: e for _, e in self.events if isinstance(e, RowFinished)}

    @property
    def end(self) -> RunFinished:
        event = self.events[-1][1]
        assert isinstance(event, RunFinished)
        return event

    def limit_at(self, when: float) -> int:
        return next((limit for at, limit in reversed(self.limits) if at <= when), 2)
