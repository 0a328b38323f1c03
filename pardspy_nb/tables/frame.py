"""Results to a DataFrame, one row per completion."""

from __future__ import annotations

import enum
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd

from ..core.error_groups import message_of, writable
from ..core.events import STATUSES
from ..core.metrics import Latency, ParallelMetrics
from ..core.usage import Usage, total
from ..signatures.fields import Field
from .inputs import RowBatch
from .results import ABSENT, Results

_STATUS = pd.CategoricalDtype(list(STATUSES))
_SCALARS: dict[Any, str] = {int: "Int64", float: "Float64", bool: "boolean", str: "str"}


def build(
    results: Results, places: Sequence[int], batch: RowBatch, outputs: Mapping[str, Field]
) -> pd.DataFrame:
    """The frame of the rows at these places of `results`, with the input's index.

    Columns: inputs (all columns of an input table), outputs, `sample` (with `repeat` > 1),
    outcome (`repaired` only if an answer was repaired), time (ms; `started_at` in UTC), usage
    (tokens, USD).
    """
    at = np.asarray(places, dtype=np.int64)
    positions = _numbers(results.positions)[at]
    index = _index(batch.index, positions)
    columns: dict[str, Any] = {}
    if batch.table is not None:
        carried = batch.table.iloc[positions]
        columns = {str(name): carried[name].array for name in carried.columns}
    for name in batch.names:
        if name not in columns:
            columns[name] = _infer(results.inputs_of(name, places))
    columns |= _outputs(results, places, outputs)
    if batch.repeat > 1:
        columns["sample"] = _numbers(results.samples)[at]
    columns |= _outcome(results, places, at) | _time(results, at) | _usage(results, places)
    return pd.DataFrame(columns, index=index, copy=False)


def objects_to_text(df: pd.DataFrame, outputs: Mapping[str, Field]) -> None:
    """Replace values that no file has a type for with text, in place. Dates and lists of plain
    values stay unchanged."""
    for name, column in df.items():
        field = outputs.get(str(name))
        if column.dtype == object and not (field is not None and field.is_columnar):
            to_text(df, str(name), field)


def to_text(df: pd.DataFrame, name: str, field: Field | None) -> None:
    """Replace a column's values with text, in place: JSON if the field is declared."""

    def text(value: Any) -> Any:
        if value is None or isinstance(value, str):
            return value
        return str(value) if field is None else field.dump(value)

    df[name] = pd.array([text(v) for v in df[name].astype(object)], dtype="str")


def order_of(df: pd.DataFrame) -> int:
    """A checksum of the index. It changes when rows are added, removed or moved."""
    hashes = pd.util.hash_pandas_object(df.index, index=False).to_numpy()
    return zlib.crc32(hashes.tobytes())


def outputs_of(df: pd.DataFrame, batch: RowBatch) -> list[str]:
    """The columns of a run's outputs."""
    own = {*batch.names, "sample", *map(str, getattr(batch.table, "columns", ()))}
    return [n for n in df.columns[: df.columns.get_loc("status")] if n not in own]


def _index(index: Any, positions: Any) -> Any:
    if index is not None:
        return index.take(positions)
    in_order = np.array_equal(positions, np.arange(len(positions)))
    return pd.RangeIndex(len(positions)) if in_order else pd.Index(positions)


def _numbers(column: Any) -> Any:
    """A copy of an array's numbers, because the run may still append to the array."""
    return np.array(column)


def _outputs(
    results: Results, places: Sequence[int], fields: Mapping[str, Field]
) -> dict[str, Any]:
    columns = {}
    for name in [*fields, *(n for n in results.outputs if n not in fields)]:
        known = results.outputs.get(name)
        found = [] if known is None else [known[place] for place in places]
        values = [None if v is ABSENT else v for v in found] or [None] * len(places)
        if name in fields:
            columns[name] = _typed(values, fields[name])
        elif any(v is not ABSENT for v in found):
            columns[name] = _infer(values)
    return columns


def _typed(values: list[Any], field: Field) -> Any:
    if field.labels is not None:
        plain = [v.value if isinstance(v, enum.Enum) else v for v in values]
        return pd.Categorical(plain, categories=list(field.labels), ordered=True)
    dtype = _SCALARS.get(field.value_type)
    return _objects(values) if dtype is None else _array(values, dtype)


def _infer(values: list[Any]) -> Any:
    """The dtype that fits what a module without declared types returned."""
    kinds = {type(v) for v in values if v is not None}
    if len(kinds) == 1 and (dtype := _SCALARS.get(next(iter(kinds)))):
        return _array(values, dtype)
    if kinds == {int, float}:
        return _array(values, "Float64")
    return _objects(values)


def _array(values: list[Any], dtype: Any) -> Any:
    try:
        return pd.array(values, dtype=dtype)
    except UnicodeEncodeError:  # a lone surrogate, which no text column or file can hold
        return pd.array([None if v is None else writable(v) for v in values], dtype=dtype)
    except (OverflowError, TypeError, ValueError):  # 2**70 does not fit Int64
        return _objects(values)


def _objects(values: list[Any]) -> Any:
    return pd.Series(values, dtype=object).array


def _outcome(results: Results, places: Sequence[int], at: Any) -> dict[str, Any]:
    codes = np.frombuffer(bytes(results.codes), dtype=np.uint8)[at]
    failed = [
        None if code == 0 else results.errors.get(place)
        for place, code in zip(places, codes.tolist(), strict=True)
    ]
    cached = np.zeros(len(results), dtype=bool)
    cached[list(results.origins)] = True
    names = [None if e is None else type(e).__name__ for e in failed]
    repairs = {}
    if results.repairs:
        repairs = {"repaired": pd.array([results.repairs.get(p) for p in places], dtype="str")}
    return {
        "status": pd.Categorical.from_codes(codes.astype("int8"), dtype=_STATUS),
        "error_type": pd.array(names, dtype="str"),
        "error": pd.array([None if e is None else message_of(e) for e in failed], dtype="str"),
        **repairs,
        "attempts": _numbers(results.attempts)[at],
        "cached": cached[at],
    }


def _time(results: Results, at: Any) -> dict[str, Any]:
    stamps = pd.to_datetime(pd.Series(_numbers(results.started_at)[at]), unit="s")
    return {
        "latency_ms": _numbers(results.latency_ms)[at],
        "queued_ms": _numbers(results.queued_ms)[at],
        "waited_ms": _numbers(results.waited_ms)[at],
        "started_at": stamps.dt.as_unit("us").dt.tz_localize("UTC").array,
    }


def _usage(results: Results, places: Sequence[int]) -> dict[str, Any]:
    usages = [results.usages[place] or _NO_USAGE for place in places]
    return {
        "prompt_tokens": _array([u.prompt_tokens for u in usages], "Int64"),
        "completion_tokens": _array([u.completion_tokens for u in usages], "Int64"),
        "total_tokens": _array([u.total_tokens for u in usages], "Int64"),
        "cost_usd": _array([u.cost_usd for u in usages], "float64"),
        "model": _array([results.models[place] for place in places], "str"),
        "finish_reason": _array([results.reasons[place] for place in places], "str"),
    }


_NO_USAGE = Usage(None, None, None, None)


def metrics_of(df: pd.DataFrame) -> ParallelMetrics:
    """The metrics of the run that made `df`.

    They are computed from the rows if `attrs` was lost (merge, csv) or if rows were added or
    removed since (filter, concat). Then `elapsed_s` is the time from the first start to the last
    end, and `max_in_flight` is 0.
    """
    about = df.attrs.get("pardspy", {})
    kept = about.get("metrics")
    if kept is not None and about.get("rows") == len(df):
        usages = {n: None if kept[n] is None else Usage(**kept[n]) for n in ("usage", "saved")}
        return ParallelMetrics(**kept | {"latency": Latency(**kept["latency"])} | usages)
    counts = df["status"].value_counts()
    ok = df["status"] == "ok"
    cached = df["cached"].eq(True)
    began = pd.to_datetime(df["started_at"], utc=True, format="ISO8601")  # a csv has text
    ends = began + pd.to_timedelta(df["latency_ms"] + df["waited_ms"], unit="ms")
    span = (ends.max() - began.min()).total_seconds()
    elapsed = 0.0 if pd.isna(span) else float(span)
    asked = int(counts.get("ok", 0) + counts.get("failed", 0) - cached.sum())
    return ParallelMetrics(
        total=len(df),
        successes=int(counts.get("ok", 0)),
        failures=int(counts.get("failed", 0)),
        cached=int(cached.sum()),
        not_run=int(counts.get("not_run", 0)),
        cancelled=int(counts.get("cancelled", 0)),
        latency=Latency.of(df.loc[ok & ~cached, "latency_ms"]),
        elapsed_s=elapsed,
        rows_per_s=asked / elapsed if elapsed else 0.0,
        usage=_usage_of(df),
        max_in_flight=0,
        repaired=int(df["repaired"].notna().sum()) if "repaired" in df else 0,
    )


def _usage_of(df: pd.DataFrame) -> Usage | None:
    reported = df[df["prompt_tokens"].notna() | df["cost_usd"].notna()]
    names = ["prompt_tokens", "completion_tokens", "total_tokens", "cost_usd"]
    columns = [[None if pd.isna(v) else v for v in reported[name].tolist()] for name in names]
    times_ms = reported["latency_ms"].fillna(0).tolist()  # cached rows have none
    return total(Usage(*values) for values in zip(*columns, times_ms, strict=True))


def class_outputs(df: pd.DataFrame) -> list[str]:
    """The columns of labels that the run wrote."""
    declared = df.attrs.get("pardspy", {}).get("signature", {}).get("outputs")
    names = df.columns[: df.columns.get_loc("status")] if declared is None else declared
    return [n for n in names if n in df and isinstance(df[n].dtype, pd.CategoricalDtype)]
