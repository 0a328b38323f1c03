"""Whether a second process would pay: the same rows in one process, and halves in two at once, at
an endpoint that answers after 5 ms. That is far quicker than any model; it makes the client the
bottleneck.

    python benchmarks/processes.py [ROUNDS]
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import time

from compare import HERE, OUR_PYTHON, Server

ROWS, IN_FLIGHT = 8000, 128


def rows_per_s(processes: int) -> float:
    """Of all processes together; each tells its own time, without its imports."""
    server = Server(5)
    command = [
        OUR_PYTHON,
        str(HERE / "clients" / "ours.py"),
        f"{server.url}/v1",
        str(ROWS // processes),
        str(IN_FLIGHT // processes),
    ]
    running = [
        subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)
        for _ in range(processes)
    ]
    found = [json.loads(p.communicate()[0].strip().splitlines()[-1]) for p in running]
    server.stop()
    assert all(f["right"] == f["rows"] for f in found)
    return sum(f["rows_per_s"] for f in found)


def main(rounds: int) -> None:
    for processes in (1, 2):
        rates = []
        for _ in range(rounds):
            rates.append(rows_per_s(processes))
            time.sleep(0.5)
        print(
            f"{processes} process(es): {statistics.median(rates):,.0f} rows a second "
            f"({min(rates):,.0f} to {max(rates):,.0f})"
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
