"""The accumulated state on a clock of our own, and the panel's figures drawn from it."""

from __future__ import annotations

import enum
import re
from typing import Any

import pandas as pd
import pytest

import pardspy_nb as pn
from pardspy_nb.core.error_groups import ErrorGroups
from pardspy_nb.core.errors import RateLimitError, UnreachableError
from pardspy_nb.core.events import (
    Answer,
    AttemptFailed,
    Event,
    Origin,
    Preparing,
    Row,
    RowFinished,
    RowStarted,
    RunFinished,
    RunStarted,
    SettingsChanged,
)
from pardspy_nb.core.usage import Usage
from pardspy_nb.display import html, pictures
from pardspy_nb.display.bar import postfix
from pardspy_nb.display.live_html import body_html, head_html, live_figures, title_text
from pardspy_nb.display.progress import RunProgress

LABELS = {"sentiment": ["good", "bad"]}


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def progress(clock: Clock) -> RunProgress:
    state = RunProgress(10, LABELS, index=list("abcdefghij"), clock=clock)
    add(state, RunStarted(10, 0.0), steered())
    return state


def add(state: RunProgress, *events: Event) -> None:
    for event in events:
        state.add(event)


def steered(
    workers: int = 4, *, paused: bool = False, stopping: str | None = None
) -> SettingsChanged:
    return SettingsChanged(workers, paused, False, stopping)


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


def figures(state: RunProgress) -> dict[str, str]:
    return dict(live_figures(state))


def test_counts_add_up_at_every_step(progress: RunProgress, clock: Clock) -> None:
    clock.now = 2.0
    add(progress, started(0), started(1), started(2), started(3), ok(4, cached=True))
    assert (progress.in_flight, progress.done, progress.cached, progress.waiting) == (4, 1, 1, 5)
    add(progress, ok(0), AttemptFailed(row(1), 1, ValueError("x"), 1.0, 0.5))
    assert (progress.in_flight, progress.done, progress.backing_off, progress.waiting) == (
        2,
        2,
        1,
        6,
    )
    add(progress, started(1, 2), ended(2, "failed", ValueError("no")), ended(3, "cancelled"))
    assert (progress.in_flight, progress.backing_off, progress.failed, progress.cancelled) == (
        1,
        0,
        1,
        1,
    )
    shown = figures(progress)
    assert (shown["done"], shown["running"], shown["waiting"]) == ("4", "1", "5")
    assert (shown["failed"], shown["cached"], shown["workers"]) == ("1", "1", "4")
    metrics = progress.metrics()
    assert (metrics.successes, metrics.cached, metrics.not_run) == (2, 1, 5)


def test_a_row_cancelled_while_it_backs_off_was_not_in_flight(progress: RunProgress) -> None:
    failed = AttemptFailed(row(0), 1, ValueError("x"), 1.0, 9.0)
    add(progress, started(0), started(1), failed, ended(0, "cancelled"))
    assert (progress.in_flight, progress.backing_off) == (1, 0)


def test_rows_that_shared_anothers_end_were_not_in_flight(progress: RunProgress) -> None:
    error = ValueError("no")
    add(progress, started(0), ended(0, "failed", error), ended(1, "failed", error, attempts=0))
    add(progress, started(2), ended(2, "cancelled"), ended(3, "cancelled", attempts=0))
    assert (progress.in_flight, progress.failed, progress.cancelled) == (0, 2, 2)


def test_what_was_saved_and_the_limit_are_shown(clock: Clock) -> None:
    progress = RunProgress(10, clock=clock, max_cost_usd=2.0)
    add(progress, started(0), ok(0))
    assert (figures(progress)["cost"], "saved" in figures(progress)) == ("$0.5 of $2.00", False)
    add(progress, ok(1, cached=True), ok(2, cached=True))
    assert figures(progress)["saved"] == "$0.5"
    assert progress.metrics().saved == Usage(20, 10, 30, 0.5)


def test_labels_are_counted_with_zeros_also_where_they_are_an_enum(progress: RunProgress) -> None:
    label = enum.Enum("Mood", {"GOOD": "good", "BAD": "bad"})  # type: ignore[misc]
    assert dict(progress.counts["sentiment"]) == {"good": 0, "bad": 0}
    add(progress, started(0), ok(0, label["GOOD"]), started(1), ok(1, "good"))
    assert dict(progress.counts["sentiment"]) == {"good": 2, "bad": 0}


def test_the_rate_is_that_of_the_last_quarter_of_a_minute(
    progress: RunProgress, clock: Clock
) -> None:
    for i in range(4):  # one row a second
        clock.now += 1.0
        add(progress, started(i), ok(i))
    assert progress.recent_rows_per_s == 1.0
    assert progress.eta_s == 6.0
    clock.now = 19.0  # then nothing
    assert progress.recent_rows_per_s == 0.0
    assert progress.eta_s is None
    assert progress.rows_per_s == 4 / 19


def test_a_pause_says_nothing_about_the_time_left(progress: RunProgress, clock: Clock) -> None:
    clock.now = 1.0
    add(progress, started(0), ok(0), steered(paused=True))
    assert title_text(progress) == "Paused: 1 of 10 rows (10%)"
    assert figures(progress)["time left"] == "–"
    clock.now = 100.0
    add(progress, steered())
    clock.now = 101.0
    add(progress, started(1), ok(1), started(2), ok(2))
    assert progress.recent_rows_per_s == 1.5, "three rows in the two seconds without the pause"
    assert figures(progress)["time left"] == "4.7 s"


def test_no_time_left_is_shown_once_the_last_rows_are_overdue(
    progress: RunProgress, clock: Clock
) -> None:
    for i in range(9):  # ten rows a second, then one that takes its time
        clock.now += 0.1
        add(progress, started(i), ok(i))
    add(progress, started(9))
    assert figures(progress)["time left"] == "100 ms"
    clock.now += 1.0
    assert figures(progress)["time left"] == "–"


def test_cached_and_cancelled_rows_are_no_speed(progress: RunProgress, clock: Clock) -> None:
    clock.now = 2.0
    add(progress, ok(0, cached=True), ok(1, cached=True), started(2), ended(2, "cancelled"))
    assert (progress.rows_per_s, progress.recent_rows_per_s) == (0.0, 0.0)
    add(progress, started(3), ok(3), started(4), ended(4, "failed", ValueError("x")))
    assert (progress.rows_per_s, progress.recent_rows_per_s) == (1.0, 1.0)


def test_cost_is_projected_from_the_rows_that_were_paid_for(progress: RunProgress) -> None:
    assert progress.projected_cost_usd is None
    add(progress, ok(0, cached=True), started(1), ok(1), started(2), ok(2))
    assert progress.usage is not None
    assert progress.usage.cost_usd == 1.0
    assert progress.projected_cost_usd == 1.0 + 0.5 * 7
    shown = figures(progress)
    assert (shown["cost"], shown["cost at end"], shown["tokens"]) == ("$1.00", "$4.50", "30")


def test_cached_rows_have_no_latency(progress: RunProgress) -> None:
    add(progress, ok(0, cached=True), started(1), ok(1, ms=250.0))
    assert list(progress.latencies_ms) == [250.0]
    assert figures(progress)["p50"] == "250 ms"


def test_many_latencies_are_shown_by_an_even_sample(progress: RunProgress) -> None:
    progress.latencies_ms.extend(range(100_000))
    shown = progress.shown_latencies_ms()
    assert 15_000 < len(shown) <= 20_000
    assert sum(shown) / len(shown) == pytest.approx(50_000, rel=0.01)


def test_the_title_says_what_the_run_does(progress: RunProgress) -> None:
    assert title_text(RunProgress(10)) == "Starting"
    assert title_text(progress) == "Running: 0 of 10 rows (0%)"
    add(progress, started(0), steered(paused=True))
    assert title_text(progress) == "Paused: 0 of 10 rows (0%), rows in flight finish"
    add(progress, steered(stopping="cancelled"))
    assert title_text(progress) == "Cancelling: 0 of 10 rows (0%)"
    add(progress, RunFinished("cancelled", None, 1.0, 1, 0.0))
    assert title_text(progress) == "Finishing: 0 of 10 rows (0%)"


def test_failures_are_grouped_and_named_by_the_input_s_index(progress: RunProgress) -> None:
    for i, text in enumerate(["took 12 tokens", "took 99 tokens", "no <b>'x'</b>"]):
        add(progress, started(i), ended(i, "failed", ValueError(text)))
    groups = [tuple(g) for g in progress.failures.largest_first()]
    assert groups == [
        ("ValueError", 2, "a", "took 12 tokens", ("a", "b")),
        ("ValueError", 1, "c", "no <b>'x'</b>", ("c",)),
    ]
    shown = html.error_list(progress.failures.largest_first())
    assert "<details" in shown
    assert "rows a, b" in shown
    assert "2 × ValueError" in shown
    assert "&lt;b&gt;" in shown
    assert "<b>'x'" not in shown
    assert "df.parallel.row(&#x27;a&#x27;)" in shown
    many = ErrorGroups()
    for i in range(40):
        many.add("ValueError", f"took {i} tokens", i)
    assert "and 28 more" in html.error_list(many.largest_first())
    assert many.largest_first()[0].labels == tuple(range(12))


def test_what_is_shown_of_the_run_over_time(progress: RunProgress, clock: Clock) -> None:
    for _ in range(2000):
        clock.now += 0.25
        add(progress, started(0), ok(0))
    assert len(progress.history) <= 121
    assert progress.history[-1][1] > 1900
    shown = body_html(progress, "")
    assert "rows a second over time, 4" in shown
    assert "line: workers" in shown
    slow = [10.0] * 99 + [4000.0] * 3
    assert "logarithmic axis" in pictures.histogram(slow)
    assert "logarithmic" not in pictures.histogram(slow[:99])


def test_the_cost_is_shown_against_the_budget() -> None:
    state = RunProgress(10, max_cost_usd=1.0)
    add(state, RunStarted(10, 0.0))
    state.usage = pn.Usage(1, 1, 2, 0.95, 1.0)
    shown = head_html(state)
    assert 'role="meter"' in shown
    assert 'aria-valuenow="95"' in shown
    assert "$0.95 of max_cost_usd=$1.00" in shown


def test_labels_open_to_rows_that_have_them(mixed: pd.DataFrame) -> None:
    shown = mixed.parallel.summary()._repr_html_()
    assert "<details><summary>positive</summary>" in shown
    assert "<details><summary>row 2</summary>" in shown  # the story of a row that failed
    assert "[input review] row-2" in shown
    assert "[attempt 1 failed] BadRequestError" in shown
    assert len(shown) < 20_000


def test_error_groups_stay_bounded_and_lose_no_row() -> None:
    groups = ErrorGroups()
    for i in range(1000):
        groups.add("E", "".join(chr(97 + int(d)) for d in str(i)), i)
    found = groups.largest_first()
    assert len(found) <= 51
    assert sum(g.rows for g in found) == 1000


def test_the_panel_is_readable_without_seeing_it(progress: RunProgress) -> None:
    """Numbers are text; the bar and the histogram say theirs in words."""
    add(progress, started(0), ok(0), started(1), ended(1, "failed", ValueError("x")))
    head, body = head_html(progress), body_html(progress, "use ■")
    assert 'role="progressbar"' in head
    assert 'aria-valuetext="Running: 2 of 10 rows (20%)"' in head
    assert 'role="img" aria-label="Latency histogram of 1 calls: p50 100 ms' in body
    assert "use ■" in body
    assert "<script" not in head + body


def test_a_stream_has_no_total_and_so_no_end_in_sight(clock: Clock) -> None:
    state = RunProgress(None, clock=clock)
    add(state, RunStarted(None, 0.0), steered())
    clock.now = 1.0
    add(state, started(0), ok(0))
    assert title_text(state) == "Running: 1 rows"
    assert (state.waiting, state.eta_s, state.projected_cost_usd) == (None, None, None)
    assert figures(state)["waiting"] == "–"


def test_bar_and_panel_say_what_is_waited_for(progress: RunProgress, clock: Clock) -> None:
    limit, down = RateLimitError("HTTP 429: slow down"), UnreachableError("nobody listens")
    limit.status_code = 429
    add(progress, RowStarted(row(0), 1), AttemptFailed(row(0), 1, limit, 5.0, 30.0))
    add(progress, RowStarted(row(1), 1), AttemptFailed(row(1), 1, limit, 5.0, 10.0))
    words = r"the endpoint limits requests \(HTTP 429\): waits until \d\d:\d\d:\d\d, 30 s more"
    assert re.search(words, head_html(progress))
    assert re.search(words, postfix(progress))
    clock.now = 31.0
    assert progress.waits_for is None
    assert "waits" not in head_html(progress) + postfix(progress)
    add(progress, RowStarted(row(1), 2), AttemptFailed(row(1), 2, down, 5.0, 5.0))
    assert "the endpoint is out of reach: waits until" in head_html(progress)
    add(progress, RowStarted(row(0), 2), RowStarted(row(1), 3))
    assert progress.waits_for is None, "nobody waits any more"


def test_bar_and_panel_say_what_is_prepared(clock: Clock) -> None:
    """Until the run begins; a pause is shown meanwhile, too."""
    state = RunProgress(3, clock=clock)
    assert title_text(state) == "Starting"
    add(state, Preparing("Starting the embedded model"))
    assert title_text(state) == postfix(state) == "Starting the embedded model"
    add(state, steered(paused=True))
    assert title_text(state) == "Starting the embedded model; paused"
    clock.now = 5.0
    add(state, RunStarted(3, 0.0), steered())
    assert "embedded" not in title_text(state) + postfix(state)
    clock.now = 6.0
    add(state, started(0), ok(0))
    assert state.rows_per_s == 1.0
