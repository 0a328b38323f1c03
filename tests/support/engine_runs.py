"""What the tests of engine have in common."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

from pardspy_nb.core.events import (
    Answer,
    Event,
    Origin,
    Row,
    RowFinished,
)
from pardspy_nb.engine.config import EngineConfig
from pardspy_nb.engine.engine import Engine
from pardspy_nb.engine.policies import FailurePolicy, RetryPolicy
from pardspy_nb.testing import VirtualClock


class Flaky(Exception):
    retryable = True

    def __init__(self, retry_after_s: float | None = None, usage: Any = None) -> None:
        super().__init__("flaky")
        self.retry_after_s, self.usage = retry_after_s, usage


def rows(n: int) -> Any:
    return (Row(i, i, 0, {"i": i}) for i in range(n))


def run(
    n: int,
    call: Callable[[Row], Any],
    *,
    workers: int = 2,
    retry: RetryPolicy | None = None,
    failure: FailurePolicy | None = None,
    control: Callable[[Engine, asyncio.AbstractEventLoop], None] | None = None,
    source: Any = None,
    **more: Any,
) -> list[Event]:
    events: list[Event] = []
    clock = VirtualClock()
    loop = clock.new_event_loop()
    engine = Engine(
        rows(n) if source is None else source,
        call,
        events.append,
        EngineConfig(
            total=n,
            max_workers=workers,
            retry=retry or RetryPolicy(rand=lambda: 1.0),
            failure=failure or FailurePolicy(None),
            **{k: v for k, v in more.items() if k not in ("cache", "limiters")},
        ),
        clock=clock,
        cache=more.get("cache"),
        limiters=more.get("limiters", ()),
    )
    if control:
        loop.call_soon(control, engine, loop)
    try:
        loop.run_until_complete(asyncio.wait_for(engine.run(), 10_000))
    finally:
        loop.close()
    return events


def finished(events: list[Event]) -> dict[int, RowFinished]:
    done = [e for e in events if isinstance(e, RowFinished)]
    assert len({e.row.number for e in done}) == len(done), "a row was settled twice"
    return {e.row.number: e for e in done}


async def one_second(row: Row) -> Answer:
    await asyncio.sleep(1)
    return Answer({"i": row.inputs["i"]})


class Keyed:
    """A memory that lasts as long as a run; rows of equal inputs are equal."""

    def __init__(self) -> None:
        self.kept: dict[bytes | None, Answer] = {}

    def key(self, row: Row) -> bytes | None:
        return repr((row.inputs, row.sample)).encode()

    def get(self, row: Row, key: bytes | None) -> Answer | None:
        return self.kept.get(key)

    def wait_s(self, row: Row, key: bytes | None) -> float:
        return 0.0

    def release(self, key: bytes | None) -> None:
        pass

    def known_failure(self, key: bytes | None) -> Exception | None:
        return None

    def put_failure(self, key: bytes | None, error: BaseException) -> None: ...

    def copy_for(self, row: Row, answer: Answer, *made: Any) -> Answer:
        return answer._replace(usage=0, origin=Origin(answer.usage, "source", 0.0))

    async def put(self, row: Row, key: bytes | None, answer: Answer, *made: Any) -> None:
        self.kept[key] = self.copy_for(row, answer)
