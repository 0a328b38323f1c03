"""Limits on a virtual clock: `rpm` and `tpm`, `Retry-After`, adaptive workers, hedging."""

from __future__ import annotations

import asyncio
import itertools
import math
import random
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pardspy_nb.core.events import (
    Answer,
    AttemptFailed,
    AttemptLost,
    Event,
    Row,
    RowFinished,
    RowStarted,
    RunFinished,
)
from pardspy_nb.core.usage import Usage
from pardspy_nb.engine.adaptive_concurrency import AdaptiveConcurrency
from pardspy_nb.engine.config import EngineConfig
from pardspy_nb.engine.engine import Engine
from pardspy_nb.engine.policies import FailurePolicy, HedgePolicy, RetryPolicy
from pardspy_nb.engine.protocols import Limiter
from pardspy_nb.engine.rate_limit_headers import Limits, limits_of, seconds_of
from pardspy_nb.engine.rate_limiter import RateLimiter
from pardspy_nb.llm.endpoint import parse_retry_after
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


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"x-ratelimit-limit-requests": "500"}, Limits(500, None)),
        (
            {
                "x-ratelimit-limit-requests": "60",
                "x-ratelimit-remaining-requests": "59",
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-limit-tokens": "150000",
                "x-ratelimit-remaining-tokens": "149984",
                "x-ratelimit-reset-tokens": "6ms",
            },
            Limits(60, 150000),
        ),  # OpenAI's guide
        (
            {
                "x-ratelimit-limit-requests": "14400",
                "x-ratelimit-remaining-requests": "14370",
                "x-ratelimit-reset-requests": "2m59.56s",
                "x-ratelimit-limit-tokens": "18000",
                "x-ratelimit-remaining-tokens": "17997",
                "x-ratelimit-reset-tokens": "7.66ms",
            },
            Limits(None, 18000),
        ),  # Groq counts requests by the day
        ({"x-ratelimit-limit-requests": "many"}, None),
        ({"x-ratelimit-limit-tokens": "0"}, None),
        ({"x-ratelimit-limit-tokens": "inf"}, None),
        (
            {
                "x-ratelimit-limit-requests": "0",
                "x-ratelimit-remaining-requests": "-1",
                "x-ratelimit-reset-requests": "1s",
            },
            None,
        ),
    ],
)
def test_limits_are_read_from_response_headers(
    headers: dict[str, str], expected: Limits | None
) -> None:
    assert limits_of(headers) == expected


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("6m0s", 360), ("120ms", 0.12), ("1.5s", 1.5), ("7", 7), ("1d2h", 93600), ("soon", None)],
)
def test_durations_of_headers(text: str, seconds: float | None) -> None:
    assert seconds_of(text) == (None if seconds is None else pytest.approx(seconds))


# -- adaptive workers -----------------------------------------------------------------------------


class Slots:
    """An endpoint that lets so many in at a time, and refuses the others at once."""

    def __init__(self, slots: int, spread: float, network_s: float) -> None:
        self.slots, self.spread, self.network_s = slots, spread, network_s
        self.inside = self.refused = 0
        self.rng = random.Random(slots)

    async def __call__(self, row: Row) -> Answer:
        if self.network_s:
            await asyncio.sleep(self.network_s)
        if self.inside >= self.slots:
            self.refused += 1
            raise TooMany()
        self.inside += 1
        await asyncio.sleep(self.rng.uniform(1 - self.spread, 1 + self.spread))
        self.inside -= 1
        return Answer({})


@pytest.mark.parametrize("spread", [0.0, 0.3, 0.9])
@pytest.mark.parametrize(("slots", "network_s"), [(5, 0.01), (24, 0.0), (24, 0.1), (100, 0.01)])
def test_auto_workers_find_what_an_endpoint_lets_in_without_a_storm(
    slots: int, network_s: float, spread: float
) -> None:
    sim, endpoint = Sim(), Slots(slots, spread, network_s)
    done = sim.run(
        40 * slots,
        endpoint,
        workers=2,
        auto=True,
        attempts=9,
        limiters=[RateLimiter(None, None, lambda _: 1)],
    )
    assert {r.status for r in done.values()} == {"ok"}
    assert endpoint.refused <= slots, "one round trip's worth at most"
    found = [sim.limit_at(sim.end.elapsed_s * (0.5 + k / 250)) for k in range(100)]
    assert all(0.75 * slots <= n <= 1.1 * slots + 1 for n in found)
    assert 0.9 * slots <= sum(found) / 100 <= 1.1 * slots
    assert sim.end.elapsed_s <= 1.5 * 40


@pytest.mark.parametrize("spread", [0.1, 0.3, 0.9])
@pytest.mark.parametrize("slots", [24, 50])
def test_auto_workers_stop_growing_where_more_brings_nothing(slots: int, spread: float) -> None:
    sim, rng = Sim(), random.Random(7)
    served = asyncio.Semaphore(slots)

    async def ask(row: Row) -> Answer:
        async with served:
            await asyncio.sleep(rng.uniform(1 - spread, 1 + spread))
        return Answer({})

    sim.run(60 * slots, ask, workers=2, auto=True)
    assert sim.end.max_in_flight <= 4 * slots
    assert slots <= sim.limit_at(sim.end.elapsed_s) <= 2 * slots
    assert len({sim.limit_at(sim.end.elapsed_s * (0.6 + k / 250)) for k in range(100)}) == 1


def test_a_429_cuts_once_for_all_that_were_sent_before_it() -> None:
    auto = AdaptiveConcurrency(20)
    rows = [Row(i, i, 0, {}) for i in range(40)]
    for row in rows[:20]:
        auto.see(RowStarted(row, 1), 0.0)
    assert auto.see(AttemptFailed(rows[0], 1, TooMany(), 10, 1), 0.1)
    assert auto.limit == 17, "nine tenths of the 19 that were let in"
    auto.see(AttemptFailed(rows[1], 1, TooMany(), 10, 1), 0.2)
    assert auto.limit == 17, "18 are let in yet"
    for row in rows[2:5]:
        auto.see(AttemptFailed(row, 1, TooMany(), 10, 1), 0.3)
    assert auto.limit == 15, "no more than are let in"
    auto.see(RowStarted(rows[20], 1), 0.4)
    auto.see(AttemptFailed(rows[20], 1, TooMany(), 10, 1), 0.5)
    assert auto.limit == 13, "sent after the cut, and refused: another one"


@pytest.mark.parametrize(("latency_s", "storm_s", "most_s"), [(1, 6.0, 185), (5, 0.4, 600)])
def test_a_bad_moment_is_not_remembered_for_long(
    latency_s: float, storm_s: float, most_s: float
) -> None:
    """All that is under way is refused for some seconds, at whatever number there is by then."""

    async def ask(row: Row) -> Answer:
        await asyncio.sleep(latency_s)
        if 40 <= asyncio.get_running_loop().time() < 40 + storm_s:
            raise TooMany()
        return Answer({})

    sim = Sim()
    done = sim.run(12_000 if latency_s == 1 else 8000, ask, workers=2, auto=True, attempts=30)
    assert {r.status for r in done.values()} == {"ok"}
    assert min(limit for at, limit in sim.limits if at >= 40) <= 8
    assert sim.end.elapsed_s <= most_s


def test_trouble_pauses_growth_and_does_not_cut() -> None:
    async def ask(row: Row) -> Answer:
        await asyncio.sleep(1)
        if row.number % 40 == 3 and asyncio.get_running_loop().time() < 60:
            raise Broken()
        return Answer({})

    sim = Sim()
    sim.run(4000, ask, workers=2, auto=True, attempts=9)
    limits = [limit for _, limit in sim.limits]
    assert limits == sorted(limits)
    calm = Sim()

    async def fine(row: Row) -> Answer:
        await asyncio.sleep(1)
        return Answer({})

    calm.run(4000, fine, workers=2, auto=True)
    assert sim.limit_at(30) < calm.limit_at(30) / 2


def test_only_a_run_whose_workers_are_all_busy_lets_them_grow() -> None:
    async def ask(row: Row) -> Answer:
        await asyncio.sleep(1)
        return Answer({})

    sim = Sim()
    sim.run(300, ask, workers=2, auto=True, limiters=[RateLimiter(300, None, lambda _: 1)])
    assert sim.limit_at(sim.end.elapsed_s) <= 10, "five a second of one second each"


# -- hedging --------------------------------------------------------------------------------------


def test_a_slow_request_is_asked_once_more_and_the_first_answer_counts() -> None:
    asked: list[int] = []
    broken_off: list[int] = []

    async def ask(row: Row) -> Answer:
        asked.append(row.number)
        try:
            await asyncio.sleep(30 if row.number == 50 and asked.count(50) == 1 else 1)
        except asyncio.CancelledError:
            broken_off.append(row.number)
            raise
        return Answer({}, Usage(100, 10, 110, 0.5))

    sim = Sim()
    done = sim.run(100, ask, workers=10, hedge=HedgePolicy(0.95))
    assert sim.end.elapsed_s < 12
    assert asked.count(50) == 2
    assert broken_off == [50]
    row = done[50]
    assert (row.status, row.attempts, row.usage.total_tokens) == ("ok", 2, 220)
    assert row.usage.cost_usd == 1.0, "the one broken off counts as much"
    assert row.latency_ms == pytest.approx(1000)
    assert [e.row.number for _, e in sim.events if isinstance(e, AttemptLost)] == [50]
    assert {r.attempts for n, r in done.items() if n != 50} == {1}


def test_duplicates_are_at_most_one_a_row_and_five_percent_of_the_rows() -> None:
    rng = random.Random(3)
    asked: list[int] = []

    async def ask(row: Row) -> Answer:
        asked.append(row.number)
        await asyncio.sleep(20 if rng.random() < 0.3 else 1)
        return Answer({})

    sim = Sim()
    done = sim.run(400, ask, workers=50, hedge=HedgePolicy(0.5))
    assert {r.status for r in done.values()} == {"ok"}
    twice = [n for n in range(400) if asked.count(n) == 2]
    assert max(asked.count(n) for n in range(400)) == 2
    assert 10 <= len(twice) <= 20
    so_far: dict[int, int] = {}
    for n in asked:
        so_far[n] = so_far.get(n, 0) + 1
        assert sum(c - 1 for c in so_far.values()) <= 0.05 * len(so_far)


def test_the_usual_rows_do_not_use_up_the_duplicates() -> None:
    """One in twenty is beyond the 95th percentile by definition; it is the last row that hangs."""
    rng = random.Random(4)
    asked: list[int] = []

    async def ask(row: Row) -> Answer:
        asked.append(row.number)
        hangs = row.number == 380 and asked.count(380) == 1
        await asyncio.sleep(60 if hangs else rng.uniform(0.5, 1.5))
        return Answer({})

    sim = Sim()
    sim.run(400, ask, workers=20, hedge=HedgePolicy(0.95))
    assert asked.count(380) == 2
    assert sim.end.elapsed_s < 25
    assert len(asked) - 400 <= 10, "half of what is allowed"


def test_a_failed_attempt_leaves_its_row_to_the_duplicate() -> None:
    tries: dict[int, int] = {}

    async def ask(row: Row) -> Answer:
        tries[row.number] = tries.get(row.number, 0) + 1
        if row.number == 60:
            await asyncio.sleep(5 if tries[60] == 1 else 8)
            if tries[60] < 3:
                raise Broken()
            return Answer({})
        await asyncio.sleep(1)
        return Answer({})

    sim = Sim()
    done = sim.run(120, ask, workers=10, hedge=HedgePolicy(0.9), attempts=2)
    assert (done[60].status, done[60].attempts) == ("failed", 2) or done[60].status == "ok"
    assert tries[60] == 3, "a duplicate is no attempt of the retry policy's"
    assert done[60].attempts == 3


def test_duplicates_pass_the_gates_and_a_stop_ends_both() -> None:
    inside: list[int] = []

    class Count(Limiter):
        def wait_s(self, row: Row, now: float) -> float:
            return 0.0

        def enter(self, row: Row, now: float) -> None:
            inside.append(row.number)

        def leave(self, row: Row, outcome: Any, now: float) -> None:
            inside.remove(row.number)

    sim = Sim()
    most: list[int] = []

    async def ask(row: Row) -> Answer:
        most.append(inside.count(40))
        await asyncio.sleep(1000 if row.number == 40 else 1)
        return Answer({})

    done = sim.run(
        41, ask, workers=4, hedge=HedgePolicy(0.9), limiters=[Count()], timeout_s=60, attempts=1
    )
    assert max(most) == 2
    assert inside == []
    assert done[40].status == "failed"
    assert sim.end.max_in_flight <= 4, "a duplicate takes a worker"


@pytest.mark.parametrize("fails", [False, True])
def test_a_duplicate_is_let_be_whose_row_ends_before_it_begins(fails: bool) -> None:
    """Row 3's attempt ends in the very turn of the loop in which its duplicate gets a worker."""
    sim = Sim()
    sent: list[int] = []
    sweep_s = next(k * 0.05 for k in range(1, 100) if k * 0.05 > 2.06)

    class Late(HedgePolicy):
        def after_s(self, latencies_s: Any, duplicates: int, rows: int) -> float | None:
            return 2.06 if len(latencies_s) >= 20 else None

    async def ask(row: Row) -> Answer:
        sent.append(row.number)
        if row.number != 3 or sent.count(3) > 1:
            await asyncio.sleep(1)
            return Answer({})
        ended = sim.loop.create_future()
        sim.loop.call_at(sweep_s - 5e-10, ended.set_result, None)
        await ended
        if fails:
            raise TooMany(retry_after_s=5)
        return Answer({})

    done = sim.run(40, ask, workers=50, hedge=Late(0.95))
    assert (done[3].status, done[3].attempts) == ("ok", sent.count(3))
    assert sent.count(3) == (2 if fails else 1)
    assert sum(isinstance(e, RowFinished) for _, e in sim.events) == 40


def test_a_dropped_straggler_is_not_asked_again() -> None:
    sim = Sim()

    async def ask(row: Row) -> Answer:
        await asyncio.sleep(100_000 if row.number in (30, 31) else 1)
        return Answer({})

    def drop(engine: Engine) -> None:
        sim.loop.call_at(60, engine.controls.drop_stragglers)

    done = sim.run(40, ask, workers=2, hedge=HedgePolicy(0.9), control=drop)
    assert sim.end.elapsed_s < 80
    assert [done[n].status for n in (30, 31)] == ["cancelled"] * 2


def test_a_duplicate_that_the_budget_refuses_holds_up_nobody() -> None:
    class Two(Limiter):
        """Two rows' worth; row 25 and its duplicate would be one too many."""

        def __init__(self) -> None:
            self.inside: list[int] = []

        def wait_s(self, row: Row, now: float) -> float:
            dear = row.number in self.inside
            return math.inf if dear or len(self.inside) == 2 else 0.0

        def enter(self, row: Row, now: float) -> None:
            self.inside.append(row.number)

        def leave(self, row: Row, outcome: Any, now: float) -> None:
            self.inside.remove(row.number)

    sim = Sim()

    async def ask(row: Row) -> Answer:
        await asyncio.sleep(50 if row.number == 25 else 1)
        return Answer({})

    done = sim.run(60, ask, workers=4, hedge=HedgePolicy(0.9), limiters=[Two()])
    assert {r.attempts for r in done.values()} == {1}
    assert sim.end.elapsed_s == pytest.approx(25 / 2 + 50, abs=3), "the others go on beside it"


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**30), st.integers(1, 40), st.sampled_from([None, 0.5, 0.9]))
def test_under_any_faults_each_row_ends_once_and_counts_add_up(
    seed: int, workers: int, hedge: float | None
) -> None:
    rng = random.Random(seed)
    started: list[int] = []

    async def ask(row: Row) -> Answer:
        started.append(row.number)
        fate = rng.random()
        await asyncio.sleep(rng.choice([0.1, 1, 1, 1, 10]))
        if fate < 0.05:
            raise TooMany(rng.choice([None, 0.0, 2.0]))
        if fate < 0.1:
            raise Broken()
        if fate < 0.12:
            raise ValueError("no more tries")
        return Answer({"n": row.number}, Usage(1, 1, 2))

    sim = Sim()
    limiters = [RateLimiter(6000, None, lambda _: 1)]
    done = sim.run(
        120,
        ask,
        workers=workers,
        limiters=limiters,
        timeout_s=8,
        hedge=None if hedge is None else HedgePolicy(hedge),
    )
    ends = [e.row.number for _, e in sim.events if isinstance(e, RowFinished)]
    assert sorted(ends) == list(range(120))
    assert {r.status for r in done.values()} <= {"ok", "failed"}
    assert all(r.answer.outputs["n"] == n for n, r in done.items() if r.answer)
    for n, r in done.items():
        assert r.attempts == started.count(n)
    lost = sum(isinstance(e, AttemptLost) for _, e in sim.events)
    assert lost <= 0.05 * 120
