"""Processes killed at any moment: nothing that was paid for is lost, nothing is asked twice."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest
from support.scripted_server import ScriptedServer

import pardspy_nb as pn

WORKERS = 8


# Imports take a second, so one process does them and forks a fresh one for each life. It has
# started no thread and no loop before.
NURSERY = """
import os, sys
import openai, genai_prices, pydantic  # what a run would import
import pardspy_nb as pn

signature = pn.Signature("x").add_input("review").add_output("reason")

def live(url, rows):
    lm = pn.LM("m", base_url=url)
    df = pn.run_parallel(
        pn.Predict(signature, lm), [f"row-{i}" for i in range(rows)], max_workers=8, progress="none"
    )
    assert list(df["reason"]) == [f"row-{i}" for i in range(rows)], "an answer on a wrong row"
    assert list(df["status"].unique()) == ["ok"]

for line in sys.stdin:
    url, rows = line.split()
    child = os.fork()
    if child == 0:
        try:
            live(url, int(rows))
        except BaseException as error:
            print(repr(error), file=sys.stderr, flush=True)
            os._exit(1)
        os._exit(0)
    print(child, flush=True)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
"""


class Nursery:
    """Brings up processes that run a batch, one after another."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-c", NURSERY],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._orders: IO[str] = self._process.stdin
        self._news: IO[str] = self._process.stdout

    def begin(self, url: str, rows: int) -> int:
        """The id of a process that has just begun."""
        self._orders.write(f"{url} {rows}\n")
        self._orders.flush()
        return int(self._news.readline())

    def end(self) -> int:
        """Its exit code, once it has ended."""
        return int(self._news.readline())

    def close(self) -> None:
        self._orders.close()
        self._process.wait()
        self._news.close()


@pytest.fixture
def nursery(store_path: Path) -> Iterator[Nursery]:
    nursery = Nursery()
    yield nursery
    nursery.close()


def answered(server: ScriptedServer) -> int:
    return server.billed_prompt // 11


@pytest.mark.parametrize("seed", range(3))
def test_kills_at_random_points_lose_at_most_the_rows_in_flight(
    server: ScriptedServer, nursery: Nursery, seed: int
) -> None:
    """Eighteen lives end by SIGKILL, at any point from their first breath on; the last one ends
    by itself. Each row has its own answer, and none was asked again that had been settled."""
    dice = random.Random(seed)
    server.latency_s = lambda marker: 0.004 + 0.002 * (marker % 5)
    rows, kills, in_flight = 400, 0, 0
    while kills < 18:
        child = nursery.begin(server.url, rows)
        asked, wanted = len(server.requests), dice.randint(0, 25)
        deadline = time.monotonic() + 20
        while len(server.requests) < asked + wanted and time.monotonic() < deadline:
            time.sleep(0.001)
        time.sleep(dice.random() * 0.02)
        os.kill(child, signal.SIGKILL)
        assert nursery.end() == -signal.SIGKILL, "it had not ended before"
        kills += 1
        in_flight += WORKERS
        while server.in_flight:  # until the server has noticed
            time.sleep(0.001)
    assert nursery.begin(server.url, rows)
    assert nursery.end() == 0
    assert set(server.attempts) == set(range(rows)), "each row was asked"
    assert sum(server.attempts.values()) <= rows + in_flight
    assert answered(server) <= rows + in_flight
    before = len(server.requests)
    assert nursery.begin(server.url, rows)
    assert nursery.end() == 0
    assert len(server.requests) == before, "and all is remembered now"


def test_two_processes_over_one_store_at_once(server: ScriptedServer, store_path: Path) -> None:
    """Both finish with each row's own answer, and what one has settled the other finds."""
    server.latency_s = lambda marker: 0.005
    one, other = Nursery(), Nursery()
    try:
        one.begin(server.url, 600)
        while answered(server) < 300:
            time.sleep(0.001)
        other.begin(server.url, 600)
        assert (one.end(), other.end()) == (0, 0)
    finally:
        one.close()
        other.close()
    assert set(server.attempts) == set(range(600))
    assert sum(server.attempts.values()) < 600 + 300


def test_a_machine_that_slept_only_tries_again(server: ScriptedServer, nursery: Nursery) -> None:
    """The process stands still for longer than the server keeps its connections."""
    server.latency_s = lambda marker: 0.02
    child = nursery.begin(server.url, 200)
    while answered(server) < 50:
        time.sleep(0.001)
    os.kill(child, signal.SIGSTOP)
    server.drop_connections()
    time.sleep(0.5)
    os.kill(child, signal.SIGCONT)
    assert nursery.end() == 0
    assert set(server.attempts) == set(range(200))


def test_an_endpoint_that_is_away_for_a_while_is_waited_for(
    predict: pn.Predict, server: ScriptedServer, fast_retries: None
) -> None:
    """For longer than four attempts take; nothing that could not be sent counts as one."""
    server.latency_s = lambda marker: 0.01
    run = pn.start_parallel(
        predict,
        [f"row-{i}" for i in range(200)],
        max_workers=4,
        outage_s=2000,  # 10 s, see fast_retries
        progress="none",
    )
    while answered(server) < 40:
        time.sleep(0.001)
    port = int(server.url.rsplit(":", 1)[1].split("/")[0])
    server.stop()
    time.sleep(0.8)
    back = ScriptedServer().start(port)
    df = run.result()
    assert (df["status"] == "ok").all()
    assert df["attempts"].max() > 4
    assert list(df["reason"]) == [f"row-{i}" for i in range(200)]
    back.stop()
