"""What people see: plots, summary, bar, widget."""

from __future__ import annotations

import os
import threading
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import pytest
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn
from pardspy_nb.analysis import plots
from pardspy_nb.core.events import RowFinished, RunFinished, RunStarted, SettingsChanged
from pardspy_nb.display import html
from pardspy_nb.display.bar import postfix
from pardspy_nb.display.panel import Panel
from pardspy_nb.display.progress import RunProgress
from pardspy_nb.display.sinks import Watchers

mpl.use("Agg")
QUIET: dict[str, Any] = {"progress": "none", "store": None}


@pytest.fixture
def mixed(predict: pn.Predict, server: ScriptedServer, reviews: list[str]) -> Any:
    """Twelve rows: row 2 fails with markup in its error, the labels are only two of three."""
    bad = "<script>alert(1)</script>"
    server.script = lambda marker, attempt: (
        Reply("status", code=400, message=bad) if marker == 2 else Reply()
    )
    rows = [r for r in reviews if reviews.index(r) % 3 != 2 or r.startswith("row-2 ")]
    return pn.run_parallel(predict, rows, max_failures=None, **QUIET)


def test_counts_keep_the_declared_order_and_show_zeros(mixed: pd.DataFrame) -> None:
    counts = plots.label_counts(mixed, "sentiment")
    assert list(counts.items()) == [("positive", 4), ("neutral", 4), ("negative", 0)]
    ax = pn.plot_counts(mixed, "sentiment")
    assert [bar.get_height() for bar in ax.patches] == [4, 4, 0]
    with pytest.raises(ValueError, match="no column 'mood'"):
        pn.plot_counts(mixed, "mood")


def test_latency_marks_are_the_quantiles_of_successful_rows(mixed: pd.DataFrame) -> None:
    ok = mixed[mixed["status"] == "ok"]["latency_ms"]
    marks = plots.latency_marks(mixed)
    assert marks == {"p50": ok.quantile(0.5), "p90": ok.quantile(0.9), "p99": ok.quantile(0.99)}
    ax = pn.plot_latency(mixed)
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["ok (8)", "failed (1)"]


def test_rows_in_flight_step_up_and_down_to_zero() -> None:
    start = pd.Timestamp("2026-01-01", tz="UTC")
    df = pd.DataFrame(
        {
            "started_at": [start, start, start + pd.Timedelta(seconds=1)],
            "latency_ms": [1000.0, 3000.0, 1000.0],
            "waited_ms": [0.0, 0.0, 500.0],
            "status": ["ok", "ok", "failed"],
        }
    )
    assert list(plots.in_flight(df).items()) == [(0.0, 2), (1.0, 2), (2.5, 1), (3.0, 0)]


@pytest.mark.parametrize("style", ["default", "dark_background"])
def test_plots_draw_on_the_axes_given_in_the_current_colours(
    mixed: pd.DataFrame, style: str
) -> None:
    with plt.style.context(style):
        _, axes = plt.subplots(3)
        assert mixed.parallel.plot_latency(axes[0]) is axes[0]
        assert mixed.parallel.plot_counts("sentiment", axes[1]) is axes[1]
        assert mixed.parallel.plot_timeline(axes[2]) is axes[2]
        line = axes[0].lines[0].get_color()
        assert line == ("white" if style == "dark_background" else "black")
    plt.close("all")


def test_plots_of_no_rows_are_empty(predict: pn.Predict) -> None:
    df = pn.run_parallel(predict, [], **QUIET)
    for draw in (pn.plot_latency, pn.plot_timeline):
        assert draw(df).get_title(loc="left")
    assert not sum(bar.get_height() for bar in pn.plot_counts(df, "sentiment").patches)
    plt.close("all")


def test_the_summary_groups_errors_and_escapes_them(mixed: pd.DataFrame) -> None:
    summary = mixed.parallel.summary()
    html = summary._repr_html_()
    assert "1 × BadRequestError" in html
    assert "<script" not in html
    assert "&lt;script" in html
    assert len(html) < 20_000
    assert "e.g. row 2" in repr(summary)
    assert list(mixed.parallel.failures["review"]) == ["row-2 is a review"]


def test_an_input_frame_is_no_result(reviews: list[str]) -> None:
    with pytest.raises(ValueError, match=r"df\.parallel\.run"):
        _ = pd.DataFrame({"review": reviews}).parallel.metrics


def test_a_sink_that_raises_is_dropped_with_one_warning_and_the_run_goes_on(
    predict: pn.Predict, reviews: list[str]
) -> None:
    calls: list[Any] = []

    def broken(event: Any) -> None:
        calls.append(event)
        raise RuntimeError("no")

    with pytest.warns(RuntimeWarning, match="the run goes on") as caught:
        df = pn.run_parallel(predict, reviews, progress=broken)
    assert len(caught) == len(calls) == 1
    assert (df["status"] == "ok").all()


def test_the_bar_shows_done_failed_tokens_and_cost(
    predict: pn.Predict, server: ScriptedServer, reviews: list[str], capsys: Any
) -> None:
    server.script = lambda marker, attempt: Reply("status", code=400) if marker == 3 else Reply()
    pn.run_parallel(predict, reviews, max_failures=1, progress="tqdm")
    shown = capsys.readouterr().err
    assert "12/12" in shown
    assert "failed 1, 198 tokens, $" in shown
    progress = RunProgress()
    assert postfix(progress) == ""


class Recorder:
    """Controls that note what was asked of them."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.max_workers = 4

    def pause(self) -> None:
        self.asked.append("pause")

    def resume(self) -> None:
        self.asked.append("resume")

    def drop_stragglers(self) -> None:
        self.asked.append("drop")

    def cancel(self) -> None:
        self.asked.append("cancel")


@pytest.fixture
def handle(monkeypatch: pytest.MonkeyPatch) -> Any:
    """What a display handle was last updated with."""
    from IPython import display as ipython_display

    class Handle:
        final: Any = None

        def update(self, shown: Any) -> None:
            self.final = shown

    handle = Handle()
    monkeypatch.setattr(ipython_display, "display", lambda *a, **k: handle)
    return handle


def test_the_panel_shows_the_state_and_its_buttons_act(handle: Any) -> None:
    controls = Recorder()
    panel = Panel(controls, "background")
    panel.show()
    progress = RunProgress(40)
    for event in (RunStarted(40, 0.0), SettingsChanged(4, False, False, None)):
        progress.add(event)
    panel.update(progress, [])
    assert "Running: 0 of 40 rows" in panel._head.value
    assert panel._pause.description == "Pause"
    assert panel._finish.disabled, "nothing to compare a straggler with yet"

    panel._pause.click()
    progress.add(SettingsChanged(4, True, False, None))
    panel._painted = 0.0
    panel.update(progress, [])
    assert panel._pause.description == "Resume"
    panel._pause.click()
    panel._finish.click()
    panel._cancel.click()
    assert controls.asked == ["pause", "resume", "drop", "cancel"]

    workers = []
    for button in (panel._more, panel._more, panel._fewer, panel._fewer, panel._fewer):
        button.click()
        workers.append(controls.max_workers)
    assert workers == [5, 6, 4, 3, 2]

    progress.add(SettingsChanged(4, False, False, "cancelled"))
    panel._painted = 0.0
    panel.update(progress, [])
    assert panel._pause.disabled
    assert panel._cancel.disabled


def test_a_panel_whose_widgets_were_closed_by_hand_does_not_hurt(handle: Any) -> None:
    panel = Panel(Recorder(), "blocking")
    panel.show()
    for widget in panel._widgets:
        widget.close()
    panel.update(RunProgress(4), [])
    panel.close(RunProgress(4), pn.run_parallel(lambda i: i, [], **QUIET).parallel.summary())


def test_the_panel_repaints_at_its_own_rate_and_closes_for_good(
    handle: Any, mixed: pd.DataFrame
) -> None:
    panel = Panel(Recorder(), "background")
    panel.show()
    progress = RunProgress(4)
    panel.update(progress, [])
    progress.done = 3
    for _ in range(100):
        panel.update(progress, [])
    assert "3 of 4" not in panel._head.value
    summary = mixed.parallel.summary()
    Watchers([panel]).close(progress, summary)
    assert handle.final is summary
    assert all(widget.comm is None for widget in panel._widgets)


def test_the_largest_summary_stays_small(mixed: pd.DataFrame) -> None:
    labels = pd.Categorical([f"label {i} " + "x" * 40 for i in range(8)] * 125)
    many = pd.concat([mixed] * 125, ignore_index=True).iloc[:1000]
    many["sentiment"] = labels
    many["status"] = "failed"
    many["error_type"] = [f"Error{i}" for i in range(1000)]
    many["error"] = "<b>" + "y" * 5000
    html = many.parallel.summary()._repr_html_()
    assert "Error0" in html
    assert len(html.encode()) < 20_000


def test_the_summary_shows_counts_histogram_and_settings(mixed: pd.DataFrame) -> None:
    html = mixed.parallel.summary()._repr_html_()
    assert "Latency histogram of 8 calls" in html
    assert "4 (50%)" in html
    assert "model gpt-4o-mini" in html
    assert "max_attempts 4" in html
    text = repr(mixed.parallel.summary())
    assert "positive 4, neutral 4, negative 0" in text
    merged = mixed.copy()
    merged.attrs.clear()  # as merge and csv do
    assert "positive 4, neutral 4, negative 0" in repr(merged.parallel.summary())


def test_the_summary_of_frames_that_went_through_other_hands(
    mixed: pd.DataFrame, tmp_path: Any
) -> None:
    """csv, an outer merge, a reindex, a latency that is missing, names without end."""
    mixed.to_csv(tmp_path / "a.csv")
    other = pd.DataFrame({"review": ["row-0 is a review", "unknown"], "x": [1, 2]})
    frames = {
        "csv": pd.read_csv(tmp_path / "a.csv", index_col=0),
        "merge": mixed.merge(other, on="review", how="outer"),
        "reindex": mixed.reindex(range(20)),
        "missing": mixed.assign(latency_ms=float("nan")),
    }
    for name, df in frames.items():
        summary = df.parallel.summary()
        assert summary.metrics.successes == 8, name
        assert "1 × BadRequestError" in summary._repr_html_(), name
    many = mixed.rename(index={2: "x" * 50_000})
    assert len(many.parallel.summary()._repr_html_()) < 20_000


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "–"),
        (0.42, "420 ms"),
        (3.5, "3.5 s"),
        (12, "12 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations_are_for_people(seconds: float | None, words: str) -> None:
    assert html.duration(seconds) == words


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        (None, "–"),
        (0.523, "0.52 ms"),
        (87.4, "87 ms"),
        (6412, "6.41 s"),
        (999.9, "1000 ms"),
        (125_000, "2 min 5 s"),
    ],
)
def test_latencies_are_for_people(ms: float | None, words: str) -> None:
    assert html.milliseconds(ms) == words


def test_the_tally_adds_up_what_the_frame_holds(
    predict: pn.Predict, server: ScriptedServer, reviews: list[str], fast_retries: None
) -> None:
    server.script = lambda marker, attempt: (
        Reply("status", code=500) if attempt == 1 and marker % 2 else Reply()
    )
    events: list[Any] = []
    df = pn.run_parallel(predict, reviews, progress=events.append)
    progress = RunProgress()
    for event in events:
        progress.add(event)
        assert progress.in_flight >= 0
    assert (progress.done, progress.ok, progress.backing_off, progress.in_flight) == (12, 12, 0, 0)
    assert progress.usage is not None
    assert progress.usage.total_tokens == df["total_tokens"].sum()
    assert sum(isinstance(e, RowFinished) for e in events) == 12
    assert isinstance(events[-1], RunFinished)


def test_auto_workers_of_a_synchronous_function_are_the_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    barrier = threading.Barrier(3, timeout=10)

    def meet(i: int) -> int:
        return barrier.wait()

    df = pn.run_parallel(meet, list(range(6)), **QUIET)
    assert df.parallel.metrics.max_in_flight == 3
