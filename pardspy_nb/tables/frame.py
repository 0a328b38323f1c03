"""Results to a DataFrame, one row per completion."""

from __future__ import annotations

import datetime as dt
import zlib
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..core.error_groups import message_of
from ..core.errors import KNOWN_HOPELESS
from ..core.events import STATUSES
from ..core.labels import plain_label
from ..core.metrics import Latency, ParallelMetrics
from ..core.usage import Usage, total
from ..signatures.fields import Field
from .column_types import TEXT, simple, text_column, utc_times, without_models
from .names import last_prefix, own_names, renamed_in
from .results import ABSENT, Results
from .row_batch import RowBatch

_STATUS = pd.CategoricalDtype(list(STATUSES))
_NUMBERS: dict[Any, str] = {int: "Int64", float: "Float64", bool: "boolean"}
_SCALARS: dict[Any, str] = {**_NUMBERS, str: TEXT}
CHECKSUM_LIMIT = 2**53  # JSON's numbers are exact below
_EXACT = 2**53  # whole numbers beyond this have no exact float (IEEE 754)


def build(
    results: Results, places: Sequence[int], batch: RowBatch, outputs: Mapping[str, Field]
) -> pd.DataFrame:
    """The frame of the rows at these places of `results`, with the input's index.

    Columns: inputs (all columns of an input table), outputs, `sample` (with `repeat` > 1),
    outcome, time (ms; `started_at` in UTC), usage (tokens, USD). A column of the run whose name
    the user has taken gets another one (see `names`).

    `attrs["pardspy"]` has the names of the columns: the user's (`carried`), the `inputs` among
    them, the `outputs`, and those `renamed`.
    """
    at = np.asarray(places, dtype=np.int64)
    positions = _numbers(results.positions)[at]
    index = _index(batch.index, positions)
    columns: dict[Any, Any] = {}
    # the chunks of a file must agree
    column_names = batch.column_names if batch.in_chunks else batch.column_names.afresh()
    if batch.table is not None:
        carried = batch.table.iloc[positions]
        columns = {name: carried[name].array for name in carried.columns}
    else:
        names = [*batch.names, *_further_inputs(results, batch)]
        columns = {
            column: infer(results.inputs_of(name, places))
            for name, column in zip(names, column_names.of_inputs(names), strict=True)
        }
    about = {
        "inputs": batch.input_columns if batch.table is not None else list(columns),
        "carried": list(columns),
    }
    name_of = column_names.of
    answers = {name_of(n): of for n, of in _outputs(results, places, outputs).items()}
    own = {"sample": _numbers(results.samples)[at]} if batch.repeat > 1 else {}
    own |= _outcome(results, places, at) | _time(results, at) | _usage(results, places)
    columns |= answers | {name_of(name): column for name, column in own.items()}
    df = pd.DataFrame(columns, index=index, copy=False)
    df.attrs["pardspy"] = {
        **about,
        "outputs": list(answers),
        "renamed": dict(column_names.renamed),
    }
    return df


def _further_inputs(results: Results, batch: RowBatch) -> list[str]:
    """The inputs of a stream's rows that its module takes without naming them."""
    if results.inputs is None or batch.columns is not None:
        return []
    found = dict.fromkeys(name for row in results.inputs for name in row)
    return [name for name in found if name not in batch.names]


class Checksums(NamedTuple):
    """What tells whether the rows of a result are those of its run.

    Attributes:
        rows: differs once rows were added, removed or repeated, and not if they were moved.
        order: differs also if they were moved.
    """

    rows: int
    order: int


def plain(results: Results, places: Sequence[int]) -> pd.DataFrame:
    """The rows at these places as objects, where no frame of typed columns can be built."""
    rows = [results.at(place) for place in places]
    told = {
        "inputs": [dict(row.inputs) for row in rows],
        "outputs": [row.outputs for row in rows],
        "status": [row.status for row in rows],
        "error": [None if row.error is None else message_of(row.error) for row in rows],
    }
    return pd.DataFrame(told, index=[results.positions[place] for place in places], dtype=object)


def checksums(df: pd.DataFrame) -> Checksums:
    """The checksums of what became of the rows."""
    df = own_names(df)
    started_at = pd.to_datetime(df["started_at"], utc=True, format="ISO8601")  # a csv has text
    facts = (
        df["status"].astype(_STATUS).cat.codes.to_numpy(np.float64),
        df["attempts"].to_numpy(np.float64, na_value=np.nan),
        df["latency_ms"].to_numpy(np.float64, na_value=np.nan),
        started_at.dt.as_unit("us").astype("int64").to_numpy(),
    )
    hashes = np.zeros(len(df), dtype=np.uint64)
    for fact in facts:
        hashes = _mixed(hashes ^ np.ascontiguousarray(fact).view(np.uint64))
    rows = int(hashes.sum(dtype=np.uint64)) % CHECKSUM_LIMIT
    return Checksums(rows, zlib.crc32(hashes.tobytes()))


def _mixed(bits: Any) -> Any:
    """The bits, well mixed (the finalizer of splitmix64; Steele, Lea and Flood 2014)."""
    bits = (bits ^ (bits >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    bits = (bits ^ (bits >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return bits ^ (bits >> np.uint64(31))


def _index(index: Any, positions: Any) -> Any:
    first, rows = (int(positions[0]) if len(positions) else 0), len(positions)
    in_order = np.array_equal(positions, np.arange(first, first + rows))
    if index is not None:  # a slice of a RangeIndex is one by every pandas
        return index[first : first + rows] if in_order else index.take(positions)
    return pd.RangeIndex(rows) if in_order and not first else pd.Index(positions)


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
            columns[name] = infer(values)  # of no declared type: the objects are the user's
    return columns


def _typed(values: list[Any], field: Field) -> Any:
    if field.labels is not None:
        plain = [plain_label(v) for v in values]
        if not field.ordered and (dtype := _numeric(field.labels)):
            return _array(plain, dtype)
        return pd.Categorical(plain, categories=list(field.labels), ordered=field.ordered)
    if field.value_type is dt.datetime:
        return _times(values)
    dtype = _SCALARS.get(field.value_type)
    return _objects(map(without_models, values)) if dtype is None else _array(values, dtype)


def typed_by_schema(values: list[Any], schema: Mapping[str, Any]) -> Any:
    """A column of values that a JSON schema declares; None if it names no type of a column."""
    kind = schema.get("type")
    labels = schema.get("enum") or ([schema["const"]] if "const" in schema else [])
    if labels and set(values) - {None} <= set(labels):
        dtype = _numeric(labels)
        return _array(values, dtype) if dtype else pd.Categorical(values, categories=labels)
    if kind == "string" and schema.get("format") == "date-time":
        return _times([pd.Timestamp(v) if isinstance(v, str) else v for v in values])
    if kind == "string" and "format" in schema:
        return None
    dtypes = {"integer": "Int64", "number": "Float64", "boolean": "boolean", "string": TEXT}
    return _array(values, dtypes[kind]) if kind in dtypes else None


def _numeric(labels: Sequence[Any]) -> str | None:
    """The dtype of labels that are all numbers or all truth values; None for other labels."""
    kinds = {type(label) for label in labels}
    if kinds == {int, float}:
        return "Float64"
    return _NUMBERS.get(kinds.pop()) if len(kinds) == 1 else None


def _times(values: list[Any]) -> Any:
    """Times of one zone, or all without one, as pandas' times (microseconds)."""
    zones = {str(v.tzinfo) for v in values if v is not None}
    if len(zones) != 1:
        return _objects(values)
    unit: Any = "ns" if any(getattr(v, "nanosecond", 0) for v in values) else "us"
    zone = next(v.tzinfo for v in values if v is not None)
    dtype: Any = f"datetime64[{unit}]" if zone is None else pd.DatetimeTZDtype(unit, zone)
    try:
        return pd.Series(values, dtype=dtype).array
    except (OverflowError, TypeError, ValueError):
        return _objects(values)


def infer(values: list[Any]) -> Any:
    """The dtype that fits what a module without declared types returned."""
    kinds = set(map(type, values)) - {type(None)}
    if not kinds <= _SCALARS.keys():
        values = [simple(v) if isinstance(v, np.generic) else v for v in values]
        values = [None if v is pd.NA or v is pd.NaT else v for v in values]
        kinds = set(map(type, values)) - {type(None)}
    if len(kinds) == 1 and (dtype := _SCALARS.get(next(iter(kinds)))):
        return _array(values, dtype)
    if kinds == {int, float} and all(abs(v) <= _EXACT for v in values if type(v) is int):
        return _array(values, "Float64")
    if kinds and kinds <= {dt.datetime, pd.Timestamp}:
        return _times(values)
    return _objects(values)


def _array(values: list[Any], dtype: Any) -> Any:
    try:
        return text_column(values) if dtype == TEXT else pd.array(values, dtype=dtype)
    except (OverflowError, TypeError, ValueError):  # 2**70 does not fit Int64
        return _objects(values)


def _objects(values: Iterable[Any]) -> Any:
    return pd.Series(list(values), dtype=object).array


def _outcome(results: Results, places: Sequence[int], at: Any) -> dict[str, Any]:
    codes = np.frombuffer(bytes(results.codes), dtype=np.uint8)[at]
    failed = [
        None if code == 0 else results.errors.get(place)
        for place, code in zip(places, codes.tolist(), strict=True)
    ]
    cached = np.zeros(len(results), dtype=bool)
    cached[list(results.origins)] = True
    names = [None if e is None else type(e).__name__ for e in failed]
    attempts = _numbers(results.attempts)
    for place, origin in list(results.origins.items()):
        attempts[place] = origin.attempts or 0
    return {
        "status": pd.Categorical.from_codes(codes.astype("int8"), dtype=_STATUS),
        "error_type": _texts(names),
        "error": _texts([None if e is None else message_of(e) for e in failed]),
        "repaired": _texts([results.repairs.get(place) for place in places]),
        "attempts": attempts[at],
        "cached": cached[at],
    }


def _texts(values: list[str | None]) -> Any:
    """A column of text that is nearly always missing, which is made at once then."""
    if any(value is not None for value in values):
        return text_column(values)
    nowhere = np.full(len(values), -1)
    return text_column([]).take(nowhere, allow_fill=True)


def _time(results: Results, at: Any) -> dict[str, Any]:
    """The times; of a remembered row the latency and the time of its answer, as of then."""
    latency_ms, started_at = _numbers(results.latency_ms), _numbers(results.started_at)
    for place, origin in list(results.origins.items()):
        latency_ms[place] = np.nan if origin.latency_ms is None else origin.latency_ms
        started_at[place] = origin.at
    return {
        "latency_ms": latency_ms[at],
        "queued_ms": _numbers(results.queued_ms)[at],
        "waited_ms": _numbers(results.waited_ms)[at],
        "started_at": utc_times(started_at[at]),
    }


def _usage(results: Results, places: Sequence[int]) -> dict[str, Any]:
    usages = [results.usages[place] or _NO_USAGE for place in places]
    return {
        "prompt_tokens": _array([u.prompt_tokens for u in usages], "Int64"),
        "completion_tokens": _array([u.completion_tokens for u in usages], "Int64"),
        "total_tokens": _array([u.total_tokens for u in usages], "Int64"),
        "cost_usd": _array([u.cost_usd for u in usages], "float64"),
        "model": _array([results.models[place] for place in places], TEXT),
        "finish_reason": _array([results.reasons[place] for place in places], TEXT),
    }


_NO_USAGE = Usage(None, None, None, None)


def metrics_of(df: pd.DataFrame) -> ParallelMetrics:
    """The metrics of the run that made `df`.

    They are computed from the rows if `attrs` was lost (merge, csv) or if rows were added, removed
    or repeated since (filter, sample, concat). Then `elapsed_s` is the time from the first start to
    the last end of the rows asked in the run, and `max_in_flight` is 0.
    """
    _refuse_several_runs(df)
    df = own_names(df)
    about = df.attrs.get("pardspy", {})
    kept = about.get("metrics")
    if kept is not None and about.get("checksum") == checksums(df).rows:
        usages = {n: None if kept[n] is None else Usage(**kept[n]) for n in ("usage", "saved")}
        return ParallelMetrics(**kept | {"latency": Latency(**kept["latency"])} | usages)
    counts = df["status"].value_counts()
    ok = df["status"] == "ok"
    cached = df["cached"].eq(True)
    asked_now = df[~cached]
    began = pd.to_datetime(asked_now["started_at"], utc=True, format="ISO8601")  # a csv has text
    after_s = (began - began.min()).dt.total_seconds()
    span = (after_s + (asked_now["latency_ms"] + asked_now["waited_ms"]) / 1000).max()
    elapsed: float = 0.0 if pd.isna(span) else float(span)
    asked = int(counts.get("ok", 0) + counts.get("failed", 0) - cached.sum())
    return ParallelMetrics(
        total=len(df),
        successes=int(counts.get("ok", 0)),
        failures=int(counts.get("failed", 0)),
        cached=int(cached.sum()),
        not_run=int(counts.get("not_run", 0)) + int(df["status"].isna().sum()),
        cancelled=int(counts.get("cancelled", 0)),
        latency=Latency.of(df.loc[ok & ~cached, "latency_ms"]),
        elapsed_s=elapsed,
        rows_per_s=asked / elapsed if elapsed else 0.0,
        usage=_usage_of(df),
        max_in_flight=0,
        repaired=int(df["repaired"].notna().sum()) if "repaired" in df else 0,
        skipped=int(counts.get("skipped", 0)),
        hopeless=sum(KNOWN_HOPELESS in str(message) for message in df["error"].dropna()),
    )


def _refuse_several_runs(df: pd.DataFrame) -> None:
    """Refuse a frame of results of several runs whose columns have other names. ValueError."""
    prefix = "" if "pardspy" in df.attrs else last_prefix(df)
    if not prefix or "status" not in df:
        return
    if (df[f"{prefix}status"].isna() & df["status"].notna()).any():
        raise ValueError(
            f"the frame has rows of several runs, some with and some without {prefix}status: look "
            "at the rows of each run on their own"
        )


def _usage_of(df: pd.DataFrame) -> Usage | None:
    reported = df[df["prompt_tokens"].notna() | df["cost_usd"].notna()]
    names = ["prompt_tokens", "completion_tokens", "total_tokens", "cost_usd"]
    columns = [[None if pd.isna(v) else v for v in reported[name].tolist()] for name in names]
    times_ms = reported["latency_ms"].fillna(0).tolist()  # cached rows have none
    return total(Usage(*values) for values in zip(*columns, times_ms, strict=True))


def label_counts(df: pd.DataFrame, column: Any) -> pd.Series:
    """Rows per label: declared labels in their order, with zeros; other values by frequency."""
    counts: pd.Series = df[column].value_counts()
    labels = class_outputs(df).get(column)
    if labels is None and isinstance(df[column].dtype, pd.CategoricalDtype):
        labels = list(df[column].cat.categories)
    return counts if labels is None else counts.reindex(labels, fill_value=0)


def class_outputs(df: pd.DataFrame) -> dict[Any, list[Any]]:
    """The columns of labels that the run wrote, with their declared labels."""
    about = df.attrs.get("pardspy", {})
    declared = about.get("signature", {}).get("labels")
    if declared is not None:
        renamed = renamed_in(df)
        known = {renamed.get(name, name): labels for name, labels in declared.items()}
        return {name: labels for name, labels in known.items() if name in df}
    end = df.columns.get_loc(renamed_in(df).get("status", "status"))
    names = about.get("outputs", df.columns[:end])
    is_class = [n for n in names if n in df and isinstance(df[n].dtype, pd.CategoricalDtype)]
    return {name: list(df[name].cat.categories) for name in is_class}
