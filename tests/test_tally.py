"""The accumulated state on a clock of our own, and the panel's figures drawn from it."""

from __future__ import annotations

import enum
from typing import Any

import pytest

from pardspy_nb.core.error_groups import ErrorGroups
from pardspy_nb.core.events import (
    Answer,
    AttemptFailed,
    Event,
    Origin,
    Row,
    RowFinished,
    RowStarted,
    RunFinished,
    RunStarted,
    RunSteered,
)
from pardspy_nb.core.usage import Usage
from pardspy_nb.display.panel import body_html, head_html, live_figures, title_text
from pardspy_nb.display.progress import Tally

LABELS = {"sentiment": ["good", "bad"]}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def tally(clock: Clock) -> Tally:
    state = Tally(10, LABELS, index=list("abcdefghij"), clock=clock)
    add(state, RunStarted(10, 0.0), steered())
    return state


def add(state: Tally, *events: Event) -> None:
    for event in events:
        state.add(event)


def steered(workers: int = 4, *, paused: bool = False, stopping: str | None = None) -> RunSteered:
    return RunSteered(workers, paused, False, stopping)


def row(i: int) -> Row:
    return Row(i, i, 0, {})


def started(i: int, attempt: int = 1) -> RowStarted:
    return RowStarted(row(i), attempt)


def ok(i: int, label: Any = "good", ms: float = 100.0, *, cached: bool = False) -> RowFinished:
    usage = Usage() if cached else Usage(10, 5, 15, 0.5, ms)
    origin = Origin(Usage(10, 5, 15, 0.25), "source", 0.0) if cached else None
    answer = Answer({"sentiment": label}, usage, origin=origin)
    attempts, time = (0, None) if cached else (1, ms)
    return RowFinished(row(i), "ok", answer, None, attempts, time, time, time, None, usage)


def ended(i: int, status: Any, error: Exception | None = None, attempts: int = 1) -> RowFinished:
    return RowFinished(row(i), status, None, error, attempts, 1.0, 0.0, 0.0, 0.0, None)


def figures(state: Tally) -> dict[str, str]:
    return dict(live_figures(state))


def test_counts_add_up_at_every_step(tally: Tally, clock: Clock) -> None:
    clock.now = 2.0
    add(tally, started(0), started(1), started(2), started(3), ok(4, cached=True))
    assert (tally.in_flight, tally.done, tally.cached, tally.waiting) == (4, 1, 1, 5)
    add(tally, ok(0), AttemptFailed(row(1), 1, ValueError("x"), 1.0, 0.5))
    assert (tally.in_flight, tally.done, tally.backing_off, tally.waiting) == (2, 2, 1, 6)
    add(tally, started(1, 2), ended(2, "failed", ValueError("no")), ended(3, "cancelled"))
    assert (tally.in_flight, tally.backing_off, tally.failed, tally.cancelled) == (1, 0, 1, 1)
    shown = figures(tally)
    assert (shown["done"], shown["running"], shown["waiting"]) == ("4", "1", "5")
    assert (shown["failed"], shown["cached"], shown["workers"]) == ("1", "1", "4")
    metrics = tally.metrics()
    assert (metrics.successes, metrics.cached, metrics.not_run) == (2, 1, 5)


def test_a_row_cancelled_while_it_backs_off_was_not_in_flight(tally: Tally) -> None:
    failed = AttemptFailed(row(0), 1, ValueError("x"), 1.0, 9.0)
    add(tally, started(0), started(1), failed, ended(0, "cancelled"))
    assert (tally.in_flight, tally.backing_off) == (1, 0)


def test_rows_that_shared_anothers_end_were_not_in_flight(tally: Tally) -> None:
    error = ValueError("no")
    add(tally, started(0), ended(0, "failed", error), ended(1, "failed", error, attempts=0))
    add(tally, started(2), ended(2, "cancelled"), ended(3, "cancelled", attempts=0))
    assert (tally.in_flight, tally.failed, tally.cancelled) == (0, 2, 2)


def test_what_was_saved_and_the_limit_are_shown(clock: Clock) -> None:
    tally = Tally(10, clock=clock, max_cost_usd=2.0)
    add(tally, started(0), ok(0))
    assert (figures(tally)["cost"], "saved" in figures(tally)) == ("$0.5 of $2.00", False)
    add(tally, ok(1, cached=True), ok(2, cached=True))
    assert figures(tally)["saved"] == "$0.5"
    assert tally.metrics().saved == Usage(20, 10, 30, 0.5)


def test_labels_are_counted_with_zeros_also_where_they_are_an_enum(tally: Tally) -> None:
    label = enum.Enum("Mood", {"GOOD": "good", "BAD": "bad"})  # type: ignore[misc]
    assert dict(tally.counts["sentiment"]) == {"good": 0, "bad": 0}
    add(tally, started(0), ok(0, label["GOOD"]), started(1), ok(1, "good"))
    assert dict(tally.counts["sentiment"]) == {"good": 2, "bad": 0}


def test_the_rate_is_that_of_the_last_quarter_of_a_minute(tally: Tally, clock: Clock) -> None:
    for i in range(4):  # one row a second
        clock.now += 1.0
        add(tally, started(i), ok(i))
    assert tally.recent_rows_per_s == 1.0
    assert tally.eta_s == 6.0
    clock.now = 19.0  # then nothing
    assert tally.recent_rows_per_s == 0.0
    assert tally.eta_s is None
    assert tally.rows_per_s == 4 / 19


def test_a_pause_says_nothing_about_the_time_left(tally: Tally, clock: Clock) -> None:
    clock.now = 1.0
    add(tally, started(0), ok(0), steered(paused=True))
    assert title_text(tally) == "Paused: 1 of 10 rows (10%)"
    assert figures(tally)["time left"] == "–"
    clock.now = 100.0
    add(tally, steered())
    clock.now = 101.0
    add(tally, started(1), ok(1), started(2), ok(2))
    assert tally.recent_rows_per_s == 1.5, "three rows in the two seconds without the pause"
    assert figures(tally)["time left"] == "4.7 s"


def test_no_time_left_is_shown_once_the_last_rows_are_overdue(tally: Tally, clock: Clock) -> None:
    for i in range(9):  # ten rows a second, then one that takes its time
        clock.now += 0.1
        add(tally, started(i), ok(i))
    add(tally, started(9))
    assert figures(tally)["time left"] == "100 ms"
    clock.now += 1.0
    assert figures(tally)["time left"] == "–"


def test_cached_and_cancelled_rows_are_no_speed(tally: Tally, clock: Clock) -> None:
    clock.now = 2.0
    add(tally, ok(0, cached=True), ok(1, cached=True), started(2), ended(2, "cancelled"))
    assert (tally.rows_per_s, tally.recent_rows_per_s) == (0.0, 0.0)
    add(tally, started(3), ok(3), started(4), ended(4, "failed", ValueError("x")))
    assert (tally.rows_per_s, tally.recent_rows_per_s) == (1.0, 1.0)


def test_cost_is_projected_from_the_rows_that_were_paid_for(tally: Tally) -> None:
    assert tally.projected_cost_usd is None
    add(tally, ok(0, cached=True), started(1), ok(1), started(2), ok(2))
    assert tally.usage is not None
    assert tally.usage.cost_usd == 1.0
    assert tally.projected_cost_usd == 1.0 + 0.5 * 7
    shown = figures(tally)
    assert (shown["cost"], shown["cost at end"], shown["tokens"]) == ("$1.00", "$4.50", "30")


def test_cached_rows_have_no_latency(tally: Tally) -> None:
    add(tally, ok(0, cached=True), started(1), ok(1, ms=250.0))
    assert list(tally.latencies_ms) == [250.0]
    assert figures(tally)["p50"] == "250 ms"


def test_many_latencies_are_shown_by_an_even_sample(tally: Tally) -> None:
    tally.latencies_ms.extend(range(100_000))
    shown = tally.shown_latencies_ms()
    assert 15_000 < len(shown) <= 20_000
    assert sum(shown) / len(shown) == pytest.approx(50_000, rel=0.01)


def test_the_title_says_what_the_run_does(tally: Tally) -> None:
    assert title_text(Tally(10)) == "Starting"
    assert title_text(tally) == "Running: 0 of 10 rows (0%)"
    add(tally, started(0), steered(paused=True))
    assert title_text(tally) == "Paused: 0 of 10 rows (0%), rows in flight finish"
    add(tally, steered(stopping="cancelled"))
    assert title_text(tally) == "Cancelling: 0 of 10 rows (0%)"
    add(tally, RunFinished("cancelled", None, 1.0, 1, 0.0))
    assert title_text(tally) == "Finishing: 0 of 10 rows (0%)"


def test_failures_are_grouped_and_named_by_the_input_s_index(tally: Tally) -> None:
    for i, text in enumerate(["took 12 tokens", "took 99 tokens", "no <b>'x'</b>"]):
        add(tally, started(i), ended(i, "failed", ValueError(text)))
    groups = [tuple(g) for g in tally.failures.largest_first()]
    assert groups == [
        ("ValueError", 2, "a", "took 12 tokens"),
        ("ValueError", 1, "c", "no <b>'x'</b>"),
    ]
    html = body_html(tally, "")
    assert "2 × ValueError" in html
    assert "&lt;b&gt;" in html
    assert "<b>'x'" not in html


def test_error_groups_stay_bounded_and_lose_no_row() -> None:
    groups = ErrorGroups()
    for i in range(1000):
        groups.add("E", "".join(chr(97 + int(d)) for d in str(i)), i)
    found = groups.largest_first()
    assert len(found) <= 51
    assert sum(g.rows for g in found) == 1000


def test_the_panel_is_readable_without_seeing_it(tally: Tally) -> None:
    """Numbers are text; the bar and the histogram say theirs in words."""
    add(tally, started(0), ok(0), started(1), ended(1, "failed", ValueError("x")))
    head, body = head_html(tally), body_html(tally, "use ■")
    assert 'role="progressbar"' in head
    assert 'aria-valuetext="Running: 2 of 10 rows (20%)"' in head
    assert 'role="img" aria-label="Latency histogram of 1 calls: p50 100 ms' in body
    assert "use ■" in body
    assert "<script" not in head + body


def test_a_stream_has_no_total_and_so_no_end_in_sight(clock: Clock) -> None:
    state = Tally(None, clock=clock)
    add(state, RunStarted(None, 0.0), steered())
    clock.now = 1.0
    add(state, started(0), ok(0))
    assert title_text(state) == "Running: 1 rows"
    assert (state.waiting, state.eta_s, state.projected_cost_usd) == (None, None, None)
    assert figures(state)["waiting"] == "–"
