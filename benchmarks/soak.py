"""Rows through a hostile hour: what is lost, wrong, paid twice, over budget, and what grows.

    python benchmarks/soak.py [MINUTES]

Two processes ask the same rows with one store. The endpoint limits, fails, hangs, breaks off and
garbles answers at random; runs are paused, resumed, resized, cut short and cancelled; one of the
two processes is interrupted and killed again and again, and two others keep both cores busy. A run
that ends early is called again until every row is answered, as a user would.

Rows, texts and costs are checked in the frames, deliveries at the endpoint. Memory, threads and
open files are those of the process that is never killed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from pathlib import Path
from typing import Any, ClassVar

import server
from server import ROW, Chat, answer_to, label_of

import pardspy_nb as pn

HOUR = 60.0
ROWS, AGAIN = 300, 60  # of one run, and of them rows of earlier runs
IN_FLIGHT = 32
COST_USD = (100 * 1 + 20 * 4) / 1e6  # of one answer of the server


# -- the endpoint -----------------------------------------------------------------------------


class Hostile(Chat):
    """Answers after a random time; a share of the requests meets a fault."""

    delivered: ClassVar[Counter[int]] = Counter()  # answers a client can have read, by row
    faults_met: ClassVar[Counter[str]] = Counter()
    luck = random.Random(1)
    kinds = ("429", "500", "503", "hang", "break", "garbled", "wrong label", "cut")

    def report(self) -> dict[str, Any]:
        return {"delivered": self.delivered, "faults": self.faults_met}

    def _take(self, body: bytes) -> None:
        kind = self.luck.choice(self.kinds) if self.luck.random() < 0.1 else ""
        delay_s = 20.0 if kind == "hang" else self.luck.lognormvariate(-3.5, 0.8)
        asyncio.get_running_loop().call_later(delay_s, self._reply, body, kind)

    def _reply(self, body: bytes, kind: str) -> None:
        if self.transport.is_closing():
            return
        self.faults_met[kind or "none"] += 1
        answer = answer_to(body)
        if kind.isdigit():
            self._write(b'{"error": {"message": "a fault"}}', int(kind))
        elif kind == "break":
            self.transport.abort()
        elif kind == "garbled":
            self._write(answer[: len(answer) // 2])
        elif kind == "wrong label":
            self._write(answer.replace(b"sentiment", b"mood"))
        elif kind == "cut":
            self._write(answer.replace(b'"stop"', b'"length"').replace(b"because", b'"bec'))
        else:
            found = ROW.search(body)
            assert found is not None
            self.delivered[int(found.group(1))] += 1
            self._write(answer)


async def serve() -> None:
    listening = await asyncio.get_running_loop().create_server(Hostile, "127.0.0.1", 0)
    print(listening.sockets[0].getsockname()[1], flush=True)
    await listening.serve_forever()


# -- one of the two processes -------------------------------------------------------------------


def figures() -> dict[str, int]:
    """Memory in kB, threads and open files of this process."""
    gc.collect()
    status = Path("/proc/self/status").read_text()
    rss = next(line for line in status.splitlines() if line.startswith("VmRSS"))
    return {
        "rss_kb": int(rss.split()[1]),
        "threads": threading.active_count(),
        "files": len(os.listdir("/proc/self/fd")),
    }


def steer(luck: random.Random, over: threading.Event) -> None:
    """Do at random what people do to a run."""
    while not over.wait(luck.uniform(0.02, 0.4)):
        run = pn.last_run()
        if run is None or run.done:
            continue
        match luck.randrange(12):
            case 0:
                run.pause()
                over.wait(luck.uniform(0.01, 0.2))
                run.resume()
            case 1:
                run.drop_stragglers()
            case 2 if luck.random() < 0.3:
                run.cancel()
            case 3:
                run.max_workers = luck.choice([1, 8, IN_FLIGHT, "auto"])
            case 4:
                assert len(run.df) <= ROWS


def run_once(predict: pn.Predict, rows: list[str], luck: random.Random, store: Path) -> Any:
    """The frame, however the run ended, and whether it kept to its budget."""
    budget = luck.choice([None, None, None, luck.uniform(0.1, 0.9) * len(rows) * COST_USD])
    df = None
    with contextlib.suppress(KeyboardInterrupt):
        try:
            df = pn.run_parallel(
                predict,
                rows,
                store=store,
                progress="none",
                max_workers=luck.choice([8, IN_FLIGHT]),
                max_failures=None,
                max_cost_usd=budget,
                timeout_s=3,
                outage_s=30,
                hedge=luck.choice([None, 0.95]),
            )
        except pn.ParallelError as error:
            df = error.df
    usage = None if df is None else df.parallel.metrics.usage
    spent = 0.0 if usage is None else usage.cost_usd or 0.0
    return df, budget is not None and spent > budget * (1 + 1e-9)


def work(url: str, store: Path, minutes: float, seed: int) -> None:
    """Runs to the end of the time; a line of JSON for each one."""
    signature = (
        pn.Signature("Analyze customer review sentiment")
        .add_input("review", str)
        .add_class_output("sentiment", server.LABELS)
        .add_output("reason", str)
    )
    predict = pn.Predict(
        signature, pn.LM("mock", base_url=f"{url}/v1", api_key="none", price=(1, 4))
    )
    luck, over = random.Random(seed), threading.Event()
    threading.Thread(target=steer, args=(luck, over), daemon=True).start()
    end = time.monotonic() + minutes * 60
    number = int(os.environ.get("SOAK_FROM", "0"))
    while time.monotonic() < end:
        fresh = range(number * ROWS, number * ROWS + ROWS - AGAIN)
        earlier = [luck.randrange(max(1, number * ROWS)) for _ in range(AGAIN)]
        asked = [*fresh, *(n - n % ROWS for n in earlier)]
        rows = [f"row-{n}" for n in asked]
        found = {"run": number, "calls": 0, "lost": 0, "wrong": 0, "over_budget": 0}
        df = None
        while time.monotonic() < end + 60:
            found["calls"] += 1
            df, is_over = run_once(predict, rows, luck, store)
            found["over_budget"] += is_over
            if df is None:
                continue
            if len(df) != len(rows) or list(df["review"]) != rows:
                found["lost"] += 1
            for n, status, label in zip(asked, df["status"], df["sentiment"], strict=False):
                found["wrong"] += status == "ok" and label != label_of(n)
            if (df["status"] == "ok").all():
                break
        else:
            found["lost"] += 0 if df is None else int((df["status"] != "ok").sum())
        print(json.dumps({**found, **figures()}), flush=True)
        number += 1
    over.set()


# -- the hour -------------------------------------------------------------------------------------


def start(*args: str, log: Any = None, **more: str) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [sys.executable, __file__, *args],
        stdout=subprocess.PIPE,
        stderr=log or subprocess.DEVNULL,
        text=True,
        env={**os.environ, **more},
    )


class Reader:
    """The lines of a process, read as they come."""

    def __init__(self, process: subprocess.Popen[str], into: list[dict[str, int]]) -> None:
        self.process = process
        self._thread = threading.Thread(target=self._read, args=(into,), daemon=True)
        self._thread.start()

    def _read(self, into: list[dict[str, int]]) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with contextlib.suppress(ValueError):  # half a line of a process that was killed
                into.append(json.loads(line))


def hour(minutes: float) -> bool:
    """Whether nothing was lost, wrong or over budget."""
    luck = random.Random(7)
    burn = "while True: pass"
    burners = [subprocess.Popen([sys.executable, "-c", burn]) for _ in range(2)]
    endpoint = start("serve")
    assert endpoint.stdout is not None
    url = f"http://127.0.0.1:{int(endpoint.stdout.readline())}"
    steady: list[dict[str, int]] = []
    killed: list[dict[str, int]] = []
    kills = interrupts = 0
    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryFile("w+") as log:
        store = str(Path(folder) / "answers.sqlite")
        end = time.monotonic() + minutes * 60
        first = start("work", url, store, str(minutes), "1", log=log)
        reader = Reader(first, steady)
        try:
            while (left_s := end - time.monotonic()) > 1:
                begun = str(max([r["run"] for r in steady], default=0))
                victim = start("work", url, store, str(left_s / 60), str(kills), SOAK_FROM=begun)
                Reader(victim, killed)
                until = time.monotonic() + min(luck.uniform(5, 40), left_s)
                while time.monotonic() < until and victim.poll() is None:
                    time.sleep(luck.uniform(0.5, 6))
                    if luck.random() < 0.5:
                        victim.send_signal(signal.SIGINT)
                        interrupts += 1
                victim.kill()
                victim.wait()
                kills += 1
            first.wait(120)
            reader._thread.join(10)
            with urllib.request.urlopen(f"{url}/stats") as answer:
                told = json.load(answer)
            if first.returncode != 0:
                log.seek(0)
                raise RuntimeError(f"the process that is never killed ended: {log.read()[-3000:]}")
        finally:
            for process in (first, endpoint, *burners):
                process.kill()
                process.wait()
    delivered = {int(n): count for n, count in told["delivered"].items()}
    doubled = sum(count - 1 for count in delivered.values())
    bad = {
        name: sum(r[name] for r in (*steady, *killed)) for name in ("lost", "wrong", "over_budget")
    }
    print(f"{minutes:g} minutes, {kills} kills, {interrupts} interrupts; {len(steady)} runs of the")
    print(f"steady process in {sum(r['calls'] for r in steady)} calls, {len(killed)} of the other")
    print(f"the endpoint: {told['faults']}")
    print(f"rows answered: {len(delivered):,}; delivered more than once: {doubled:,}")
    print(", ".join(f"{name.replace('_', ' ')}: {count}" for name, count in bad.items()))
    third = max(1, len(steady) // 3)
    for name in ("rss_kb", "threads", "files"):
        early = statistics.median(r[name] for r in steady[third : 2 * third] or steady)
        late = statistics.median(r[name] for r in steady[-third:])
        print(f"{name}: {early:,.0f} in the second third of the runs, {late:,.0f} in the last")
    return not any(bad.values())


if __name__ == "__main__":
    if sys.argv[1:2] == ["serve"]:
        asyncio.run(serve())
    elif sys.argv[1:2] == ["work"]:
        work(sys.argv[2], Path(sys.argv[3]), float(sys.argv[4]), int(sys.argv[5]))
    else:
        sys.exit(not hour(float(sys.argv[1]) if sys.argv[1:] else HOUR))
