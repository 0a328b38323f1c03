"""The embedded model: rows a second and processor time, filling in beside a grammar for the whole.

    python benchmarks/local.py [ROUNDS]

The demo's 65 reviews on the default model, medians of the rounds. The processor time is that of the
model's process, so other work on the machine does not count. "Both cores busy" has two processes
beside it that do nothing but compute.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent / "examples"))

from sentiment import load_reviews

import pardspy_nb as pn
from pardspy_nb.llm.local import endpoint, server

LABELS = ["positive", "neutral", "negative"]


class Measured(NamedTuple):
    rows_per_s: float
    cpu_s: float
    tokens: float
    first_s: float
    labels: list[str]


def signature(*, reason: bool) -> pn.Signature:
    made = (
        pn.Signature("Analyze customer review sentiment")
        .add_input("review", str, "Customer review text")
        .add_class_output("sentiment", LABELS, "Overall sentiment")
    )
    return (
        made.add_output("reason", str, "Brief explanation, at most ten words") if reason else made
    )


def cpu_s(process: int) -> float:
    fields = Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def measure(*, reason: bool, fills_in: bool) -> Measured:
    # a grammar for the whole answer is what a request of another kind gets
    found: Callable[..., object] = endpoint.slots_of
    if not fills_in:
        endpoint.slots_of = lambda body: None  # type: ignore[assignment]
    try:
        lm = pn.LM("local", threads=2)
        lm.serve()
        process = next(s._process.pid for s in server.servers.values() if s.alive)
        before, began = cpu_s(process), time.perf_counter()
        df = pn.run_parallel(
            pn.Predict(signature(reason=reason), lm),
            load_reviews(),
            store=None,
            progress="none",
            max_failures=0.2,
        )
        took_s = time.perf_counter() - began
    finally:
        endpoint.slots_of = found  # type: ignore[assignment]
    return Measured(
        len(df) / took_s,
        (cpu_s(process) - before) / len(df),
        float(df["completion_tokens"].mean()),
        float((df["queued_ms"] + df["latency_ms"]).min() / 1e3),
        df["sentiment"].astype(str).tolist(),
    )


@contextmanager
def burning(processes: int) -> Iterator[None]:
    burners = [
        subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(processes)
    ]
    try:
        yield
    finally:
        for burner in burners:
            burner.kill()
            burner.wait()


def main(rounds: int) -> None:
    print("| | rows/s | CPU s a row | tokens a row | first row s | agreement |")
    print("|---|---:|---:|---:|---:|---:|")
    for reason in (False, True):
        usual: list[str] = []
        for name, fills_in, busy in (
            ("a grammar for the whole answer", False, 0),
            ("filling in", True, 0),
            ("filling in, both cores busy", True, 2),
        ):
            with burning(busy):
                runs = [measure(reason=reason, fills_in=fills_in) for _ in range(rounds)]
            figures = [statistics.median(run[i] for run in runs) for i in range(4)]
            labels = runs[0].labels
            usual = usual or labels
            same = sum(a == b for a, b in zip(labels, usual, strict=True)) / len(labels)
            what = "label and reason" if reason else "label"
            print(
                f"| {what}: {name} | {figures[0]:.2f} | {figures[1]:.2f} | {figures[2]:.0f} | "
                f"{figures[3]:.1f} | {same:.2f} |",
                flush=True,
            )


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 3)
