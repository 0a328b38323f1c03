"""Plots of a frame."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import pandas as pd
import pytest

import pardspy_nb as pn
from pardspy_nb.analysis import plots

mpl.use("Agg")


QUIET: dict[str, Any] = {"progress": "none", "store": None}


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
            "cached": [False] * 3,
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
