"""From parquet to parquet: 10,000 rows, then 1,000,000, through a model that answers at once in
this process. Resident cache is read while the run goes on; the store is off.

    python benchmarks/files.py [ROWS]
"""

from __future__ import annotations

import asyncio
import gc
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq

import pardspy_nb as pn

WORKERS, SMALL = 64, 10_000
SIGNATURE = (
    pn.Signature("Analyze customer review sentiment")
    .add_input("review", str)
    .add_class_output("sentiment", ["positive", "neutral", "negative"])
    .add_output("reason", str)
)


class Instant:
    """A model in this process."""

    cache_identity = {"model": "instant"}  # noqa: RUF012 - a constant
    timeout_s = None

    async def complete(self, messages: Any, **more: Any) -> pn.Completion:
        await asyncio.sleep(0)
        number = messages[-1]["content"].partition("row-")[2].partition(":")[0]
        text = json.dumps({"sentiment": "positive", "reason": f"because of row-{number}"})
        return pn.Completion(text, pn.Usage(300, 20, 320, 1e-5, 1.0), "instant", "stop")


def resident_mb() -> float:
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) / 1024
    return 0.0


def make(path: Path, rows: int) -> None:
    schema = pa.schema([("id", pa.int64()), ("review", pa.string())])
    with pq.ParquetWriter(path, schema) as writer:
        for first in range(0, rows, 50_000):
            ids = list(range(first, min(rows, first + 50_000)))
            reviews = [f"row-{i}: a good thing, it came in time" for i in ids]
            writer.write_table(pa.table({"id": ids, "review": reviews}, schema=schema))


def measure(rows: int, folder: Path) -> dict[str, float]:
    """Of this process; one size each, so that none profits from another's cache."""
    source, target = folder / "reviews.parquet", folder / "answers.parquet"
    predict = pn.Predict(SIGNATURE, Instant())
    make(source, 1000)
    pn.run_to_parquet(predict, source, target, store=None, progress="none")  # imports
    make(source, rows)
    gc.collect()
    start_mb, peak_mb, over = resident_mb(), [0.0], threading.Event()

    def watch() -> None:
        while not over.wait(0.2):
            peak_mb.append(resident_mb())

    threading.Thread(target=watch, daemon=True).start()
    cpu, wall = time.process_time(), time.perf_counter()
    metrics = pn.run_to_parquet(
        predict, source, target, max_workers=WORKERS, store=None, progress="none"
    )
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    over.set()
    assert metrics.successes == rows
    number = 0
    for batch in pq.ParquetFile(target).iter_batches(columns=["id", "reason"]):
        for i, reason in zip(*(c.to_pylist() for c in batch.columns), strict=True):
            assert i == number, "in order"
            assert reason == f"because of row-{i}", "each row its own answer"
            number += 1
    assert number == rows
    return {
        "rows": rows,
        "us": cpu / rows * 1e6,
        "rows_per_s": rows / wall,
        "mb": max(peak_mb) - start_mb,
    }


def main(rows: int) -> None:
    results = []
    for n in (SMALL, rows):
        for _ in range(5 if n == SMALL else 1):
            done = subprocess.run(
                [sys.executable, __file__, "one", str(n)],
                capture_output=True,
                text=True,
                check=True,
            )
            results.append(json.loads(done.stdout))
    small = sorted(r["us"] for r in results[:-1])[2]
    large = results[-1]
    print(f"{SMALL:,} rows: {small:.0f} us CPU a row (median of 5)")
    print(
        f"{rows:,} rows: {large['us']:.0f} us CPU a row ({large['us'] / small - 1:+.0%}), "
        f"{large['rows_per_s']:,.0f} rows a second, at most {large['mb']:.0f} MB above the start"
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        with tempfile.TemporaryDirectory() as folder:
            print(json.dumps(measure(int(sys.argv[2]), Path(folder))))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 1_000_000)
