"""Plots of a run. The figures are computed first (frame to frame); drawing comes last.

Text and grid have matplotlib's current colours. The data colours are visible on light and on dark
backgrounds, so `plt.style.use("dark_background")` works.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pandas as pd

from ..display.html import shortened
from ..tables.frame import label_counts
from ..tables.names import own_names

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .shares import Shares

_BLUE, _ORANGE, _GREY = "#4c8fd6", "#e8743b", "#8a8f98"
_AS_TEXT: dict[str, Any] = {"parse_math": False}  # labels are the user's: $ is a dollar
_MOST_BARS, _MOST_UPRIGHT, _MOST_FIGURES = 40, 8, 20  # labels; of more others are drawn
_LONGEST_LABEL, _LONGEST_UPRIGHT, _MOST_TURNED = 40, 14, 60  # characters
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
    """The distribution of `latency_ms`, failed rows in their own colour, with p50, p90 and p99."""
    df, ax = own_names(df), _axes(ax)
    ran = df[df["latency_ms"].notna() & ~df["cached"]]
    ok, failed = ran[ran["status"] == "ok"], ran[ran["status"] == "failed"]
    groups = [(f"ok ({len(ok)})", ok, _BLUE), (f"failed ({len(failed)})", failed, _ORANGE)]
    groups = [group for group in groups if len(group[1])]
    if groups:
        ax.hist(
            [g["latency_ms"] for _, g, _ in groups],
            bins=min(40, max(8, len(ran) // 4)),
            stacked=True,
            color=[c for *_, c in groups],
            label=[n for n, *_ in groups],
        )
    else:
        ax.text(0.5, 0.5, "no calls to time", transform=ax.transAxes, ha="center", va="center")
    top = ax.get_ylim()[1]
    ax.set_ylim(0, top * 1.22)  # leave room for the names of the marks
    for i, (name, value) in enumerate(latency_marks(df).items()):
        ax.axvline(value, color=_text_color(), lw=1, ls=(0, (4, 3)), alpha=0.8)
        left, right = ax.get_xlim()
        side = "right" if value > left + 0.8 * (right - left) else "left"  # keep the text inside
        text = f" {name} {value:,.0f} "
        ax.text(value, top * (1.15 - 0.07 * i), text, fontsize="small", ha=side)
    _finish(ax, "Latency", "milliseconds", "rows")
    if len(groups) > 1:
        ax.legend(frameon=False, loc="center right")
    return ax


def plot_counts(df: pd.DataFrame, column: str, ax: Axes | None = None) -> Axes:
    """Rows per label of `column`, in declared order, with zeros."""
    if column not in df.columns:
        raise ValueError(f"the frame has no column {column!r}; it has {list(df.columns)}")
    counts = label_counts(df, column)
    whole = counts.sum() or 1
    hidden = counts.sort_values(ascending=False).iloc[_MOST_BARS:]
    counts = counts.drop(hidden.index)
    names = [shortened(str(name), _LONGEST_LABEL) for name in counts.index]
    figures = [f"{n:,} ({n / whole:.0%})" for n in counts]
    missing = int(df[column].isna().sum())
    notes = [f"{missing:,} without an answer"] if missing else []
    notes += [f"{len(hidden):,} more labels with {hidden.sum():,} rows"] if len(hidden) else []
    title = f"{column}" + (f" ({', '.join(notes)})" if notes else "")
    lies = len(names) > _MOST_UPRIGHT or max(map(len, names), default=0) > _LONGEST_UPRIGHT
    ax = _axes(ax, height=max(3.2, 0.24 * len(names) + 1) if lies else 3.2)
    places = range(len(names))
    if lies:
        bars = ax.barh(places, counts.to_numpy(), color=_BLUE, height=0.65)
        ax.set_yticks(places, names, **_AS_TEXT)
        ax.invert_yaxis()
        ax.margins(x=0.2)
    else:
        bars = ax.bar(places, counts.to_numpy(), color=_BLUE, width=0.65)
        ax.set_xticks(places, names, **_AS_TEXT)
        ax.margins(y=0.15)
    ax.bar_label(bars, figures, padding=3)
    if not counts.sum():
        (ax.set_xlim if lies else ax.set_ylim)(0, 1)
    _finish(ax, title, "rows" if lies else "", "" if lies else "rows", whole=not lies)
    return ax


def plot_timeline(df: pd.DataFrame, ax: Axes | None = None) -> Axes:
    """Rows in flight over time; marks show when failed rows ended."""
    df, ax = own_names(df), _axes(ax)
    df = df[~df["cached"].eq(True)]
    steps = in_flight(df)
    if len(steps):
        ax.fill_between(steps.index, steps, step="post", color=_BLUE, alpha=0.35, lw=0)
        ax.step(steps.index, steps, where="post", color=_BLUE, lw=1.2)
    failed = df[(df["status"] == "failed") & df["started_at"].notna()]
    if len(failed):
        first = df["started_at"].min()
        spent = (failed["latency_ms"] + failed["waited_ms"]) / 1e3
        ends = (failed["started_at"] - first).dt.total_seconds() + spent
        ax.plot(ends, [0] * len(ends), "|", color=_ORANGE, ms=14, mew=2, label="failed")
        ax.legend(frameon=False)
    ax.set_ylim(bottom=0)
    _finish(ax, "Rows in flight", "seconds since the start", "rows")
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
    ax = _axes(ax)
    shares = counts.div(counts.sum(axis=1).clip(lower=1), axis=0)
    ax.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    has_figures = max(counts.shape, default=0) <= _MOST_FIGURES
    for i, row in enumerate(counts.to_numpy() if has_figures else ()):
        for j, n in enumerate(row):
            dark = shares.iloc[i, j] > 0.5
            ax.text(j, i, f"{n:,}", ha="center", va="center", color="white" if dark else "black")
    every = 1 + max(counts.shape, default=0) // _MOST_BARS
    said = [shortened(str(name), _LONGEST_LABEL) for name in counts.columns]
    true = [shortened(str(name), _LONGEST_LABEL) for name in counts.index]
    ax.set_xticks(range(0, len(said), every), said[::every], **_AS_TEXT)
    ax.set_yticks(range(0, len(true), every), true[::every], **_AS_TEXT)
    if max(map(len, said), default=0) * len(said) > _MOST_TURNED:
        ax.tick_params(axis="x", rotation=90)
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
    ax = _axes(ax)
    ax.plot([0, 1], [0, 1], color=_GREY, lw=1, ls=(0, (4, 3)))
    spread = [bins["accuracy"] - bins["low"], bins["high"] - bins["accuracy"]]
    ax.errorbar(
        bins["confidence"], bins["accuracy"], yerr=spread, fmt="o-", color=_BLUE, capsize=3, lw=1.2
    )
    for x, y, n in zip(bins["confidence"], bins["high"], bins["n"], strict=True):
        ax.annotate(
            f"{n:,}", (x, y), (0, 3), textcoords="offset points", ha="center", fontsize="small"
        )
    ax.set_xlim(0, 1.02)
    ax.set_ylim(0, 1.12)
    _finish(
        ax, "Calibration, with the number of rows", "confidence", "share that is right", whole=False
    )
    return ax


def _evaluation(df: pd.DataFrame, truth: Any, pred: str | None) -> Any:
    from .evaluate import Evaluation, evaluate

    return df if isinstance(df, Evaluation) else evaluate(df, truth, pred)


def plot_shares(shares: Shares, ax: Axes | None = None) -> Axes:
    """The shares of `pn.shares` as bars with their intervals; a tick marks the model's own count.
    With groups, one bar a group for each label."""
    ax = _axes(ax)
    frame = shares.frame
    labels = list(dict.fromkeys(frame["label"]))[:_MOST_BARS]
    groups = list(dict.fromkeys(frame["group"]))
    height = 0.8 / len(groups)
    for i, group in enumerate(groups):
        of = frame[frame["group"].isna() if pd.isna(group) else frame["group"] == group]
        of = of.drop_duplicates("label").set_index("label").reindex(labels)
        at = [place - 0.4 + height * (i + 0.5) for place in range(len(labels))]
        errors = [(of["share"] - of["low"]).clip(lower=0), (of["high"] - of["share"]).clip(lower=0)]
        colour = _BLUE if len(groups) == 1 else f"C{i}"
        name = None if len(groups) == 1 else str(group)
        ax.barh(at, of["share"], height * 0.9, color=colour, xerr=errors, label=name, capsize=3)
        ax.plot(of["naive"], at, "|", color=_ORANGE, markersize=14, markeredgewidth=2)
    ax.plot([], [], "|", color=_ORANGE, label="as the model counted", markersize=14)
    shown = [shortened(str(label), _LONGEST_LABEL) for label in labels]
    ax.set_yticks(range(len(labels)), shown, **_AS_TEXT)
    ax.invert_yaxis()
    ax.set_xlim(0, None)
    ax.xaxis.set_major_formatter("{x:.0%}")
    ax.set_title(f"{shares.output}: shares, {shares.level:.0%} intervals", **_AS_TEXT)
    ax.legend(loc="best", fontsize="small")
    return ax


def _axes(ax: Axes | None, height: float = 3.2) -> Axes:
    if ax is not None:
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(6.4, height), layout="constrained")[1]


def _text_color() -> Any:
    import matplotlib as mpl

    return mpl.rcParams["text.color"]


def _finish(ax: Axes, title: str, x: str, y: str, *, whole: bool = True) -> None:
    from matplotlib.ticker import MaxNLocator

    ax.set_title(title, loc="left", **_AS_TEXT)
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    if whole:
        ax.yaxis.set_major_locator(MaxNLocator(integer=True))
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color=_GREY, alpha=0.25, lw=0.6)
    ax.set_axisbelow(True)
