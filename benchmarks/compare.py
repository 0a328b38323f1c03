"""The same rows through pardspy_nb and its peers, each in an environment of its own, at one server.

    python benchmarks/compare.py [ROUNDS]

Rounds are interleaved, so that a noisy minute hits all alike. Writes docs/benchmarks.json, from
which `docs/benchmarks.md` and its plot are made.
"""

from __future__ import annotations

import datetime as dt
import json
import os
import platform
import statistics
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
ENVIRONMENTS = HERE.parent / ".bench"
OUR_PYTHON = sys.executable
PEERS = {
    "dspy_parallel": ["dspy==3.4.1"],
    "langchain_batch": ["langchain-openai==1.7.4"],
    "litellm_batch": ["litellm==1.109.1"],
    "curator_llm": ["bespokelabs-curator"],
    "chatlas_parallel": ["chatlas[openai]==0.23.0"],
}
OURS = ("ours", "openai_loop", "aiohttp_loop")
SETTINGS = {"64 in flight, 50 ms": (50, 64, 2000), "512 in flight, 500 ms": (500, 512, 3000)}
SLOW = ("dspy_parallel", "litellm_batch")  # a share of the rows is enough to tell
TIMEOUT_S = 300


def python_of(client: str) -> str:
    """The interpreter of a client's environment, which is made if need be."""
    if client in OURS:
        return OUR_PYTHON
    python = ENVIRONMENTS / client / "bin" / "python"
    if not python.exists():
        print(f"installing {' '.join(PEERS[client])} …", flush=True)
        subprocess.run([OUR_PYTHON, "-m", "venv", str(python.parent.parent)], check=True)
        subprocess.run(
            [
                str(python),
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                *PEERS[client],
            ],
            check=True,
        )
    return str(python)


class Server:
    """The mock server, in a process of its own."""

    def __init__(self, delay_ms: float, *more: str) -> None:
        self._process = subprocess.Popen(
            [OUR_PYTHON, str(HERE / "server.py"), str(delay_ms), *more],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdout is not None
        self.url = f"http://127.0.0.1:{int(self._process.stdout.readline())}"

    def stats(self) -> dict[str, int]:
        """Requests and the most of them open at once, since last asked."""
        with urllib.request.urlopen(f"{self.url}/stats") as answer:
            return dict(json.load(answer))

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait()


def run(client: str, server: Server, rows: int, in_flight: int) -> dict[str, Any] | None:
    """One measurement; None where the client did not finish."""
    server.stats()
    try:
        done = subprocess.run(
            [
                python_of(client),
                str(HERE / "clients" / f"{client}.py"),
                f"{server.url}/v1",
                str(rows),
                str(in_flight),
            ],
            capture_output=True,
            text=True,
            timeout=TIMEOUT_S,
            check=True,
            env={**os.environ, "LITELLM_LOCAL_MODEL_COST_MAP": "True"},
        )
    except (subprocess.TimeoutExpired, subprocess.CalledProcessError) as error:
        print(f"{client}: {error}", file=sys.stderr)
        return None
    found = json.loads(done.stdout.strip().splitlines()[-1])
    return found | {"in_flight": server.stats()["most"]}


def medians(runs: list[dict[str, Any]]) -> dict[str, Any]:
    keys = ("cpu_ms", "rows_per_s", "in_flight")
    middle = {key: statistics.median(r[key] for r in runs) for key in keys}
    return middle | {
        "runs": len(runs),
        "right": all(r["right"] == r["rows"] for r in runs),
        "cpu_ms_from": min(r["cpu_ms"] for r in runs),
        "cpu_ms_to": max(r["cpu_ms"] for r in runs),
    }


def versions() -> dict[str, str]:
    """What each client is, by the package that names it."""
    packages = {"ours": "pardspy_nb", "openai_loop": "openai", "aiohttp_loop": "aiohttp"}
    packages |= {
        client: wanted[0].partition("==")[0].partition("[")[0] for client, wanted in PEERS.items()
    }
    found = {}
    for client, package in packages.items():
        program = f"import importlib.metadata as m; print(m.version({package!r}))"
        done = subprocess.run([python_of(client), "-c", program], capture_output=True, text=True)
        found[client] = f"{package} {done.stdout.strip()}"
    return found


def main(rounds: int) -> None:
    clients = [*OURS, *PEERS]
    for client in clients:
        python_of(client)
    results: dict[str, Any] = {}
    for name, (delay_ms, in_flight, rows) in SETTINGS.items():
        server = Server(delay_ms)
        runs: dict[str, list[dict[str, Any]]] = {client: [] for client in clients}
        for k in range(rounds):
            for client in clients:
                share = rows // 2 if client in SLOW else rows
                if (found := run(client, server, share, in_flight)) is not None:
                    runs[client].append(found)
                    print(f"{name}, round {k + 1}, {client}: {found}", flush=True)
        server.stop()
        results[name] = {client: medians(of) for client, of in runs.items() if of}
    about = {
        "date": dt.date.today().isoformat(),
        "python": platform.python_version(),
        "machine": f"{platform.system()}, {os.cpu_count()} cores, {platform.machine()}",
        "versions": versions(),
        "rounds": rounds,
    }
    target = HERE.parent / "docs" / "benchmarks.json"
    target.write_text(json.dumps(about | {"settings": results}, indent=1) + "\n")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5)
