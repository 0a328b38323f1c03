"""Compares two runs over the same rows."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pandas as pd

from ..tables.names import own_names

_FIGURES = ("cost_usd", "latency_ms")


def diff(
    before: pd.DataFrame, after: pd.DataFrame, *, columns: Sequence[str] | None = None
) -> pd.DataFrame:
    """The rows whose answer differs between two runs or models.

    Rows are matched by index (and `sample`, with repeats), so the order does not matter.

    Args:
        before, after: two results over the same rows.
        columns: the outputs to compare; None for all outputs that both have. Free text differs
            nearly always, so name the label outputs if only labels matter.

    Returns:
        One row for each row that differs in an output or in `status`, or is in one frame only.
        Columns: its inputs; `<output>_before` and `<output>_after`; `status_before` and
        `status_after` (NA if the row is missing); `cost_usd_change` (USD) and `latency_ms_change`
        (ms), after minus before. Cached rows cost 0. `attrs["pardspy_diff"]` has counts and totals
        over the rows of both frames: rows, changed (by column), cost_usd and p50_latency_ms
        (before, after).

    Raises:
        ValueError: a frame is not a result, an index is not unique, or no output is in both.
    """
    before, after = own_names(before), own_names(after)
    for name, df in (("before", before), ("after", after)):
        if "status" not in df.columns:
            raise ValueError(f"{name} is not the result of a run: it has no column 'status'")
    if ("sample" in before.columns) != ("sample" in after.columns):
        raise ValueError("one frame has samples (repeat=…) and the other has none")
    inputs, outputs = _columns(before, after, columns)
    left, right = _by_row(before, "before"), _by_row(after, "after")
    rows = left.index.union(right.index, sort=False)
    left, right = left.reindex(rows), right.reindex(rows)
    compared = [*outputs, "status"]
    changed = {name: _differs(left[name], right[name]) for name in compared}
    any_changed = pd.DataFrame(changed).any(axis=1)
    found = pd.DataFrame(
        {name: _either(left[name], right[name], left["status"].notna()) for name in inputs}
        | {f"{n}_{when}": of[n] for n in compared for when, of in _pair(left, right)}
        | {f"{name}_change": right[name] - left[name] for name in _FIGURES}
    )[any_changed]
    found.attrs["pardspy_diff"] = {
        "rows": len(rows),
        "changed": {name: int(which.sum()) for name, which in changed.items()},
        "cost_usd": [float(of["cost_usd"].sum()) for of in (left, right)],
        "p50_latency_ms": [_median(of["latency_ms"]) for of in (left, right)],
    }
    return found


def _either(left: pd.Series, right: pd.Series, there: pd.Series) -> pd.Series:
    """The first frame's values; for rows that only the second frame has, the second's."""
    if there.all():
        return left
    return left.astype(object).where(there, right.astype(object))


def _pair(left: pd.DataFrame, right: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    return [("before", left), ("after", right)]


def _columns(
    before: pd.DataFrame, after: pd.DataFrame, columns: Sequence[str] | None
) -> tuple[list[str], list[str]]:
    """The inputs to show and the outputs to compare."""
    given = [name for name in before.columns[: before.columns.get_loc("status")] if name in after]
    about = before.attrs.get("pardspy", {})
    inputs = about.get("inputs", [])
    declared = about.get("signature", {}).get("outputs", {})
    outputs = (
        list(columns)
        if columns is not None
        else [
            name
            for name in given
            if name != "sample" and (name in declared if declared else name not in inputs)
        ]
    )
    if missing := [name for name in outputs if name not in before or name not in after]:
        raise ValueError(f"not in both frames: {missing}")
    if not outputs:
        raise ValueError("the frames have no output in common; name them with columns=")
    answers = {*outputs, *declared, "sample"}
    return [name for name in given if name not in answers], outputs


def _by_row(df: pd.DataFrame, name: str) -> pd.DataFrame:
    indexed = df.set_index("sample", append=True) if "sample" in df.columns else df
    if not indexed.index.is_unique:
        raise ValueError(f"the index of {name} is not unique, so its rows cannot be matched")
    return indexed


def _differs(left: pd.Series, right: pd.Series) -> pd.Series:
    """For each row whether two columns differ; two missing values are equal."""
    a, b = left.astype(object), right.astype(object)
    missing = left.isna() & right.isna()
    equal = [x is y or _equal(_plain(x), _plain(y)) for x, y in zip(a, b, strict=True)]
    return ~(pd.Series(equal, index=a.index, dtype=bool) | missing)


def _plain(value: Any) -> Any:
    """An array or tuple as a list, because lists come back from files as arrays."""
    value = value.tolist() if hasattr(value, "tolist") else value
    return [_plain(v) for v in value] if isinstance(value, list | tuple) else value


def _equal(x: Any, y: Any) -> bool:
    try:
        return bool(x == y)
    except (TypeError, ValueError):  # such as missing values, or objects that hold arrays
        return repr(x) == repr(y)


def _median(values: pd.Series) -> float | None:
    median = values.median()
    return None if pd.isna(median) else float(median)
