"""A result as a review needs it: its rows' keys, what can be reviewed, and confidences."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from ..store.decisions import row_key
from ..tables.names import column_of, no_column, renamed_in
from .picks import Pick


def check_frame(df: pd.DataFrame, output: str, by: str | None) -> None:
    """Refuse a frame whose rows cannot be reviewed. ValueError."""
    if "pardspy" not in df.attrs:
        raise ValueError(
            "the frame does not tell which columns are its inputs (attrs were lost): review the "
            "result itself, or what pd.read_parquet gives of one"
        )
    inputs = df.attrs["pardspy"]["inputs"]
    lacks = [name for name in inputs if name not in df.columns]
    if lacks or not inputs:
        raise ValueError(
            f"the frame lacks its inputs {lacks}, by which decisions are found: keep these columns "
            "under their names"
        )
    for name in [output, *([] if by is None else [by])]:
        if name not in df.columns:
            raise ValueError(no_column(df, name))
    if column_of(df, "sample") in df.columns:
        raise ValueError(
            "the rows have several samples, and a decision is about a row: review a run without "
            "repeat="
        )


def row_keys(df: pd.DataFrame, inputs: list[str]) -> list[str]:
    """The key of each row (see `decisions.row_key`)."""
    columns = {name: df[name].tolist() for name in inputs}
    rows = range(len(df))
    return [row_key({name: of[i] for name, of in columns.items()}) for i in rows]


def told_apart(keys: list[str]) -> list[str]:
    """The keys, with a number behind that of the second, third, … of equal rows."""
    seen: Counter[str] = Counter()
    found = []
    for key in keys:
        found.append(f"{key} {seen[key]}" if seen[key] else key)
        seen[key] += 1
    return found


def confidence_of(df: pd.DataFrame, output: str, pick: Pick) -> pd.Series | None:
    """The confidences that a pick needs, None if it needs none. ValueError if there are none."""
    if pick != "uncertain":
        return None
    own = {column: name for name, column in renamed_in(df).items()}.get(output, output)
    name = column_of(df, f"{own}_confidence")
    if name not in df.columns:
        raise ValueError(
            f'pick="uncertain" needs the column {name!r}: run_parallel(…, confidence=True)'
        )
    found: pd.Series = pd.to_numeric(df[name])
    return found
