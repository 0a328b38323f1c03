"""What carries a run over many processes: measured here with two, simulated with a thousand.

    python benchmarks/scale.py [ROUNDS]

Measured: rows through a Dask cluster of two worker processes on this machine, with a function that
does nothing (what the run itself costs: processor time of this process, of the scheduler and of
the workers) and at an endpoint that answers after 5 ms. Simulated, on a virtual clock: real fleets
and workers with a made-up network and a made-up endpoint of realistic latencies (see
`tests/support/simulated_cluster.py`); only counts and times of the virtual clock are shown.
"""

from __future__ import annotations

import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE), str(HERE.parent / "tests")]

ROWS = 20_000


async def nothing(i: int) -> dict[str, int]:
    return {"i2": i}


def cpu_s() -> float:
    times = os.times()
    return times.user + times.system


def through_a_cluster(client: Any, module: Any, data: Any, **options: Any) -> dict[str, float]:
    """CPU and wall seconds a row of this process, and CPU of the workers."""
    import pardspy_nb as pn

    workers = sum(client.run(cpu_s).values())
    cpu, start = time.process_time(), time.perf_counter()
    df = pn.run_parallel(module, data, executor=client, store=None, progress="none", **options)
    wall, cpu = time.perf_counter() - start, time.process_time() - cpu
    assert (df["status"] == "ok").all()
    per_row = 1e6 / len(df)
    return {
        "rows/s": len(df) / wall,
        "µs here": cpu * per_row,
        "µs at workers": (sum(client.run(cpu_s).values()) - workers) * per_row,
    }


def measured(rounds: int) -> None:
    from compare import Server
    from distributed import Client, LocalCluster

    import pardspy_nb as pn

    signature = (
        pn.Signature("Analyze customer review sentiment")
        .add_input("review", str, "Customer review text")
        .add_class_output("sentiment", ["positive", "neutral", "negative"])
        .add_output("reason", str)
    )
    server = Server(5)
    predict = pn.Predict(signature, pn.LM("m", base_url=f"{server.url}/v1", api_key="k"))
    texts = [f"row-{i} is a review" for i in range(8000)]
    alone = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    # the scheduler shares this process, so what is measured here holds its work, too
    with LocalCluster(n_workers=2, **alone) as cluster, Client(cluster) as client:
        cases = {
            "a function that does nothing, 64 in flight": (nothing, {"i": range(ROWS)}, 64),
            "an endpoint of 5 ms, 128 in flight": (predict, {"review": texts}, 128),
        }
        for name, (module, data, workers) in cases.items():
            through_a_cluster(client, module, data, max_workers=workers)  # pays for imports
            runs = [
                through_a_cluster(client, module, data, max_workers=workers) for _ in range(rounds)
            ]
            shown = {key: f"{statistics.median(r[key] for r in runs):,.0f}" for key in runs[0]}
            print(name, shown, flush=True)
    server.stop()


def simulated() -> None:
    from support.simulated_cluster import World, simulate

    cases: list[tuple[int, int, int, dict[str, Any], dict[str, Any]]] = [
        (1, 40_000, 400, {}, {}),
        (100, 40_000, 400, {}, {}),
        (1000, 200_000, 4000, {}, {}),
        (1000, 200_000, 4000, {}, {"hedge": 0.95}),
        (1000, 200_000, 4000, {"deaths_a_minute": 10}, {}),
        (1000, 200_000, 4000, {"faults": 0.01}, {}),
        (1000, 60_000, 4000, {}, {"rpm": 60_000}),
    ]
    for n_workers, rows, in_flight, more, options in cases:
        world = World(n_workers, **more)
        outcome = simulate(world, rows, max_workers=in_flight, **options)
        assert outcome.ok == rows
        print(
            f"{n_workers:,} workers, {in_flight:,} in flight, {rows:,} rows, {more | options}: "
            f"99 % after {outcome.bulk_s:.0f} s, all after {outcome.elapsed_s:.0f} s; "
            f"{outcome.use:.0%} in use till then; at most "
            f"{world.max_in_flight:,} in flight, {world.most_in(60):,} requests in a minute, "
            f"{sum(world.asked.values()) - rows:,} rows asked twice, {world.deaths} deaths, "
            f"{world.messages / rows:.2f} messages a row",
            flush=True,
        )


if __name__ == "__main__":
    measured(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
    simulated()
