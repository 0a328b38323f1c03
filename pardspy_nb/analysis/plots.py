"""Plots of a run. The figures are computed first (frame to frame); drawing comes last.

Text and grid have matplotlib's current colours. The data colours are visible on light and on dark
backgrounds, so `plt.style.use("dark_background")` works.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from ..display.html import MOST_LABELS, shortened
from ..tables.frame import label_counts
from ..tables.names import no_column, own_names
from .drawing import (
    AS_TEXT,
    BLUE,
    GREY,
    ORANGE,
    axes_for,
    checked_frame,
    finish,
    legend_outside,
    text_color,
    thin,
)
from .grouping import OTHERS, grouped, most_frequent
from .plot_text import PlotText

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .shares import Shares

_MOST_BARS, _MOST_UPRIGHT, _MOST_FIGURES = 20, 8, 20  # labels; of more others are drawn
_MOST_CLASSES, _MOST_GROUPS, _LONGEST_CLASS = 40, 8, 24
_LONG_TAIL = 30  # times the median
_LONGEST_LABEL, _LONGEST_UPRIGHT = 40, 14  # characters
_INCHES_A_LETTER = 0.09
_QUANTILES = (("p50", 0.5), ("p90", 0.9), ("p99", 0.99))


def latency_marks(df: pd.DataFrame) -> dict[str, float]:
    """p50, p90 and p99 of `latency_ms` of successful, uncached rows; empty if there are none."""
    df = own_names(df)
    values = df.loc[(df["status"] == "ok") & ~df["cached"], "latency_ms"].dropna()
    return {name: float(values.quantile(q)) for name, q in _QUANTILES} if len(values) else {}


def in_flight(df: pd.DataFrame) -> pd.Series:
    """Rows in flight over time: a step function, indexed by seconds since the first start.

    A row counts from its first attempt to its end, including waiting times. Remembered rows were
    not in flight.
    """
    df = own_names(df)
    ran = df[df["started_at"].notna() & ~df["cached"].eq(True)]
    start = (ran["started_at"] - ran["started_at"].min()).dt.total_seconds()
    end = start + (ran["latency_ms"] + ran["waited_ms"]) / 1e3
    steps = pd.concat([pd.Series(1, index=start), pd.Series(-1, index=end)])
    return steps.groupby(level=0).sum().sort_index().cumsum()


def plot_latency(df: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """The distribution of `latency_ms`, failed rows in their own colour, with p50, p90 and p99. The
    axis is logarithmic where the slowest calls are very much slower than the others."""
    df, ax = own_names(checked_frame(df)), axes_for(ax)
    ran = df[df["latency_ms"].notna() & ~df["cached"]]
    ok, failed = ran[ran["status"] == "ok"], ran[ran["status"] == "failed"]
    groups = [(f"ok ({len(ok):,})", ok, BLUE), (f"failed ({len(failed):,})", failed, ORANGE)]
    groups = [group for group in groups if len(group[1])]
    is_long = _has_long_tail(ran["latency_ms"])
    if groups:
        n_bins = min(40, max(8, len(ran) // 4))
        ax.hist(
            [g["latency_ms"] for _, g, _ in groups],
            bins=_log_bins(ran["latency_ms"], n_bins) if is_long else n_bins,
            stacked=True,
            color=[c for *_, c in groups],
            label=[n for n, *_ in groups],
        )
        if is_long:
            ax.set_xscale("log")
            ax.xaxis.set_major_formatter("{x:,.0f}")
    else:
        n = int(df["cached"].eq(True).sum())
        words = f"all {n:,} rows were remembered: no call to time" if n else "no calls to time"
        ax.text(0.5, 0.5, words, transform=ax.transAxes, ha="center", va="center")
        ax.set_xticks([])
    top = ax.get_ylim()[1]
    ax.set_ylim(0, top * 1.22)  # leave room for the names of the marks
    for i, (name, value) in enumerate(latency_marks(df).items()):
        ax.axvline(value, color=text_color(), lw=1, ls=(0, (4, 3)), alpha=0.8)
        is_right = ax.transAxes.inverted().transform(ax.transData.transform((value, 0)))[0] > 0.7
        text = f" {name} {value:,.0f} ms "
        side = "right" if is_right else "left"  # keep the text inside
        ax.text(value, top * (1.15 - 0.07 * i), text, fontsize="small", ha=side)
    title = "Latency" if len(ok) or not groups else "Latency (every call failed)"
    x = "milliseconds, logarithmic" if is_long else "milliseconds"
    finish(ax, title, x, "rows")
    if len(groups) > 1 or (groups and not len(ok)):
        legend_outside(ax)
    return ax


def _has_long_tail(values: pd.Series) -> bool:
    """Whether most of a linear axis would be empty: the slowest call takes 30 times the median."""
    return len(values) > 1 and values.max() > _LONG_TAIL * max(values.median(), 1e-3)


def _log_bins(values: pd.Series, n: int) -> Any:
    return np.geomspace(max(float(values.min()), 1e-3), float(values.max()) * 1.001, n + 1)


def plot_counts(
    df: pd.DataFrame, column: str, ax: Axes | None = None, *, by: str | None = None
) -> Axes:
    """Rows per label of `column`: in declared order, with zeros; of more than ten labels the most
    frequent ones, and the others together.

    Args:
        column: labels, or lists of labels, which are counted item by item.
        by: a column, by whose values the bars are split (the eight most frequent values, and the
            others together).
    """
    checked_frame(df)
    for name in [column, *([] if by is None else [by])]:
        if name not in df.columns:
            raise ValueError(no_column(df, name))
    if by is not None and not df[by].notna().any():
        raise ValueError(f"column {by!r} has no values to split the bars by")
    n_missing = int(df[column].isna().sum())
    is_list = df[column].map(lambda v: isinstance(v, list | tuple | np.ndarray)).any()
    table = df.explode(column) if is_list else df
    table.attrs = df.attrs
    parts = _parts(table, column, by)
    counts = pd.DataFrame({name: label_counts(part, column) for name, part in parts.items()})
    labels = label_counts(table, column).index  # in declared order
    counts = counts.reindex(labels).fillna(0).astype(int)
    others = None
    if len(counts) > MOST_LABELS:
        counts, others = most_frequent(counts, _MOST_BARS if by is None else MOST_LABELS)
    whole = int(counts.to_numpy().sum()) or 1
    notes = [f"{n_missing:,} without an answer"] if n_missing else []
    notes += ["items of lists"] if is_list else []
    text = PlotText([*counts.index, *counts.columns, column, by])
    names = [shortened(text.shown(name), _LONGEST_LABEL) for name in counts.index]
    lies = len(names) > _MOST_UPRIGHT or max(map(len, names), default=0) > _LONGEST_UPRIGHT
    bars_a_label = len(counts.columns)
    height = max(3.2, 0.24 * len(names) * max(1, 0.6 * bars_a_label) + 1) if lies else 3.2
    ax = axes_for(ax, height=height)
    size = 0.8 / bars_a_label
    for i, name in enumerate(counts.columns):
        at = np.arange(len(names)) - 0.4 + size * (i + 0.5)
        colours: Any = BLUE if by is None else f"C{i}"
        if by is None:
            colours = [GREY if label == others else BLUE for label in counts.index]
        draw = ax.barh if lies else ax.bar
        values = counts[name].to_numpy()
        bars = draw(at, values, size * 0.82, color=colours, label=text.shown(name))
        if by is None:
            ax.bar_label(bars, [f"{n:,} ({n / whole:.0%})" for n in values], padding=3)
        elif lies or bars_a_label * len(names) <= _MOST_FIGURES:
            ax.bar_label(bars, [f"{n:,}" for n in values], padding=2, fontsize="x-small")
    axis = ax.yaxis if lies else ax.xaxis
    axis.set_ticks(range(len(names)), names, **AS_TEXT)
    if lies:
        ax.invert_yaxis()
    ax.margins(x=0.2 if lies else None, y=None if lies else 0.15)
    if not counts.to_numpy().sum():
        (ax.set_xlim if lies else ax.set_ylim)(0, 1)
    title = text.shown(column) + (f" ({', '.join(notes)})" if notes else "")
    unit = "items" if is_list else "rows"
    finish(ax, title, unit if lies else "", "" if lies else unit, whole="x" if lies else "y")
    if by is not None:
        legend_outside(ax, title=text.shown(by))
        text.dress(ax.get_legend().get_texts())  # type: ignore[union-attr]
    text.dress([*axis.get_ticklabels(), ax.title, ax._left_title])  # type: ignore[attr-defined]
    return ax


def _parts(df: pd.DataFrame, column: str, by: str | None) -> dict[Any, pd.DataFrame]:
    """The rows of each value of `by`, most frequent first; all rows without it."""
    if by is None:
        return {column: df}
    groups = df[by].astype(object)
    values = list(groups.value_counts().index)
    shown = values if len(values) <= _MOST_GROUPS else values[: _MOST_GROUPS - 1]
    if isinstance(df[by].dtype, pd.CategoricalDtype) or _is_sortable(shown):
        shown = sorted(shown, key=list(df[by].astype("category").cat.categories).index)
    parts = {value: df[groups.eq(value).to_numpy()] for value in shown}
    rest = groups.notna() & ~groups.isin(shown)
    if rest.any():
        parts[OTHERS] = df[rest.to_numpy()]
    for part in parts.values():
        part.attrs = df.attrs
    return parts


def _is_sortable(values: list[Any]) -> bool:
    return len({type(value) for value in values}) == 1


def plot_timeline(df: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Rows in flight over time; marks show when failed rows ended."""
    df, ax = own_names(checked_frame(df)), axes_for(ax)
    df = df[~df["cached"].eq(True)]
    steps = in_flight(df)
    if not len(steps):
        ax.text(0.5, 0.5, "no call was made", transform=ax.transAxes, ha="center", va="center")
    else:
        ax.fill_between(steps.index, steps, step="post", color=BLUE, alpha=0.35, lw=0)
        ax.step(steps.index, steps, where="post", color=BLUE, lw=1.2)
    failed = df[(df["status"] == "failed") & df["started_at"].notna()]
    if len(failed):
        first = df["started_at"].min()
        spent = (failed["latency_ms"] + failed["waited_ms"]) / 1e3
        ends = (failed["started_at"] - first).dt.total_seconds() + spent
        ax.plot(ends, [0] * len(ends), "|", color=ORANGE, ms=14, mew=2, label="failed")
        legend_outside(ax)
    ax.set_ylim(bottom=0)
    finish(ax, "Rows in flight", "seconds since the start", "rows")
    return ax


def plot_confusion(
    df: pd.DataFrame, truth: Any = None, pred: str | None = None, ax: Axes | None = None
) -> Axes:
    """True labels against predicted labels: counts, shaded by the share of the true label's rows.

    Args:
        df: an `Evaluation`, or a frame for `evaluate`, which is then called with `truth` and
            `pred`.
    """
    counts = _evaluation(df, truth, pred).confusion
    if len(counts) > _MOST_CLASSES:
        frequent = counts.sum(axis=1).sort_values(ascending=False, kind="stable").index
        counts = grouped(counts, list(frequent[:_MOST_CLASSES]))
    n = max(counts.shape, default=0)
    side = max(3.2, 0.26 * n + 1.2)
    ax = axes_for(ax, height=side, width=max(6.4, side + 1))
    shares = counts.div(counts.sum(axis=1).clip(lower=1), axis=0)
    picture = ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    has_figures = n <= _MOST_FIGURES
    for i, row in enumerate(counts.to_numpy() if has_figures else ()):
        for j, value in enumerate(row):
            colour = "white" if shares.iloc[i, j] > 0.5 else "black"
            ax.text(j, i, f"{value:,}", ha="center", va="center", color=colour)
    if not has_figures and (figure := ax.get_figure()) is not None:
        bar = figure.colorbar(picture, ax=ax, shrink=0.6, format="{x:.0%}")
        bar.set_label("of the true label's rows")
    text = PlotText([*counts.columns, *counts.index])
    said = [shortened(text.shown(name), _LONGEST_CLASS) for name in counts.columns]
    true = [shortened(text.shown(name), _LONGEST_CLASS) for name in counts.index]
    ax.set_xticks(range(len(said)), said, **AS_TEXT)
    ax.set_yticks(range(len(true)), true, **AS_TEXT)
    if max(map(len, said), default=0) * _INCHES_A_LETTER > (side - 1.2) / max(1, n):
        ax.tick_params(axis="x", rotation=90)
    thin(ax)
    text.dress([*ax.get_xticklabels(), *ax.get_yticklabels()])
    ax.set_title("Confusion", loc="left")
    ax.set_xlabel("predicted")
    ax.set_ylabel("true")
    return ax


def plot_calibration(
    df: pd.DataFrame, truth: Any = None, pred: str | None = None, ax: Axes | None = None
) -> Axes:
    """How often labels are right, by bins of confidence, with 95 % intervals (Wilson). On the
    diagonal, confidence equals accuracy.

    Args:
        df: as for `plot_confusion`.

    Raises:
        ValueError: there is no confidence.
    """
    bins = _evaluation(df, truth, pred).calibration
    if bins is None:
        raise ValueError("there is no confidence to calibrate: Predict(…, confidence=True)")
    ax = axes_for(ax)
    ax.plot([0, 1], [0, 1], color=GREY, lw=1, ls=(0, (4, 3)))
    spread = [bins["accuracy"] - bins["low"], bins["high"] - bins["accuracy"]]
    ax.errorbar(
        bins["confidence"], bins["accuracy"], yerr=spread, fmt="o-", color=BLUE, capsize=3, lw=1.2
    )
    for x, y, n in zip(bins["confidence"], bins["high"], bins["n"], strict=True):
        ax.annotate(
            f"{n:,}", (x, y), (0, 3), textcoords="offset points", ha="center", fontsize="small"
        )
    ax.set_xlim(0, 1.02)
    ax.set_ylim(0, 1.12)
    finish(
        ax, "Calibration, with the number of rows", "confidence", "share that is right", whole=""
    )
    return ax


def _evaluation(df: pd.DataFrame, truth: Any, pred: str | None) -> Any:
    from .evaluate import Evaluation, evaluate

    return df if isinstance(df, Evaluation) else evaluate(df, truth, pred)


def plot_shares(shares: Shares, ax: Axes | None = None) -> Axes:
    """The shares of `pn.shares` as bars with their intervals; a tick marks the model's own count.
    With groups, one bar a group for each label."""
    if not hasattr(shares, "frame"):
        raise TypeError(
            "plot_shares takes what pn.shares returns: pn.plot_shares(pn.shares(df, …))"
        )
    frame = shares.frame
    labels = list(dict.fromkeys(frame["label"]))
    n_left = max(0, len(labels) - _MOST_BARS)
    if n_left:
        sums = frame.groupby("label", observed=True)["share"].sum().sort_values(ascending=False)
        labels = list(sums.index[:_MOST_BARS])
    n_groups = frame["group"].nunique(dropna=False)
    ax = axes_for(ax, height=max(3.2, 0.24 * len(labels) * max(1, 0.6 * n_groups) + 1.2))
    groups = list(dict.fromkeys(frame["group"]))
    text = PlotText([*labels, *groups, shares.output])
    height = 0.8 / len(groups)
    for i, group in enumerate(groups):
        of = frame[frame["group"].isna() if pd.isna(group) else frame["group"] == group]
        of = of.drop_duplicates("label").set_index("label").reindex(labels)
        at = [place - 0.4 + height * (i + 0.5) for place in range(len(labels))]
        errors = [(of["share"] - of["low"]).clip(lower=0), (of["high"] - of["share"]).clip(lower=0)]
        colour = BLUE if len(groups) == 1 else f"C{i}"
        name = None if len(groups) == 1 else text.shown(group)
        ax.barh(
            at,
            of["share"],
            height * 0.9,
            color=colour,
            xerr=errors,
            label=name,
            capsize=3,
            ecolor=GREY,
        )
        ax.plot(of["naive"], at, "|", color=ORANGE, markersize=14, markeredgewidth=2)
    ax.plot([], [], "|", color=ORANGE, label="as the model counted", markersize=14)
    shown = [shortened(text.shown(label), _LONGEST_LABEL) for label in labels]
    ax.set_yticks(range(len(labels)), shown, **AS_TEXT)
    ax.invert_yaxis()
    ax.set_xlim(0, None)
    ax.xaxis.set_major_formatter("{x:.0%}")
    title = f"{text.shown(shares.output)}: shares, {shares.level:.0%} intervals"
    title += f" ({n_left:,} rarer labels are left out)" if n_left else ""
    ax.set_title(title, loc="left", **AS_TEXT)
    ax.margins(y=0.02)
    legend_outside(ax, below=True)
    text.dress([*ax.get_yticklabels(), *ax.get_legend().get_texts(), ax._left_title])  # type: ignore[union-attr,attr-defined]
    return ax
