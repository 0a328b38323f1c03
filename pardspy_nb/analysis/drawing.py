"""What plots have in common: axes, legends, titles, names that do not overlap."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import pandas as pd

if TYPE_CHECKING:
    from matplotlib.axes import Axes

BLUE, ORANGE, GREY = "#4c8fd6", "#e8743b", "#8a8f98"
AS_TEXT: dict[str, Any] = {"parse_math": False}  # labels are the user's: $ is a dollar


def checked_frame(df: Any) -> pd.DataFrame:
    """The frame, if it is one. TypeError."""
    if not isinstance(df, pd.DataFrame):
        raise TypeError(f"the frame comes first, not a {type(df).__name__}: pn.plot_…(df, …)")
    return df


def axes_for(ax: Axes | None, height: float = 3.2, width: float = 6.4) -> Axes:
    """The axes to draw on: those given, or new ones of this size in inches."""
    if ax is not None:
        if not hasattr(ax, "transAxes"):
            raise TypeError(f"ax is a matplotlib Axes, not {ax!r}")
        return ax
    import matplotlib.pyplot as plt

    return plt.subplots(figsize=(width, height), layout="constrained")[1]


def thin(ax: Axes) -> None:
    """Smaller names of classes, and fewer of them, where they would overlap."""
    figure: Any = ax.figure.figure  # the whole one, if the axes are in a part of it
    box = ax.get_window_extent()
    for axis, pixels in ((ax.xaxis, box.width), (ax.yaxis, box.height)):
        ticks = axis.get_ticklocs()
        if not len(ticks):
            continue
        points = 72 / figure.dpi * pixels / len(ticks)  # for one name
        size = min(10.0, max(5.0, 0.8 * points))
        axis.set_tick_params(labelsize=size)
        if points < 1.1 * size:
            labels = [label.get_text() for label in axis.get_ticklabels()]
            every = int(np.ceil(1.1 * size / points))
            axis.set_ticks(ticks[::every], labels[::every], **AS_TEXT)


def legend_outside(ax: Axes, title: str | None = None, *, below: bool = False) -> None:
    """A legend off the bars: beside the title, or below the axis."""
    n = len(ax.get_legend_handles_labels()[1])
    ax.legend(
        frameon=False,
        loc="upper right" if below else "lower right",
        bbox_to_anchor=(1, -0.1) if below else (1, 1),
        ncols=min(4, n),
        fontsize="small",
        title=title,
        borderaxespad=0.2,
    )


def text_color() -> Any:
    """The current style's colour of text."""
    import matplotlib as mpl

    return mpl.rcParams["text.color"]


def finish(ax: Axes, title: str, x: str, y: str, *, whole: Literal["x", "y", ""] = "y") -> None:
    """Title, names of the axes, and a quiet frame; `whole` names the axis of whole numbers."""
    from matplotlib.ticker import MaxNLocator

    ax.set_title(title, loc="left", **AS_TEXT)
    ax.set_xlabel(x)
    ax.set_ylabel(y)
    if whole:
        (ax.xaxis if whole == "x" else ax.yaxis).set_major_locator(MaxNLocator(integer=True))
    ax.spines[["top", "right"]].set_visible(False)
    ax.grid(axis="y", color=GREY, alpha=0.25, lw=0.6)
    ax.set_axisbelow(True)
