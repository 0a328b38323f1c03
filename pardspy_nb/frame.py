"""Events to a DataFrame, one row per completion. The only importer of pandas."""

from __future__ import annotations

import enum
import zlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from .batch import Batch
from .events import STATUSES, Answer, RowFinished
from .failures import ErrorGroups, message_of, writable
from .fields import RESERVED, Field
from .metrics import Latency, ParallelMetrics
from .summary import Summary
from .usage import Usage, total

_READERS: dict[str, Callable[[Any], Any]] = {
    ".csv": pd.read_csv,
    ".parquet": pd.read_parquet,
    ".jsonl": lambda path: pd.read_json(path, lines=True),
}
_SCALARS: dict[Any, str] = {int: "Int64", float: "Float64", bool: "boolean", str: "str"}


def as_table(data: Any) -> Any:
    """A DataFrame of a file's path or of another library's table; anything else as it is.

    Raises:
        FileNotFoundError, ValueError: no such file, or not a .csv, .parquet or .jsonl.
    """
    if isinstance(data, str | Path):
        reader = _READERS.get(Path(data).suffix.lower())
        if reader is None:
            raise ValueError(f"cannot read {str(data)!r}: a path ends in {', '.join(_READERS)}; "
                             "one input goes as {'name': value}")  # fmt: skip
        return reader(data)
    arrow = not isinstance(data, pd.DataFrame) and hasattr(data, "__arrow_c_stream__")
    if arrow and hasattr(data, "columns"):  # a table of pyarrow or polars, not a column
        return pd.DataFrame.from_arrow(data)  # type: ignore[attr-defined]  # stubs lag
    return data


def check_columns(table: Any, outputs: Iterable[str]) -> None:
    """Refuse a table whose columns the run would write over."""
    taken = {*RESERVED, *outputs}
    if clash := [str(name) for name in getattr(table, "columns", ()) if name in taken]:
        raise ValueError(
            f"the DataFrame already has columns {clash}, which this run writes; rename them, or "
            "pass only the inputs: df[['…']]"
        )


def build(
    finished: Sequence[RowFinished], batch: Batch, outputs: Mapping[str, Field]
) -> pd.DataFrame:
    """The frame of these rows, in input order, with the input's index.

    Columns: inputs (all columns of an input table), outputs, `sample` (with `repeat` > 1),
    outcome, time (ms; `started_at` UTC), usage (tokens, USD).
    """
    rows = sorted(finished, key=lambda f: f.row.number)
    positions = [f.row.position for f in rows]
    index = _index(batch.index, positions)
    columns: dict[str, Any] = {}
    if batch.table is not None:
        carried = batch.table.iloc[positions]
        columns = {str(name): carried[name].array for name in carried.columns}
    for name in batch.names:
        if name not in columns:
            columns[name] = _infer([f.row.inputs.get(name) for f in rows])
    columns |= _outputs([f.answer for f in rows], outputs)
    if batch.repeat > 1:
        columns["sample"] = [f.row.sample for f in rows]
    columns |= _outcome(rows) | _time(rows) | _usage(rows)
    return pd.DataFrame(columns, index=index)


def order_of(df: pd.DataFrame) -> int:
    """A number that tells whether rows have come, gone or moved since it was last taken."""
    hashes = pd.util.hash_pandas_object(df.index, index=False).to_numpy()
    return zlib.crc32(hashes.tobytes())


def outputs_of(df: pd.DataFrame, batch: Batch) -> list[str]:
    """The columns of a run's outputs."""
    own = {*batch.names, "sample", *map(str, getattr(batch.table, "columns", ()))}
    return [n for n in df.columns[: df.columns.get_loc("status")] if n not in own]


def _index(index: Any, positions: list[int]) -> Any:
    if index is not None:
        return index.take(positions)
    return pd.RangeIndex(len(positions)) if positions == list(range(len(positions))) else positions


def _outputs(answers: list[Answer | None], fields: Mapping[str, Field]) -> dict[str, Any]:
    columns = {}
    for name, field in fields.items():
        values = [None if a is None else a.outputs.get(name) for a in answers]
        columns[name] = _typed(values, field)
    for name in dict.fromkeys(n for a in answers if a is not None for n in a.outputs):
        if name not in columns:
            columns[name] = _infer([None if a is None else a.outputs.get(name) for a in answers])
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
    except UnicodeEncodeError:  # half a surrogate pair, which no text column or file can hold
        return pd.array([None if v is None else writable(v) for v in values], dtype=dtype)
    except (OverflowError, TypeError, ValueError):  # 2**70 is no Int64
        return _objects(values)


def _objects(values: list[Any]) -> Any:
    return pd.Series(values, dtype=object).array


def _outcome(rows: Sequence[RowFinished]) -> dict[str, Any]:
    errors = [f.error if f.status != "ok" else None for f in rows]
    names = [None if e is None else type(e).__name__ for e in errors]
    return {
        "status": pd.Categorical([f.status for f in rows], categories=list(STATUSES)),
        "error_type": pd.array(names, dtype="str"),
        "error": pd.array([None if e is None else message_of(e) for e in errors], dtype="str"),
        "attempts": pd.array([f.attempts for f in rows], dtype="int64"),
        "cached": pd.array([f.answer is not None and f.answer.cached for f in rows], dtype="bool"),
    }


def _time(rows: Sequence[RowFinished]) -> dict[str, Any]:
    stamps = pd.to_datetime(pd.Series([f.started_at for f in rows], dtype="float64"), unit="s")
    return {
        "latency_ms": pd.array([f.latency_ms for f in rows], dtype="float64"),
        "queued_ms": pd.array([f.queued_ms for f in rows], dtype="float64"),
        "waited_ms": pd.array([f.waited_ms for f in rows], dtype="float64"),
        "started_at": stamps.dt.as_unit("us").dt.tz_localize("UTC").array,
    }


def _usage(rows: Sequence[RowFinished]) -> dict[str, Any]:
    usages = [f.usage if f.usage is not None else _NO_USAGE for f in rows]
    models = [f.answer.model if f.answer else None for f in rows]
    reasons = [f.answer.finish_reason if f.answer else None for f in rows]
    return {
        "prompt_tokens": _array([u.prompt_tokens for u in usages], "Int64"),
        "completion_tokens": _array([u.completion_tokens for u in usages], "Int64"),
        "total_tokens": _array([u.total_tokens for u in usages], "Int64"),
        "cost_usd": _array([u.cost_usd for u in usages], "float64"),
        "model": _array(models, "str"),
        "finish_reason": _array(reasons, "str"),
    }


_NO_USAGE = Usage(None, None, None, None)


def metrics_of(df: pd.DataFrame) -> ParallelMetrics:
    """The metrics of the run that made `df`; those of its rows where `attrs` were lost (merge,
    csv) or rows came or went since (filter, concat).

    From rows alone, `elapsed_s` spans the first start to the last end and `max_in_flight` is 0.
    """
    about = df.attrs.get("pardspy", {})
    kept = about.get("metrics")
    if kept is not None and about.get("rows") == len(df):
        usages = {n: None if kept[n] is None else Usage(**kept[n]) for n in ("usage", "saved")}
        return ParallelMetrics(**kept | {"latency": Latency(**kept["latency"])} | usages)
    counts = df["status"].value_counts()
    ok = df["status"] == "ok"
    cached = df["cached"].eq(True)
    began = pd.to_datetime(df["started_at"], utc=True, format="ISO8601")  # text, from a csv
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
    )


def _usage_of(df: pd.DataFrame) -> Usage | None:
    reported = df[df["prompt_tokens"].notna() | df["cost_usd"].notna()]
    names = ["prompt_tokens", "completion_tokens", "total_tokens", "cost_usd"]
    columns = [[None if pd.isna(v) else v for v in reported[name].tolist()] for name in names]
    times_ms = reported["latency_ms"].fillna(0).tolist()  # cached rows have none
    return total(Usage(*values) for values in zip(*columns, times_ms, strict=True))


def summarize(df: pd.DataFrame) -> Summary:
    """The run that made `df`, at a glance."""
    about = df.attrs.get("pardspy", {})
    failed, ok = df[df["status"] == "failed"], df[df["status"] == "ok"]
    groups = ErrorGroups()
    for error_type, message, index in zip(
        failed["error_type"], failed["error"], failed.index, strict=True
    ):
        groups.add(error_type, message, index)
    return Summary(
        metrics_of(df),
        groups.largest_first(),
        ok.loc[~ok["cached"].eq(True), "latency_ms"].tolist(),
        {name: df[name].value_counts(sort=False).to_dict() for name in _class_outputs(df)},
        _settings(about),
        bool(about.get("remembers")),
        about.get("ended") or "",
    )


def _class_outputs(df: pd.DataFrame) -> list[str]:
    declared = df.attrs.get("pardspy", {}).get("signature", {}).get("outputs")
    names = df.columns[: df.columns.get_loc("status")] if declared is None else declared
    return [n for n in names if n in df and isinstance(df[n].dtype, pd.CategoricalDtype)]


def _settings(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    """What the run was set to, as far as it says something."""
    options = about.get("options", {})
    names = ("max_workers", "max_failures", "max_attempts", "repeat", "timeout_s", "fail_fast",
             "only_successful", "max_cost_usd")  # fmt: skip
    shown = [("model", about.get("model")), ("module", about.get("module"))]
    shown += [(n, options.get(n)) for n in names]
    if options and options.get("max_failures") is None:
        shown.append(("max_failures", "any number"))
    return [
        (name, str(value)) for name, value in shown
        if not (value is None or value is False or (name == "repeat" and value == 1))
    ]  # fmt: skip
