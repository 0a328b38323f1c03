"""Rare labels put together, so that tables and plots stay readable."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

OTHERS = "(others)"


def grouped(confusion: pd.DataFrame, labels: Sequence[Any]) -> pd.DataFrame:
    """A square table of counts with these labels, and with all others as one."""
    if len(labels) == len(confusion):
        return confusion
    kept = set(labels)
    to = {label: label if label in kept else OTHERS for label in confusion.index}
    order = [*labels, OTHERS]
    both = confusion.groupby(to).sum().T.groupby(to).sum().T
    return both.reindex(index=order, columns=order)


def most_frequent(counts: pd.DataFrame, most: int) -> tuple[pd.DataFrame, str | None]:
    """The rows of the most frequent labels, most frequent first, and the sum of all others in a
    last row; and the name of that row, None without one."""
    order = counts.sum(axis=1).sort_values(ascending=False, kind="stable").index
    ranked = counts.loc[order]
    if len(ranked) <= most:
        return ranked, None
    name = f"({len(ranked) - most:,} others)"
    shown = ranked.iloc[:most].set_axis(ranked.index[:most].astype(object))
    rest = pd.DataFrame([ranked.iloc[most:].sum()], index=pd.Index([name], dtype=object))
    return pd.concat([shown, rest]), name
