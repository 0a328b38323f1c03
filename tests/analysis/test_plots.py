"""Plots of a frame."""

from __future__ import annotations

import warnings
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


def overlaps(texts: Any) -> list[tuple[str, str]]:
    """Pairs of drawn texts whose boxes overlap."""
    shown = [t for t in texts if t.get_visible() and t.get_text().strip()]
    boxes = [(t.get_text(), t.get_window_extent()) for t in shown]
    return [
        (a, b)
        for i, (a, box) in enumerate(boxes)
        for b, other in boxes[i + 1 :]
        if min(box.x1, other.x1) - max(box.x0, other.x0) > 1
        and min(box.y1, other.y1) - max(box.y0, other.y0) > 1
    ]


def names_of(axis: Any) -> list[str]:
    return [label.get_text() for label in axis.get_ticklabels()]


@pytest.mark.parametrize("n_labels", [3, 11, 38, 300])
@pytest.mark.parametrize("by", [None, "part"])
def test_names_of_labels_never_overlap(n_labels: int, by: str | None) -> None:
    df = pd.DataFrame(
        {
            "label": [f"the label {i % (n_labels - (i % 3))}" for i in range(3000)],
            "part": [f"part {i % 12}" for i in range(3000)],
        }
    )
    ax = pn.plot_counts(df.assign(status="ok"), "label", by=by)
    ax.figure.canvas.draw()
    labels = [*ax.get_xticklabels(), *ax.get_yticklabels()]
    assert not overlaps(labels)
    assert not overlaps([ax.title, ax._left_title, *(ax.get_legend().get_texts() if by else ())])
    if n_labels > 20:
        assert names_of(ax.yaxis)[-1].endswith(" others)")
        assert len(names_of(ax.yaxis)) == (11 if by else 21)
    if by:
        assert [t.get_text() for t in ax.get_legend().get_texts()][-1] == "(others)"
    plt.close("all")


def test_bars_cannot_be_split_by_a_column_without_values(mixed: pd.DataFrame) -> None:
    with pytest.raises(ValueError, match="'empty' has no values"):
        pn.plot_counts(mixed.assign(empty=None), "sentiment", by="empty")


def test_items_of_lists_are_counted_one_by_one() -> None:
    tags = [["a", "b"], ["a"], [], None]
    df = pn.run_parallel(lambda n: {"tags": tags[n]}, {"n": range(4)}, **QUIET)
    ax = df.parallel.plot_counts("tags")
    assert [bar.get_height() for bar in ax.patches] == [2, 1]
    assert ax.get_title(loc="left") == "tags (1 without an answer, items of lists)"
    assert ax.get_ylabel() == "items"


@pytest.mark.parametrize("n", [3, 20, 40, 90])
def test_a_confusion_is_readable(n: int) -> None:
    names = [f"a class of number {i % n}" for i in range(20 * n)]
    said = names[1:] + names[:1]
    ax = pn.plot_confusion(pd.DataFrame({"t": names, "p": said}), "t", "p")
    ax.figure.canvas.draw()
    assert not overlaps(ax.get_xticklabels())
    assert not overlaps(ax.get_yticklabels())
    assert len(names_of(ax.yaxis)) >= min(n, 40)
    assert (len(ax.texts) > 0) == (n <= 20)
    plt.close("all")


def test_a_long_tail_gets_a_logarithmic_axis(mixed: pd.DataFrame) -> None:
    df = mixed.copy()
    df["latency_ms"] = [100.0] * (len(df) - 1) + [60_000.0]
    ax = pn.plot_latency(df)
    assert ax.get_xscale() == "log"
    assert "logarithmic" in ax.get_xlabel()
    assert any("p50 100 ms" in t.get_text() for t in ax.texts)
    df["latency_ms"] = range(100, 100 + len(df))
    assert pn.plot_latency(df).get_xscale() == "linear"


def test_all_failed_and_all_remembered_are_told(mixed: pd.DataFrame) -> None:
    failed = mixed[mixed["status"] == "failed"]
    assert pn.plot_latency(failed).get_title(loc="left") == "Latency (every call failed)"
    kept = mixed.assign(cached=True)
    assert f"all {len(kept)} rows were remembered" in pn.plot_latency(kept).texts[0].get_text()
    assert "no call was made" in pn.plot_timeline(kept).texts[0].get_text()


def test_labels_in_any_script_without_a_storm_of_warnings(tmp_path: Any) -> None:
    from pardspy_nb.analysis import plot_text

    plot_text._told.clear()
    labels = ["негативный", "正面", "हिन्दी", "plain", "ἀγαθός"]
    df = pd.DataFrame({"label": labels * 3, "status": "ok"})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(plot_text, "_fonts", list)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for _ in range(2):
                ax = pn.plot_counts(df, "label")
                ax.figure.savefig(tmp_path / "a.png")
    words = [str(w.message) for w in told]
    assert len(words) == 1, words
    assert "CJK" in words[0]
    shown = names_of(ax.xaxis)
    assert shown[0] == "негативный"
    assert shown[1] == "□□"
    plt.close("all")
