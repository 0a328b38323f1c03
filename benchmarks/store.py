"""What the store costs: CPU a row beside the same run without it, and reading rows again.

The model answers in this process and at once, so that next to nothing but the toolkit is
measured; a real endpoint's client takes a hundred times as much. Run it with `make bench`.
"""

from __future__ import annotations

import asyncio
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import pardspy_nb as pn

WORKERS = 64


class Instant:
    """A model in this process."""

    cache_identity = {"model": "instant"}  # noqa: RUF012 - a constant
    timeout_s = None

    async def complete(self, messages: Any, **more: Any) -> pn.Completion:
        await asyncio.sleep(0)
        text = '{"sentiment": "positive", "reason": "because the word good is in it"}'
        return pn.Completion(text, pn.Usage(300, 20, 320, 1e-5, 1.0), "instant", "stop")


def measure(rows: list[str], **options: Any) -> tuple[float, float, Any]:
    """CPU µs a row, seconds, the frame."""
    signature = (
        pn.Signature("Analyze customer review sentiment")
        .add_input("review", str)
        .add_class_output("sentiment", ["positive", "neutral", "negative"])
        .add_output("reason", str)
    )
    module = pn.Predict(signature, Instant())
    cpu, wall = time.process_time(), time.perf_counter()
    df = pn.run_parallel(module, rows, max_workers=WORKERS, progress="none", **options)
    wall = time.perf_counter() - wall
    assert (df["status"] == "ok").all()
    assert len(df) == len(rows)
    return (time.process_time() - cpu) / len(rows) * 1e6, wall, df


def main(n: int, rounds: int) -> None:
    rows = [f"review {i}: " + "a good thing, and it came in time. " * 4 for i in range(n)]
    measure(rows[:1000], store=None)  # imports
    none, put, again, again_s = [], [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for k in range(rounds):
            path = Path(folder) / f"{k}.sqlite"
            none.append(measure(rows, store=None, dedupe=False)[0])
            us, _, df = measure(rows, store=path)
            put.append(us)
            assert not df["cached"].any()
            us, seconds, df = measure(rows, store=path)
            again.append(us)
            again_s.append(seconds)
            assert df["cached"].all()
    added = [p - n for p, n in zip(put, none, strict=True)]
    print(f"{n:,} rows, {WORKERS} in flight, medians of {rounds} (lowest to highest)")
    for name, values, unit in (
        ("without a store", none, "us CPU a row"),
        ("into a new store", put, "us CPU a row"),
        ("the store adds (paired)", added, "us CPU a row"),
        ("reading all again", again, "us CPU a row"),
        ("reading all again", again_s, "s"),
    ):
        middle = statistics.median(values)
        print(f"{name:>26}: {middle:7.2f} ({min(values):.2f} to {max(values):.2f}) {unit}")


if __name__ == "__main__":
    main(*(int(value) for value in sys.argv[1:] or ("100000", "3")))
