"""`rpm`, `tpm` and `Retry-After` on a virtual clock."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.limit_simulation import Sim, TooMany

from pardspy_nb.core.events import (
    Answer,
    Row,
)
from pardspy_nb.core.usage import Usage
from pardspy_nb.engine.protocols import Limiter
from pardspy_nb.engine.rate_limiter import RateLimiter
from pardspy_nb.llm.retry_after import parse_retry_after


def most_in_any_window(times: list[float], amounts: list[float], window_s: float) -> float:
    most, first, held = 0.0, 0, 0.0
    for last, at in enumerate(times):
        held += amounts[last]
        while at - times[first] >= window_s:
            held -= amounts[first]
            first += 1
        most = max(most, held)
    return most


WINDOWS = (0.05, 0.5, 1, 7, 60)


@settings(max_examples=12, deadline=None)
@given(st.integers(90, 6000), st.integers(1, 500), st.floats(0.01, 4))
def test_rpm_is_kept_in_any_window_and_used(rpm: int, workers: int, latency_s: float) -> None:
    """At most the window's share and one second's worth, and 97 % of what the workers allow."""
    sent: list[float] = []

    async def ask(row: Row) -> Answer:
        sent.append(asyncio.get_running_loop().time())
        await asyncio.sleep(latency_s)
        return Answer({})

    n = 400
    Sim().run(n, ask, workers=workers, limiters=[RateLimiter(rpm, None, lambda _: 1)])
    for window_s in WINDOWS:
        most = most_in_any_window(sent, [1.0] * n, window_s)
        assert most <= rpm / 60 * window_s + max(1, rpm / 60)
    by_limit, by_workers = (n - 1) / (rpm / 60), (n / workers - 1) * latency_s
    assert sent[-1] <= max(by_limit, by_workers) / 0.97 + latency_s


@settings(max_examples=8, deadline=None)
@given(st.integers(60_000, 600_000), st.integers(0, 2**30))
def test_tpm_is_kept_though_tokens_are_known_afterwards(tpm: int, seed: int) -> None:
    rng = random.Random(seed)
    length = [rng.randint(100, 300) for _ in range(400)]
    answer = [rng.randint(10, 100) for _ in range(400)]
    sent: list[float] = []
    tokens: list[float] = []

    async def ask(row: Row) -> Answer:
        prompt, completion = length[row.number] // 4, answer[row.number]
        sent.append(asyncio.get_running_loop().time())
        tokens.append(prompt + completion)
        await asyncio.sleep(1)
        return Answer({}, Usage(prompt, completion, prompt + completion))

    gate = RateLimiter(None, tpm, lambda row: length[row.number])
    Sim().run(400, ask, limiters=[gate])
    for window_s in WINDOWS:
        most = most_in_any_window(sent, tokens, window_s)
        unforeseen = max(answer)  # until an answer of the longest kind has been seen
        assert most <= tpm / 60 * window_s + max(tpm / 60, max(tokens)) + unforeseen
    # the first answer is waited for, and what the last ones did not take comes back too late
    assert sent[-1] <= sum(tokens) / (tpm / 60) / 0.97 + 4


def test_retry_after_holds_the_whole_run_and_not_the_row_alone() -> None:
    sent: list[tuple[float, int]] = []

    async def ask(row: Row) -> Answer:
        now = asyncio.get_running_loop().time()
        sent.append((now, row.number))
        await asyncio.sleep(0.1)
        if row.number == 3 and now < 1:
            raise TooMany(retry_after_s=5)
        return Answer({})

    done = Sim().run(40, ask, workers=2, limiters=[RateLimiter(None, None, lambda _: 1)])
    assert {r.status for r in done.values()} == {"ok"}
    assert not [s for s in sent if 0.2 + 1e-9 < s[0] < 5.2 - 1e-9], "nobody asks meanwhile"
    assert len([s for s in sent if s[0] >= 5.2 - 1e-9]) == 36, "the rest, and row 3 again"
    held = [r for r in done.values() if r.waited_ms and r.row.number != 3]
    assert [round(r.waited_ms or 0) for r in held] == [5000], "the row at the gate says so"


def test_the_first_limits_heard_count_what_was_sent_before() -> None:
    """500 rows are on their way when the first answer tells that 600 a minute are allowed."""
    sent: list[float] = []
    gate = RateLimiter(None, None, lambda _: 1)

    async def ask(row: Row) -> Answer:
        sent.append(asyncio.get_running_loop().time())
        await asyncio.sleep(1)
        gate.hear({"x-ratelimit-limit-requests": "600"})
        return Answer({})

    Sim().run(1000, ask, limiters=[gate])
    later = [at for at in sent if at > 1]
    assert min(later) == pytest.approx(50, abs=1), "500 are 50 seconds' worth"
    assert most_in_any_window(later, [1.0] * len(later), 10) <= 110


def test_limits_that_change_on_the_way_change_the_pace_and_nothing_else() -> None:
    sent: list[float] = []
    gate = RateLimiter(None, None, lambda _: 1)

    async def ask(row: Row) -> Answer:
        now = asyncio.get_running_loop().time()
        sent.append(now)
        gate.hear({"x-ratelimit-limit-requests": "6000" if now < 20 else "3000"})
        await asyncio.sleep(0.1)
        return Answer({})

    Sim().run(4000, ask, workers=50, limiters=[gate])
    assert max(b - a for a, b in itertools.pairwise(sent)) < 1
    assert sent[-1] == pytest.approx(20 + 2000 / 50, abs=2)


def test_an_endpoint_that_tells_no_usage_is_not_asked_one_by_one() -> None:
    async def ask(row: Row) -> Answer:
        await asyncio.sleep(1)
        return Answer({})

    sim = Sim()
    sim.run(200, ask, workers=20, limiters=[RateLimiter(None, 10_000_000, lambda _: 400)])
    assert sim.end.elapsed_s <= 13


@pytest.mark.parametrize("asked", ["inf", "nan", "1e999", "-3", "soon"])
def test_a_retry_after_that_is_no_time_does_not_hold_the_run(asked: str) -> None:
    error = TooMany(parse_retry_after({"retry-after": asked}))

    async def ask(row: Row) -> Answer:
        await asyncio.sleep(1)
        if row.number == 2 and asyncio.get_running_loop().time() < 2:
            raise error
        return Answer({})

    sim = Sim()
    sim.run(20, ask, workers=4, limiters=[RateLimiter(None, None, lambda _: 1)])
    assert sim.end.elapsed_s < 8
    gate = RateLimiter(None, None, lambda _: 1)
    gate.leave(Row(0, 0, 0, {}), TooMany(math.inf), 0.0)
    assert gate.wait_s(Row(0, 0, 0, {}), 1.0) == 0


def test_a_gate_that_waits_for_nobody_ends_the_run_as_an_error() -> None:
    class Shut(Limiter):
        def wait_s(self, row: Row, now: float) -> float:
            return math.inf

        def enter(self, row: Row, now: float) -> None: ...

        def leave(self, row: Row, outcome: Any, now: float) -> None: ...

    async def ask(row: Row) -> Answer:
        raise AssertionError

    sim = Sim()
    sim.run(3, ask, limiters=[Shut()])
    assert (sim.end.reason, type(sim.end.error)) == ("crashed", RuntimeError)


def test_a_limit_that_proves_wrong_is_dropped() -> None:
    """A gateway's limit of 5 a second reads like 5 a minute until it is whole again."""
    limiter = RateLimiter(None, None, lambda _: 1)
    headers = {"x-ratelimit-api_key-limit-requests": "5"}

    async def ask(row: Row) -> Answer:
        await asyncio.sleep(0.1)
        limiter.hear(headers | {"x-ratelimit-api_key-remaining-requests": "4"})
        return Answer({})

    sim = Sim()
    sim.run(30, ask, workers=1, limiters=[limiter])
    assert sim.end.elapsed_s < 20, "30 rows were six minutes at 5 a minute"
