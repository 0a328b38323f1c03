"""Writes remembered answers to a file, one chunk at a time."""

from __future__ import annotations

import csv
import json
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from itertools import islice
from pathlib import Path
from typing import Any

from ..core.written_files import written_beside

_CHUNK = 10_000  # rows that are in memory at a time
_ANSWER = (
    "input",
    "answer",
    "model",
    "finish_reason",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cost_usd",
    "latency_ms",
    "source",
    "answered_at",
    "attempts",
    "repaired",
)
_SOURCE = ("signature", "prompt_sha256", "weights", "endpoint", "params", "prices", "packages")
COLUMNS = (*_ANSWER, "requested_model", *_SOURCE)


def write(path: Path, answers: Iterable[tuple[Any, ...]]) -> int:
    """Write answers (the fields of `Kept`, then the source's JSON) to a file.

    Returns:
        How many answers were written.

    Raises:
        ValueError: the path has an unknown ending.
    """
    writers = {".parquet": _parquet, ".jsonl": _jsonl, ".csv": _csv}
    writer = writers.get(path.suffix.lower())
    if writer is None:
        raise ValueError(f"cannot write {str(path)!r}: the path must end in {', '.join(writers)}")
    with written_beside(path) as new:
        return writer(new, map(_record, answers))


def _record(answer: tuple[Any, ...]) -> dict[str, Any]:
    *kept, about = answer
    record = dict(zip(_ANSWER, kept, strict=True))
    record["answered_at"] = datetime.fromtimestamp(record["answered_at"], UTC)
    source = json.loads(about) if about else {}
    record["requested_model"] = source.get("model")
    return record | {name: source.get(name) for name in _SOURCE}


def _flat(record: dict[str, Any]) -> dict[str, Any]:
    """The record with nested values as JSON text, for formats that have only plain columns."""
    nested = {n: json.dumps(v) for n, v in record.items() if isinstance(v, dict | list)}
    return record | nested


def _jsonl(path: Path, results: Iterable[dict[str, Any]]) -> int:
    count = 0
    with path.open("w", encoding="utf-8") as file:
        for record in results:
            file.write(json.dumps(record, ensure_ascii=False, default=datetime.isoformat) + "\n")
            count += 1
    return count


def _csv(path: Path, results: Iterable[dict[str, Any]]) -> int:
    count = 0
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.DictWriter(file, COLUMNS)
        writer.writeheader()
        for record in results:
            writer.writerow(_flat(record))
            count += 1
    return count


def _parquet(path: Path, results: Iterator[dict[str, Any]]) -> int:
    import pyarrow as pa
    import pyarrow.parquet as pq

    integers, floats = (
        ("prompt_tokens", "completion_tokens", "total_tokens", "attempts"),
        ("cost_usd", "latency_ms"),
    )
    types: dict[str, Any] = dict.fromkeys(integers, pa.int64()) | dict.fromkeys(
        floats, pa.float64()
    )
    types["answered_at"] = pa.timestamp("us", tz="UTC")
    schema = pa.schema([(name, types.get(name, pa.string())) for name in COLUMNS])
    count = 0
    with pq.ParquetWriter(path, schema) as writer:
        while chunk := [_flat(record) for record in islice(results, _CHUNK)]:
            writer.write_table(pa.Table.from_pylist(chunk, schema))
            count += len(chunk)
    return count
