"""The engine alone, and the whole of a run, with a function that does nothing.

    python benchmarks/engine.py [ROUNDS]

Each figure is the median of several fresh processes. "Engine alone" is rows in, events out, each
event handed to a function; "a run" is `run_parallel` with its threads, displays off, frame built.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import statistics
import subprocess
import sys
import time
from typing import Any

import pardspy_nb as pn
from pardspy_nb.core.clock import SystemClock
from pardspy_nb.core.events import Answer, Event, Row
from pardspy_nb.engine.config import EngineConfig
from pardspy_nb.engine.engine import Engine
from pardspy_nb.engine.policies import FailurePolicy, RetryPolicy

WORKERS = 64
SIZES = (1_000, 10_000, 100_000)


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def engine_alone(n: int) -> float:
    rows = [Row(i, i, 0, {"i": i}) for i in range(n)]
    seen = [0]

    async def nothing(row: Row) -> Answer:
        return Answer({"output": row.number})

    def emit(event: Event) -> None:
        seen[0] += 1

    async def main() -> None:
        await Engine(
            iter(rows),
            nothing,
            emit,
            EngineConfig(
                total=n, max_workers=WORKERS, retry=RetryPolicy(), failure=FailurePolicy()
            ),
            clock=SystemClock(),
        ).run()

    cpu = time.process_time()
    asyncio.run(main())
    cpu = time.process_time() - cpu
    assert seen[0] >= 2 * n
    return cpu


def a_run(n: int, function: Any) -> float:
    data = {"i": list(range(n))}
    options: dict[str, Any] = {"max_workers": WORKERS, "progress": "none", "store": None}
    cpu = time.process_time()
    df = pn.run_parallel(function, data, **options)
    cpu = time.process_time() - cpu
    assert (df["output"] == df["i"]).all()
    return cpu


async def async_nothing(i: int) -> int:
    return i


def sync_nothing(i: int) -> int:
    return i


KINDS = {
    "engine alone, async": engine_alone,
    "a run, async": lambda n: a_run(n, async_nothing),
    "a run, sync, 64 threads": lambda n: a_run(n, sync_nothing),
}


def one(kind: str, n: int) -> None:
    KINDS[kind](100)
    gc.collect()
    before = peak_mb()
    cpu = KINDS[kind](n)
    print(json.dumps({"us": cpu / n * 1e6, "mb": peak_mb() - before}))


def main(rounds: int) -> None:
    for kind in KINDS:
        for n in SIZES:
            runs = [
                json.loads(
                    subprocess.run(
                        [sys.executable, __file__, "one", kind, str(n)],
                        capture_output=True,
                        text=True,
                        check=True,
                    ).stdout
                )
                for _ in range(rounds)
            ]
            us = [r["us"] for r in runs]
            mb = statistics.median(r["mb"] for r in runs)
            print(
                f"{kind:>24}, {n:>7,} rows: {statistics.median(us):5.1f} us CPU a row "
                f"({min(us):.1f} to {max(us):.1f}), {mb:+.0f} MB with the rows"
            )


if __name__ == "__main__":
    if sys.argv[1:2] == ["one"]:
        one(sys.argv[2], int(sys.argv[3]))
    else:
        main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
