"""Updates a result frame with the rows that ran again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from ..core.metrics import ParallelMetrics
from ..core.usage import Usage, total
from .frame import metrics_of, order_of

_SUMS = ("attempts", "prompt_tokens", "completion_tokens", "total_tokens", "cost_usd")


def merge(df: pd.DataFrame, at: Sequence[int], again: pd.DataFrame) -> None:
    """Write the rows of `again` into `df`, in place, at the positions `at`.

    Attempts, tokens and cost are summed over both runs, because both were billed. All other values
    are those of the later run. A row that the later run did not ask keeps its old values.
    """
    asked = np.asarray((again["attempts"] > 0) | again["status"].isin(["ok", "failed"]))
    before, about = metrics_of(df), dict(df.attrs.get("pardspy", {}))
    if about.get("order") != order_of(df):  # rows were added, removed or moved: places are wrong
        about["rows_by_source"] = {}
    later = again.attrs["pardspy"]
    again, taken = again[asked], [place for place, ran in zip(at, asked, strict=True) if ran]
    carried = list(df.columns[: df.columns.get_loc("status")])
    inputs = set(later["inputs"])
    for name in again.columns:
        if name in carried and (name in inputs or name == "sample"):
            continue
        new = again[name]
        if name not in df.columns:
            place = carried.index("sample") if "sample" in carried else len(carried)
            df.insert(place, name, _placed(None, len(df), taken, new))
            carried.insert(place, name)
            continue
        if name in _SUMS:
            old = df[name].iloc[taken].array
            new = _added(pd.Series(old, index=new.index), new)
        df[name] = _placed(df[name], len(df), taken, new)
    df.attrs["pardspy"] = about | _brought_up_to_date(about, later, taken, asked)
    metrics = _both(before, _of_rows(df), later["metrics"])
    df.attrs["pardspy"] |= {
        "metrics": metrics.to_dict(),
        "rows": len(df),
        "order": order_of(df),
        "outputs": list(dict.fromkeys([*about.get("outputs", []), *later["outputs"]])),
    }


def _added(old: pd.Series, new: pd.Series) -> pd.Series:
    """Sums; if only one of the two runs reported a value, that value."""
    return (old + new).fillna(new).fillna(old)


def _placed(old: pd.Series | None, rows: int, at: list[int], new: pd.Series) -> Any:
    """A column of `rows` values: `new` in the places `at`, `old` in the others."""
    rest = np.setdiff1d(np.arange(rows), at)
    kept = None if old is None else old.iloc[rest]
    if kept is None or kept.isna().all():
        order = np.full(rows, -1)
        order[at] = np.arange(len(at))
        return new.array.take(order, allow_fill=True)
    both = pd.concat([_cast(kept, new), new], ignore_index=True)
    return both.array.take(np.argsort(np.concatenate([rest, np.asarray(at, dtype=int)])))


def _cast(old: pd.Series, new: pd.Series) -> pd.Series:
    """The old values in the new values' type, unless a value is lost. Old values from a csv have
    other types."""
    try:
        if isinstance(new.dtype, pd.DatetimeTZDtype):
            cast = pd.to_datetime(old, utc=True, format="ISO8601").astype(new.dtype)
        else:
            cast = old.astype(new.dtype)
    except (TypeError, ValueError):
        return old
    return cast if cast.isna().sum() == old.isna().sum() else old


def _brought_up_to_date(
    about: dict[str, Any], later: dict[str, Any], taken: list[int], asked: Any
) -> dict[str, Any]:
    """The run's metadata, with the sources of the rows after the retry."""
    by_source = {source: places(of) for source, of in about.get("rows_by_source", {}).items()}
    number = np.cumsum(asked) - 1  # by row of the later run: its number among the asked rows
    for source, of in later["rows_by_source"].items():
        new = [taken[number[place]] for place in places(of) if asked[place]]
        by_source[source] = sorted([*by_source.get(source, []), *new])
    retry = {name: later[name] for name in ("run", "started_at", "finished_at", "options")}
    return {
        "ended": later["ended"],
        "finished_at": later["finished_at"],
        "sources": about.get("sources", {}) | later["sources"],
        "rows_by_source": {source: spans(of) for source, of in by_source.items() if of},
        "retries": [*about.get("retries", []), retry],
    }


def _of_rows(df: pd.DataFrame) -> ParallelMetrics:
    """The metrics computed from the rows alone, without `attrs`."""
    bare = df.copy(deep=False)
    bare.attrs = {}
    return metrics_of(bare)


def _both(before: ParallelMetrics, rows: ParallelMetrics, later: dict[str, Any]) -> ParallelMetrics:
    saved = later["saved"]
    elapsed_s = before.elapsed_s + later["elapsed_s"]
    asked = rows.successes + rows.failures - rows.cached
    return replace(
        rows,
        elapsed_s=elapsed_s,
        rows_per_s=asked / elapsed_s if elapsed_s else 0.0,
        judged=_judged(before.judged, later.get("judged")),
        max_in_flight=max(before.max_in_flight, later["max_in_flight"]),
        saved=total([before.saved, None if saved is None else Usage(**saved)]),
    )


def _judged(before: Any, later: Any) -> dict[str, tuple[int, int]] | None:
    """Right answers and compared answers, summed over both runs. No row counts twice, because each
    row is answered in one run only."""
    if before is None and later is None:
        return None
    names = dict.fromkeys([*(before or {}), *(later or {})])
    pairs = {n: ((before or {}).get(n, (0, 0)), (later or {}).get(n, (0, 0))) for n in names}
    return {n: (a[0] + b[0], a[1] + b[1]) for n, (a, b) in pairs.items()}


def spans(numbers: Sequence[int]) -> str:
    """Ascending numbers as ranges: `0-11,13`."""
    parts: list[list[int]] = []
    for n in numbers:
        if parts and n == parts[-1][1] + 1:
            parts[-1][1] = n
        else:
            parts.append([n, n])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in parts)


def places(spans: str) -> list[int]:
    """The numbers that `spans` wrote as ranges."""
    found: list[int] = []
    for part in filter(None, spans.split(",")):
        first, _, last = part.partition("-")
        found.extend(range(int(first), int(last or first) + 1))
    return found
