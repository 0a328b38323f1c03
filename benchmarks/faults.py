"""500 rows of which 4 % meet a 429, 2 % a 500 and 2 % a stall of 30 s, each on their first four
attempts: how long it takes until all are answered, and whether each request is counted.

    python benchmarks/faults.py [ROUNDS]
"""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

from compare import Server

sys.path.insert(0, str(Path(__file__).parent / "clients"))

from common import correct, review
from ours import SIGNATURE

import pardspy_nb as pn

ROWS, IN_FLIGHT = 500, 64


def measure(**options: object) -> tuple[float, int, int]:
    """(seconds, requests, duplicates)."""
    server = Server(50, "faults")
    try:
        lm = pn.LM("mock", base_url=f"{server.url}/v1", api_key="none", price=(1, 4))
        began = time.perf_counter()
        df = pn.run_parallel(
            pn.Predict(SIGNATURE, lm),
            [review(i) for i in range(ROWS)],
            max_workers=IN_FLIGHT,
            store=None,
            progress="none",
            max_attempts=8,
            **options,
        )
        took_s = time.perf_counter() - began
        requests = server.stats()["requests"]
    finally:
        server.stop()
    answers = zip(df["sentiment"], df["reason"], strict=True)
    assert all(correct(i, *answer) for i, answer in enumerate(answers)), "no row is lost"
    assert df["attempts"].sum() == requests, "each request counts as an attempt"
    return took_s, requests, df.parallel.metrics.duplicates


def main(rounds: int) -> None:
    for name, options in {
        "timeout_s=0.5": {"timeout_s": 0.5},
        "timeout_s=1, hedge=0.95": {"timeout_s": 1, "hedge": 0.95},
    }.items():
        runs = [measure(**options) for _ in range(rounds)]
        seconds = sorted(run[0] for run in runs)
        print(
            f"{name}: {statistics.median(seconds):.1f} s ({seconds[0]:.1f} to {seconds[-1]:.1f}), "
            f"requests {[run[1] for run in runs]}, duplicates {[run[2] for run in runs]}"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
