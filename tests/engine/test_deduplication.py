"""Rows that share an answer: with the cache, or with an equal row."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.engine_runs import Flaky, Keyed, finished, one_second, run

from pardspy_nb.core.events import (
    Answer,
    Row,
    RunFinished,
)
from pardspy_nb.engine.engine import Engine
from pardspy_nb.engine.policies import FailurePolicy, RetryPolicy


def test_remembered_rows_take_no_attempt_and_new_ones_settle_once_kept() -> None:
    asked: list[int] = []
    kept: list[tuple[int, float]] = []

    async def call(row: Row) -> Answer:
        asked.append(row.number)
        await asyncio.sleep(1)
        return Answer({}, usage=5)

    class Half(Keyed):
        def get(self, row: Row, key: bytes | None) -> Answer | None:
            return self.copy_for(row, Answer({})) if row.number % 2 == 0 else None

        async def put(self, row: Row, key: bytes | None, answer: Answer, *made: Any) -> None:
            await asyncio.sleep(0.5)
            kept.append((row.number, asyncio.get_running_loop().time()))

    events = run(1000, call, workers=500, cache=Half())
    done = finished(events)
    assert sorted(asked) == list(range(1, 1000, 2)) == sorted(n for n, _ in kept)
    assert {when for _, when in kept} == {1.5}
    assert (done[0].attempts, done[0].latency_ms, done[0].started_at) == (0, None, None)
    assert (done[1].attempts, done[1].latency_ms) == (1, 1000)
    assert {r.usage for n, r in done.items() if n % 2} == {5}


def alike(n: int, kinds: int) -> Any:
    return (Row(i, i, 0, {"kind": i % kinds}) for i in range(n))


def test_equal_rows_are_asked_once_and_share_the_answer() -> None:
    asked: list[int] = []

    async def call(row: Row) -> Answer:
        asked.append(row.number)
        await asyncio.sleep(1 + row.inputs["kind"])
        return Answer({"kind": row.inputs["kind"]}, usage=5)

    events = run(12, call, workers=3, source=alike(12, 3), cache=Keyed())
    done = finished(events)
    assert asked == [0, 1, 2]
    assert [done[n].answer.outputs["kind"] for n in range(12)] == [0, 1, 2] * 4
    assert [done[n].answer.cached for n in range(12)] == [False] * 3 + [True] * 9
    assert [done[n].usage for n in range(12)] == [5] * 3 + [0] * 9
    assert {done[n].attempts for n in range(3, 12)} == {0}


def test_equal_rows_share_a_failure_too_and_each_counts() -> None:
    async def call(row: Row) -> Answer:
        await asyncio.sleep(1)
        raise ValueError("hopeless") if row.inputs["kind"] else Flaky()

    events = run(
        8,
        call,
        source=alike(8, 2),
        cache=Keyed(),
        failure=FailurePolicy(7),
        workers=2,
        retry=RetryPolicy(2, base_s=1, rand=lambda: 1.0),
    )
    done = finished(events)
    assert {r.status for r in done.values()} == {"failed"}
    assert {type(done[n].error) for n in (1, 3, 5, 7)} == {ValueError}
    assert [done[n].attempts for n in range(8)] == [2, 1, 0, 0, 0, 0, 0, 0]
    end = events[-1]
    assert isinstance(end, RunFinished)
    assert end.reason == "failures", "each of the eight is a failed row"


def test_rows_that_wait_for_an_equal_one_did_not_run_in_a_stopped_run() -> None:
    def control(engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(0.5, lambda: engine.controls.stop("cancelled", now=True))

    done = finished(run(4, one_second, source=alike(4, 1), cache=Keyed(), control=control))
    assert [done[n].status for n in range(4)] == ["cancelled", "not_run", "not_run", "not_run"]


def test_a_leader_that_fails_in_a_run_that_is_stopping_tells_its_followers() -> None:
    def control(engine: Engine, loop: asyncio.AbstractEventLoop) -> None:
        loop.call_later(0.5, lambda: engine.controls.stop("cancelled", now=False))

    async def call(row: Row) -> Answer:
        await asyncio.sleep(1)
        raise ValueError("hopeless")

    done = finished(run(3, call, source=alike(3, 1), cache=Keyed(), control=control))
    assert [done[n].status for n in range(3)] == ["failed"] * 3


def test_a_stream_of_equal_rows_is_not_pulled_without_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from pardspy_nb.engine import deduplication

    monkeypatch.setattr(deduplication, "MAX_FOLLOWERS", 5)
    pulled: list[int] = []
    ahead: list[int] = []

    def source() -> Any:
        for row in alike(500, 1):
            pulled.append(row.number)
            yield row

    async def call(row: Row) -> Answer:
        await asyncio.sleep(1)
        ahead.append(len(pulled))
        if len(ahead) == 1:
            raise Flaky()  # the leader's retry is not held up
        return Answer({})

    done = finished(run(500, call, source=source(), cache=Keyed(), workers=4))
    assert ahead == [6, 6]
    assert {r.status for r in done.values()} == {"ok"}
    assert len(done) == 500


def test_samples_are_asked_singly() -> None:
    asked: list[int] = []

    async def call(row: Row) -> Answer:
        asked.append(row.number)
        return Answer({})

    samples = (Row(i, 0, i, {"kind": 0}) for i in range(5))
    run(5, call, source=samples, cache=Keyed())
    assert sorted(asked) == [0, 1, 2, 3, 4]
