"""Updates a result frame with the rows that ran again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd

from ..core.metrics import ParallelMetrics
from ..core.usage import Usage, total
from ..signatures.fields import RESERVED
from .column_types import text_column
from .frame import checksums, metrics_of
from .names import ColumnNames, column_of, own_names, renamed_in

_SUMS = ("attempts", "prompt_tokens", "completion_tokens", "total_tokens", "cost_usd")


def merge(df: pd.DataFrame, at: Sequence[int], again: pd.DataFrame) -> None:
    """Write the rows of `again` into `df`, in place, at the positions `at`.

    Attempts, tokens and cost are summed over both runs, because both were billed. All other values
    are those of the later run. A row that the later run did not ask keeps its old values, and an
    output that was set by hand stays (see `by_hand`).
    """
    asked = np.asarray((again["attempts"] > 0) | again["status"].isin(["ok", "failed"]))
    before, about = metrics_of(df), dict(df.attrs.get("pardspy", {}))
    if about.get("order") != checksums(df).order:  # rows were moved: places are wrong
        about["rows_by_source"] = {}
    later = again.attrs["pardspy"]
    again, taken = again[asked], [place for place, ran in zip(at, asked, strict=True) if ran]
    hand = by_hand(df, later["outputs"])
    names = _Names(df, later["outputs"])
    for name in again.columns:
        if name in later["inputs"] or name == "sample":
            continue
        column, new = names.of(str(name)), again[name]
        if column not in df.columns:
            place = _place_of_outputs(df)
            df.insert(place, column, _placed(None, len(df), taken, new))
            continue
        if name in _SUMS:
            old = df[column].iloc[taken].array
            new = _added(pd.Series(old, index=new.index), new)
        kept = hand.get(column)
        written = _placed(df[column], len(df), taken, new)
        df[column] = written if kept is None else _with_kept(written, df[column], kept)
    mark_by_hand(df, hand)
    df.attrs["pardspy"] = about | _brought_up_to_date(about, later, taken, asked)
    df.attrs["pardspy"] |= {
        "outputs": list(dict.fromkeys([*about.get("outputs", []), *later["outputs"]])),
        "renamed": about.get("renamed", {}) | names.renamed,
    }
    metrics = _both(before, _of_rows(df), later["metrics"])
    sums = checksums(df)
    df.attrs["pardspy"] |= {
        "metrics": metrics.to_dict(),
        "rows": len(df),
        "checksum": sums.rows,
        "order": sums.order,
    }


class _Names:
    """The columns of a result by the names that a later run gives them. A column that the user's
    table had is never one of them."""

    def __init__(self, df: pd.DataFrame, outputs: Sequence[Any]) -> None:
        self._known = dict(renamed_in(df))
        self._ours = {*RESERVED, *outputs_in(df, outputs)} - self._known.keys()
        self._free = ColumnNames(name for name in df.columns if name not in self._ours)

    @property
    def renamed(self) -> dict[str, str]:
        return self._known | self._free.renamed

    def of(self, name: str) -> str:
        """The column for a column of the later run."""
        if name in self._known or name in self._ours:
            return self._known.get(name, name)
        return self._free.of(name)


def _place_of_outputs(df: pd.DataFrame) -> int:
    """Where a new output is put: before the samples, or before the outcome."""
    columns = list(df.columns)
    first = column_of(df, "sample")
    return columns.index(first if first in columns else column_of(df, "status"))


def outputs_in(df: pd.DataFrame, expected: Sequence[Any] = ()) -> list[Any]:
    """The columns of a result's outputs. `expected` are outputs of a later run: such a column that
    the user's table did not have is one of a run, or was added to be one."""
    about = df.attrs.get("pardspy", {})
    known = about.get("outputs", [])
    users = about.get("carried")
    if users is None:  # attrs were lost, or are of an older version
        renamed = renamed_in(df)
        expected = [renamed.get(name, name) for name in expected]
        users = known and [n for n in df.columns if n not in known]
    return [*known, *(n for n in expected if n not in known and n not in users)]


def by_hand(df: pd.DataFrame, expected: Sequence[Any] = ()) -> dict[Any, np.ndarray]:
    """For each output, the rows whose value was set by hand: they have one without an answer."""
    unanswered = (df[column_of(df, "status")] != "ok").to_numpy()
    outputs = [name for name in outputs_in(df, expected) if name in df.columns]
    found = {name: unanswered & df[name].notna().to_numpy() for name in outputs}
    return {name: rows for name, rows in found.items() if rows.any()}


def mark_by_hand(df: pd.DataFrame, hand: Mapping[Any, np.ndarray]) -> None:
    """Say in the column `repaired` which outputs of a row were set by hand: `by hand: label`."""
    if not hand:
        return
    column = column_of(df, "repaired")
    words = df[column].astype(object).tolist() if column in df.columns else [None] * len(df)
    for place in range(len(df)):
        if names := [str(name) for name, rows in hand.items() if rows[place]]:
            words[place] = f"by hand: {', '.join(names)}"
    df[column] = text_column(None if pd.isna(word) else word for word in words)


def _with_kept(written: Any, old: pd.Series, kept: np.ndarray) -> Any:
    """A column as written, with the old values in the places that are kept."""
    new = pd.Series(written, index=old.index)
    try:
        return new.where(~kept, old.astype(new.dtype)).array
    except (TypeError, ValueError):  # a value that is not of the output's type
        return new.astype(object).where(~kept, old.astype(object)).array


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
    bare = own_names(df).copy(deep=False)
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
