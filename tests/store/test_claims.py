"""Several runs with the same rows at once pay for each once."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.scripted_server import Reply, ScriptedServer
from support.waiting import eventually

import pardspy_nb as pn
from pardspy_nb.store import claims
from pardspy_nb.store.sqlite import Store

pytestmark = pytest.mark.slow
QUIET: dict[str, Any] = {"progress": "none"}
CHILD = """
import sys, pardspy_nb as pn
signature = (pn.Signature("Analyze customer review sentiment")
    .add_input("review", str, "Customer review text")
    .add_class_output("sentiment", ["positive", "neutral", "negative"], "Overall sentiment")
    .add_output("reason", str, "Brief explanation"))
lm = pn.LM("gpt-4o-mini", base_url=sys.argv[1], api_key="k")
rows = [f"row-{i}" for i in range(int(sys.argv[3]))]
df = pn.run_parallel(pn.Predict(signature, lm), rows, store=sys.argv[2], max_workers=8,
                     progress="none")
assert df["reason"].tolist() == rows
print(int(df["cached"].sum()))
"""


def child(server: ScriptedServer, path: Path, n: int) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", CHILD, server.url, str(path), str(n)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


@pytest.mark.slow
def test_processes_with_the_same_rows_at_once_pay_for_each_once(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.delay_s = 0.01
    children = [child(server, tmp_path / "s.sqlite", 600) for _ in range(3)]
    assert [process.wait(120) for process in children] == [0, 0, 0]
    asked = list(server.attempts.values())
    assert len(asked) == 600
    # a claim that cannot be written for a moment, on a busy machine, is not waited for
    assert 600 <= sum(asked) < 800
    cached = sum(int(process.stdout.read()) for process in children if process.stdout)
    assert cached == 1800 - sum(asked)


def test_background_runs_with_the_same_rows_pay_for_each_once(
    server: ScriptedServer, predict: pn.Predict
) -> None:
    server.delay_s = 0.02
    rows = [f"row-{i}" for i in range(300)]
    runs = [pn.start_parallel(predict, rows, max_workers=8, **QUIET) for _ in range(3)]
    for run in runs:
        assert run.result()["reason"].tolist() == rows
    assert 300 <= len(server.requests) < 400  # see above


def test_two_retries_at_once_pay_once(server: ScriptedServer, predict: pn.Predict) -> None:
    server.script = lambda marker, attempt: Reply("status", code=413)
    rows = [f"row-{i}" for i in range(40)]
    frames = [pn.run_parallel(predict, rows, max_failures=None, **QUIET) for _ in range(2)]
    server.script = lambda marker, attempt: Reply()
    server.attempts.clear()
    server.delay_s = 0.05
    threads = [threading.Thread(target=df.parallel.retry_failed) for df in frames]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all((df["status"] == "ok").all() for df in frames)
    assert set(server.attempts.values()) == {1}


def test_what_failed_elsewhere_is_asked_here(server: ScriptedServer, predict: pn.Predict) -> None:
    server.gate = threading.Event()
    server.script = lambda marker, attempt: (
        Reply("status", code=400, message="prompt is too long") if attempt == 1 else Reply()
    )
    rows = [f"row-{i}" for i in range(10)]
    options = QUIET | {"max_failures": None, "retry_hopeless": True}
    first = pn.start_parallel(predict, rows, max_workers=10, **options)
    eventually(lambda: len(server.requests) == 10, "the first run has sent all rows")
    second = pn.start_parallel(predict, rows, **options)
    server.gate.set()
    assert (first.result()["status"] == "failed").all()
    assert (second.result()["status"] == "ok").all()


@pytest.mark.slow
def test_the_claims_of_a_killed_process_are_free_at_once(
    server: ScriptedServer, predict: pn.Predict, tmp_path: Path
) -> None:
    server.delay_s = 30
    path = tmp_path / "s.sqlite"
    process = child(server, path, 20)
    while not server.requests:
        time.sleep(0.01)
    process.kill()
    process.wait()
    server.delay_s = 0
    began = time.monotonic()
    df = pn.run_parallel(predict, [f"row-{i}" for i in range(20)], store=path, **QUIET)
    assert (df["status"] == "ok").all()
    assert time.monotonic() - began < 5


def test_claims_without_a_beat_end(
    server: ScriptedServer, predict: pn.Predict, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As those of another machine that is gone."""
    pn.run_parallel(predict, ["row-99"], **QUIET)
    other, mine = claims.Claims(), claims.Claims()
    other._host = "elsewhere"
    store = Store(store_path)
    keys = [bytes([i]) * 32 for i in range(3)]
    assert other.take(store._db, keys) == (set(), set())
    assert mine.take(store._db, keys).elsewhere == set(keys)
    monkeypatch.setattr(claims.time, "time", lambda: 10**10)
    assert mine.take(store._db, keys).elsewhere == set()
    store.close()


def test_a_row_that_waits_too_long_is_asked_and_counted(
    server: ScriptedServer, predict: pn.Predict
) -> None:
    server.latency_s = lambda marker: 3.0 if server.attempts[marker] == 1 else 0.0
    first = pn.start_parallel(predict, ["row-1"], **QUIET)
    while not server.requests:
        time.sleep(0.005)
    with pytest.warns(RuntimeWarning, match="1 rows were asked although another run had them"):
        df = pn.run_parallel(predict, ["row-1"], outage_s=0.3, **QUIET)
    assert (df["status"] == "ok").all()
    assert server.attempts[1] == 2
    first.result()


def test_a_cancelled_run_leaves_no_claims(
    server: ScriptedServer, predict: pn.Predict, store_path: Path
) -> None:
    server.delay_s = 0.05
    run = pn.start_parallel(predict, [f"row-{i}" for i in range(200)], max_workers=2, **QUIET)
    while not server.requests:
        time.sleep(0.005)
    run.cancel()
    run.result()
    store = Store(store_path)
    for table in ("claims", "owners"):
        assert store._db.execute(f"SELECT count(*) FROM {table}").fetchone() == (0,)
    store.close()


def test_a_store_of_before_gets_what_it_lacks(tmp_path: Path, predict: pn.Predict) -> None:
    import shutil

    path = tmp_path / "old.sqlite"
    shutil.copy(Path(__file__).parents[1] / "data/store-0.1.sqlite", path)
    before = pn.store.info(path).answers
    pn.run_parallel(predict, ["row-1"], store=path, **QUIET)
    assert pn.store.info(path).answers == before + 1


def test_rows_of_a_stream_are_claimed_too(server: ScriptedServer, predict: pn.Predict) -> None:
    server.delay_s = 0.03
    rows = [f"row-{i}" for i in range(60)]
    run = pn.start_parallel(predict, iter(rows), max_workers=4, **QUIET)
    df = pn.run_parallel(predict, pd.DataFrame({"review": rows}), max_workers=4, **QUIET)
    run.result()
    assert df["reason"].tolist() == rows
    assert set(server.attempts.values()) == {1}
