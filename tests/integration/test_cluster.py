"""Runs over the worker processes of a Dask cluster, against the scripted server."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import dask.dataframe as dd
import pandas as pd
import pytest
from distributed import Client, LocalCluster
from support.scripted_server import COMPLETION_TOKENS, PROMPT_TOKENS, Reply, ScriptedServer

import pardspy_nb as pn


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with (
        LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as client,
    ):
        yield client


@pytest.fixture(autouse=True)
def _no_run_goes_on() -> Iterator[None]:
    """A test that fails must not leave a run to those after it."""
    yield
    from pardspy_nb.runs.open_runs import open_runs

    for run in list(open_runs):
        run.cancel()
        run._thread.done.wait(20)


def frame_of(df: pd.DataFrame) -> pd.DataFrame:
    """What does not depend on the time of day, in pandas' own text type (Dask has another)."""
    df = df.astype({"review": "str"})
    times = ["latency_ms", "queued_ms", "waited_ms", "started_at"]
    return df.drop(columns=[c for c in times if c in df.columns])


def rows(n: int) -> list[str]:
    return [f"row-{i} is a review" for i in range(n)]


def until(condition: Any, timeout_s: float = 60.0) -> None:
    end = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end, "it did not come to that"
        time.sleep(0.01)


def stays(value: Any, seconds: float = 0.5) -> bool:
    """Whether a figure stays what it is: of other processes only time can tell."""
    before = value()
    time.sleep(seconds)
    return bool(value() == before)


def workers(client: Client) -> set[str]:
    return set(client.scheduler_info(n_workers=-1)["workers"])


def pids(client: Client) -> dict[str, int]:
    found: dict[str, int] = client.run(os.getpid)
    return found


def open_engines() -> int:
    from pardspy_nb.executors.cluster import worker_tasks

    return len(worker_tasks._hosted)


def test_the_frame_is_that_of_one_machine(
    client: Client, server: ScriptedServer, predict: pn.Predict
) -> None:
    """Failed, retried and repaired rows included."""
    faults = {3: Reply("wrong_label"), 7: Reply("status", code=500), 11: Reply("status", code=400)}

    def script(marker: int, attempt: int) -> Reply:
        return faults[marker] if marker in faults and (attempt == 1 or marker == 11) else Reply()

    server.script = script
    table = pd.DataFrame({"review": rows(40), "stars": range(40)}, index=range(100, 140))
    options: dict[str, Any] = {"max_failures": None, "store": None, "progress": "none"}
    here = pn.run_parallel(predict, table, **options)
    server.attempts.clear()
    there = pn.run_parallel(predict, table, executor=client, **options)

    pd.testing.assert_frame_equal(frame_of(here), frame_of(there))
    ok = there["status"] == "ok"
    assert there["started_at"].notna().all()
    assert (there.loc[ok, "queued_ms"] >= 0).all()
    assert (there.loc[ok, "latency_ms"] > 0).all()
    assert there.loc[107, "waited_ms"] > 0
    assert there.attrs["pardspy"]["options"]["executor"] == "dask"
    ours, theirs = here.parallel.metrics, there.parallel.metrics
    assert (ours.successes, ours.failures, ours.repaired) == (39, 1, 1)
    assert (theirs.successes, theirs.failures, theirs.repaired) == (39, 1, 1)
    assert theirs.usage is not None
    assert theirs.usage.prompt_tokens == server.billed_prompt / 2


def test_both_processes_work_and_none_has_more_than_its_share(
    client: Client, server: ScriptedServer, predict: pn.Predict
) -> None:
    """`max_workers` is that of the run, whichever process has how many."""

    async def where(i: int) -> int:
        import asyncio

        await asyncio.sleep(0.02)
        return os.getpid()

    df = pn.run_parallel(where, {"i": range(200)}, executor=client, max_workers=8)
    assert set(df["output"]) == set(pids(client).values())

    server.delay_s = 0.02
    df = pn.run_parallel(predict, rows(120), executor=client, max_workers=6, store=None)
    assert server.max_in_flight == 6
    assert df.parallel.metrics.max_in_flight <= 6


def test_max_workers_can_be_changed_on_the_way(
    client: Client, server: ScriptedServer, predict: pn.Predict
) -> None:
    server.delay_s = 0.05
    run = pn.start_parallel(predict, rows(400), executor=client, max_workers=2, store=None)
    until(lambda: run.metrics.successes >= 10)
    assert server.max_in_flight == 2
    run.max_workers = 12
    run.result()
    assert server.max_in_flight == 12


@pytest.mark.parametrize("limit", ["rpm", "tpm"])
def test_limits_a_minute_hold_for_all_processes_together(
    client: Client, server: ScriptedServer, predict: pn.Predict, limit: str
) -> None:
    """In any window, as many as the limit's share of it and half a second's worth."""
    per_s = 20
    value = per_s * 60 * (1 if limit == "rpm" else PROMPT_TOKENS + COMPLETION_TOKENS)
    pn.run_parallel(
        predict, rows(60), executor=client, max_workers=16, store=None, **{limit: value}
    )
    times = server.times_s
    assert len(times) == 60
    for start in times:
        for window_s in (0.5, 1.0, 2.0):
            inside = sum(start <= t < start + window_s for t in times)
            assert inside <= per_s * (window_s + 1.0), (window_s, inside)
    if limit == "rpm":  # and it is used
        assert times[-1] - times[0] < 1.5 * 60 / per_s


def test_retry_after_holds_all_processes(
    client: Client, server: ScriptedServer, predict: pn.Predict
) -> None:
    """Once one row is told to wait, no process sends before the time is over."""
    told_at: list[float] = []

    def script(marker: int, attempt: int) -> Reply:
        if marker == 30 and attempt == 1:
            told_at.append(time.monotonic())
            return Reply("status", code=429, headers={"retry-after": "1"})
        return Reply()

    server.script, server.delay_s = script, 0.02
    df = pn.run_parallel(predict, rows(200), executor=client, max_workers=4, store=None)
    assert (df["status"] == "ok").all()
    [told] = told_at
    in_between = [t for t in server.times_s if told + 0.3 < t < told + 0.95]
    assert in_between == []


def test_a_killed_worker_costs_only_its_rows_in_flight(
    client: Client, server: ScriptedServer, predict: pn.Predict, store_path: Path
) -> None:
    """SIGKILL in the middle: no row is lost, none that was done is asked twice, and the store has
    them all."""
    server.delay_s = 0.1
    run = pn.start_parallel(predict, rows(200), executor=client, max_workers=10, progress="none")
    until(lambda: run.metrics.successes >= 60)
    address, victim = next(iter(pids(client).items()))
    server.gate = threading.Event()  # what is in flight stays in flight
    until(lambda: server.in_flight == 10)
    until(lambda: run.metrics.successes == len(server.requests) - 10)  # the rest has arrived
    done = set(run.df.index[run.df["status"] == "ok"])
    os.kill(victim, signal.SIGKILL)
    until(lambda: address not in workers(client))
    server.gate.set()
    df = run.result()

    assert (df["status"] == "ok").all()
    assert len(df) == 200
    asked_twice = {row for row, n in server.attempts.items() if n > 1}
    assert not asked_twice & done
    assert 1 <= len(asked_twice) <= 5 + 1  # its share; the other process took none of it twice
    assert df["attempts"].max() == 2
    again = pn.run_parallel(predict, rows(200), executor=client)
    assert again["cached"].all()
    assert sum(server.attempts.values()) == 200 + len(asked_twice)


def test_a_row_that_kills_workers_fails_and_the_others_do_not(client: Client) -> None:
    """A row in flight at three dead workers is taken to be the reason."""

    async def deadly(i: int) -> int:
        if i == 5:
            os._exit(1)
        return i

    df = pn.run_parallel(deadly, {"i": range(12)}, executor=client, max_workers=1, max_failures=1)
    assert df.loc[df["status"] != "ok", "i"].tolist() == [5]
    assert df.loc[5, "error_type"] == "WorkerLostError"
    client.wait_for_workers(2)


def test_cancel_reaches_all_processes(
    client: Client, server: ScriptedServer, predict: pn.Predict
) -> None:
    """Rows in flight are cancelled, finished ones kept, and no process goes on."""
    server.delay_s = 0.05
    run = pn.start_parallel(predict, rows(500), executor=client, max_workers=8, store=None)
    until(lambda: run.metrics.successes >= 40)
    run.cancel()
    df = run.result()
    counts = df["status"].value_counts()
    assert counts["ok"] >= 40
    assert counts["failed"] == 0
    assert counts["not_run"] > 200
    assert len(df) == 500
    assert len(server.requests) < 300
    until(lambda: not any(client.run(open_engines).values()))  # nobody is left who could send
    until(lambda: server.in_flight == 0)


def test_pause_reaches_all_processes(
    client: Client, server: ScriptedServer, predict: pn.Predict
) -> None:
    server.delay_s = 0.02
    run = pn.start_parallel(predict, rows(300), executor=client, max_workers=4, store=None)
    until(lambda: run.metrics.successes >= 20)
    run.pause()
    until(lambda: server.in_flight == 0)
    until(lambda: run.metrics.successes == len(server.requests))
    assert stays(lambda: len(server.requests))
    assert len(server.requests) < 300
    run.resume()
    assert (run.result()["status"] == "ok").all()
    assert len(server.requests) == 300


def test_a_budget_is_that_of_all_processes(
    client: Client, server: ScriptedServer, signature: pn.Signature
) -> None:
    """What the server bills never exceeds it, and most of it is used."""
    lm = pn.LM("m", base_url=server.url, api_key="k", price=(100.0, 100.0), max_tokens=20)
    predict = pn.Predict(signature, lm)
    server.delay_s = 0.02
    with pytest.raises(pn.BudgetExceeded) as stopped:
        pn.run_parallel(
            predict, rows(400), executor=client, max_workers=8, store=None, max_cost_usd=0.8
        )
    billed_usd = (server.billed_prompt + server.billed_completion) * 100 / 1e6
    assert 0.5 < billed_usd <= 0.8
    df = stopped.value.df
    assert len(df) == 400
    assert df["cost_usd"].sum() == pytest.approx(billed_usd)
    assert set(df["status"]) == {"ok", "not_run"}


def test_failures_add_up_over_processes(
    client: Client, server: ScriptedServer, predict: pn.Predict
) -> None:
    """Once more rows failed than are tolerated no new row starts, wherever they failed."""
    server.script = lambda marker, attempt: (
        Reply("status", code=400) if marker % 5 == 0 else Reply()
    )
    server.delay_s = 0.02
    with pytest.raises(pn.TooManyFailures) as stopped:
        pn.run_parallel(
            predict, rows(400), executor=client, max_workers=4, max_failures=6, store=None
        )
    counts = stopped.value.df["status"].value_counts()
    assert 7 <= counts["failed"] <= 7 + 4  # those in flight finish
    assert counts["not_run"] > 300
    with pytest.raises(pn.FailFast):
        pn.run_parallel(
            predict, rows(400), executor=client, max_workers=4, fail_fast=True, store=None
        )


def test_remembered_rows_are_not_sent_anywhere(
    client: Client, server: ScriptedServer, predict: pn.Predict
) -> None:
    """The store is the run's, whatever workers have; equal rows are asked once."""
    pn.run_parallel(predict, rows(20), progress="none")
    df = pn.run_parallel(predict, rows(30) + rows(30), executor=client)
    assert len(server.requests) == 30
    assert df["cached"].sum() == 20 + 30
    assert (df["status"] == "ok").all()


def test_any_input_goes_to_a_cluster(
    client: Client, server: ScriptedServer, predict: pn.Predict, tmp_path: Path
) -> None:
    """Streams, samples, a module a row, files to files."""
    stream = ({"review": text} for text in rows(25))
    df = pn.run_parallel(predict, stream, executor=client, store=None)
    assert df["reason"].tolist() == [f"row-{i}" for i in range(25)]

    df = pn.run_parallel(predict, rows(4), executor=client, repeat=3, store=None)
    assert df["sample"].tolist() == [0, 1, 2] * 4

    df = pn.run_parallel(predict, rows(4), executor=client, repeat="until decided", store=None)
    assert set(df["status"]) == {"ok"}
    assert len(df) == 4 * 3

    made = pn.Parallel.from_factory(lambda i: lambda x: {"module": i, "x": x}, executor=client)
    assert made(x=[5, 6, 7]).completions == [{"module": i, "x": x} for i, x in enumerate((5, 6, 7))]

    source, target = tmp_path / "in.parquet", tmp_path / "out.parquet"
    pd.DataFrame({"review": rows(30), "n": range(30)}).to_parquet(source)
    metrics = pn.run_to_parquet(predict, source, target, executor=client, store=None)
    assert metrics.successes == 30
    assert pd.read_parquet(target)["n"].tolist() == list(range(30))


def test_events_come_back_for_whoever_watches(
    client: Client, server: ScriptedServer, predict: pn.Predict
) -> None:
    """A callback sees every row begin and end, as with one machine."""
    seen: list[Any] = []
    server.script = lambda marker, attempt: (
        Reply("status", code=500) if marker == 2 and attempt == 1 else Reply()
    )
    pn.run_parallel(predict, rows(10), executor=client, progress=seen.append, store=None)
    kinds = Counter(type(event).__name__ for event in seen)
    assert kinds["RowFinished"] == 10
    assert kinds["RowStarted"] == 11
    assert kinds["AttemptFailed"] == 1
    assert (kinds["RunStarted"], kinds["RunFinished"]) == (1, 1)
    assert {event.row.inputs["review"] for event in seen if hasattr(event, "row")} == set(rows(10))


def test_errors_arrive_whatever_they_are(client: Client) -> None:
    """An exception that cannot be unpickled keeps its name and its words."""

    class Odd(Exception):
        def __init__(self, a: int, b: int) -> None:
            super().__init__(f"{a} and {b}")
            self.handle = open(os.devnull)  # noqa: SIM115 - what no process can send

    def fails(i: int) -> int:
        raise Odd(i, 2)

    df = pn.run_parallel(fails, {"i": [1]}, executor=client, max_failures=None)
    assert df.loc[0, "error_type"] == "Odd"
    assert df.loc[0, "error"] == "1 and 2"


def test_what_cannot_go_to_a_cluster_is_refused_before_anything_is_sent(
    client: Client, server: ScriptedServer, predict: pn.Predict
) -> None:
    has_history = pn.Predict(predict.signature, predict.lm, history=pn.History())
    with pytest.raises(ValueError, match="history"):
        pn.run_parallel(has_history, rows(2), executor=client, max_workers=1)
    with pytest.raises(TypeError, match=r"Client\(cluster\)"):
        pn.run_parallel(predict, rows(2), executor=client.cluster)
    closed = Client(client.scheduler.address, set_as_default=False)
    closed.close()
    with pytest.raises(ValueError, match="client that is closed"):
        pn.run_parallel(predict, rows(2), executor=closed)
    with pytest.raises(TypeError, match=r"dask\.distributed\.Client, got str"):
        pn.run_parallel(predict, rows(2), executor="tcp://127.0.0.1:8786")
    lock = threading.Lock()
    with pytest.raises(TypeError, match=r"cannot be sent to the workers.*lock"):
        pn.run_parallel(lambda review: bool(lock), rows(2), executor=client)
    assert server.requests == []


def test_a_module_that_workers_cannot_load_says_so(client: Client) -> None:
    """It is the client's to bring along what the workers lack."""
    import types

    here_only = types.ModuleType("here_only")
    exec("def label(review):\n    return {'n': 1}", here_only.__dict__)
    here_only.label.__module__ = "here_only"
    sys.modules["here_only"] = here_only
    try:
        with pytest.raises(pn.ParallelError, match="No module named 'here_only'") as stopped:
            pn.run_parallel(here_only.label, rows(3), executor=client)
    finally:
        del sys.modules["here_only"]
    assert set(stopped.value.df["status"]) == {"not_run"}


def test_partitions_are_run_and_written_where_they_are(
    client: Client, server: ScriptedServer, predict: pn.Predict, tmp_path: Path
) -> None:
    """The folder has the rows of `run_parallel`, in order; only figures come back."""
    table = pd.DataFrame({"review": rows(50), "stars": range(50)}, index=range(100, 150))
    source = dd.from_pandas(table, npartitions=7)
    target = tmp_path / "answers"
    server.script = lambda m, a: Reply("status", code=400) if m == 31 else Reply()
    options: dict[str, Any] = {"max_failures": None, "progress": "none"}
    shared = {"store": tmp_path / "shared.sqlite", "executor": client}
    metrics = pn.run_to_parquet(predict, source, target, **shared, **options)
    assert (metrics.total, metrics.successes, metrics.failures) == (50, 49, 1)
    assert metrics.usage is not None
    assert metrics.usage.prompt_tokens == server.billed_prompt

    there = pd.read_parquet(target)
    here = pn.run_parallel(predict, table, store=None, **options)
    pd.testing.assert_frame_equal(frame_of(here), frame_of(there))
    assert sorted(p.name for p in target.iterdir() if p.suffix == ".parquet") == [
        f"part-{i:06d}.parquet" for i in range(7)
    ]
    about = json.loads((target / "_pardspy.json").read_text())
    assert about["metrics"]["successes"] == 49

    sent = len(server.requests)
    again = pn.run_to_parquet(predict, source, target, **shared, **options)
    assert (again.cached, len(server.requests) - sent) == (49, 1)


def test_answers_can_stay_on_the_cluster(
    client: Client, server: ScriptedServer, predict: pn.Predict, tmp_path: Path
) -> None:
    """`result="dask"`: a Dask DataFrame in the columns and types of the frame."""
    table = pd.DataFrame({"review": rows(30)})
    table.to_parquet(tmp_path / "in.parquet")
    there = pn.run_parallel(
        predict, tmp_path / "in.parquet", executor=client, result="dask", store=None
    )
    here = pn.run_parallel(predict, table, store=None)
    assert there.dtypes.drop("review").to_dict() == here.dtypes.drop("review").to_dict()
    pd.testing.assert_frame_equal(frame_of(here), frame_of(there.compute()))
    assert there["sentiment"].value_counts().compute().to_dict() == {
        "positive": 10,
        "neutral": 10,
        "negative": 10,
    }
    ddf = dd.from_pandas(table, npartitions=3)
    df = pn.run_parallel(predict, ddf, executor=client, store=None)
    pd.testing.assert_frame_equal(frame_of(here), frame_of(df))


def test_a_partition_moves_when_its_worker_dies(
    client: Client, server: ScriptedServer, predict: pn.Predict, tmp_path: Path
) -> None:
    """It is run again as a whole elsewhere; what the store has is not asked again, nor counted
    twice."""
    table, store = pd.DataFrame({"review": rows(80)}), tmp_path / "shared.sqlite"
    source, target = dd.from_pandas(table, npartitions=4), tmp_path / "answers"
    server.delay_s = 0.05
    run = partitioned(predict, source, target, client, max_workers=4, store=store).start()
    until(lambda: run.metrics.successes >= 20)
    server.gate = threading.Event()
    until(lambda: server.in_flight == 4)
    until(lambda: run.metrics.successes == len(server.requests) - 4)
    address, victim = next(iter(pids(client).items()))
    os.kill(victim, signal.SIGKILL)
    until(lambda: address not in workers(client))
    server.gate.set()
    run.result()
    metrics = run.metrics
    assert (metrics.successes, metrics.failures, metrics.not_run) == (80, 0, 0)
    written = pd.read_parquet(target)
    assert written["review"].tolist() == rows(80)
    assert (written["status"] == "ok").all()
    asked_twice = {row for row, n in server.attempts.items() if n > 1}
    assert 1 <= len(asked_twice) <= 2  # its share of those in flight
    client.wait_for_workers(2)


def partitioned(
    predict: pn.Predict, source: Any, target: Path, client: Client, **options: Any
) -> Any:
    from pardspy_nb.core.options import Options
    from pardspy_nb.modules.module import from_module
    from pardspy_nb.runs.api import partitioned_run

    given = Options(executor=client, progress="none", **options)
    return partitioned_run(from_module(predict), source, given, target)


def test_a_run_over_partitions_can_be_cancelled_and_continued(
    client: Client, server: ScriptedServer, predict: pn.Predict, tmp_path: Path
) -> None:
    """What is done is in the folder beside; the next call asks only for the rest."""
    source = dd.from_pandas(pd.DataFrame({"review": rows(120)}), npartitions=3)
    target, store = tmp_path / "answers", tmp_path / "shared.sqlite"
    server.delay_s = 0.05
    run = partitioned(predict, source, target, client, max_workers=4, store=store).start()
    until(lambda: run.metrics.successes >= 20)
    run.cancel()
    run.result()
    assert not target.exists()
    assert (tmp_path / "answers.partial").is_dir()
    done = run.metrics.successes
    metrics = pn.run_to_parquet(predict, source, target, executor=client, store=store)
    assert (metrics.total, metrics.failures, metrics.not_run) == (120, 0, 0)
    assert metrics.cached >= done
    assert len(pd.read_parquet(target)) == 120
    assert not (tmp_path / "answers.partial").exists()


def fine_of(texts: list[str]) -> Any:
    return dd.from_pandas(pd.DataFrame({"review": texts}), npartitions=2)


def test_bad_partitions_and_targets_are_named(
    client: Client, server: ScriptedServer, predict: pn.Predict, tmp_path: Path
) -> None:
    """Columns are checked before anything is sent, values as their partition comes."""
    other = dd.from_pandas(pd.DataFrame({"text": rows(4)}), npartitions=2)
    with pytest.raises(ValueError, match="no column for \\['review'\\]"):
        pn.run_to_parquet(predict, other, tmp_path / "a", executor=client)
    numbers = dd.from_pandas(pd.DataFrame({"review": [1, 2, 3]}), npartitions=1)
    with pytest.raises(pn.ParallelError, match="partition 0: input 'review' must be str, but 3"):
        pn.run_to_parquet(predict, numbers, tmp_path / "a", executor=client)

    flag = tmp_path / "flag"

    def breaks(part: pd.DataFrame) -> pd.DataFrame:
        if flag.exists():
            raise ZeroDivisionError("of the table")
        return part

    meta = pd.DataFrame({"review": pd.Series(dtype="str")})
    broken = fine_of(rows(4)).map_partitions(breaks, meta=meta)
    run = partitioned(predict, broken, tmp_path / "a", client)
    flag.touch()
    with pytest.raises(pn.ParallelError, match=r"partition \d: ZeroDivisionError: of the table"):
        run.start().result()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "thesis.txt").write_text("years of work")
    fine = fine_of(rows(4))
    with pytest.raises(FileExistsError, match="holds something else"):
        pn.run_to_parquet(predict, fine, tmp_path / "mine", executor=client)
    with pytest.raises(FileNotFoundError, match="no folder"):
        pn.run_to_parquet(predict, fine, tmp_path / "no" / "where", executor=client)
    assert server.requests == []


def test_a_notebooks_own_functions_and_classes_are_taken_along(tmp_path: Path) -> None:
    """What is defined in `__main__` is not there on workers, and comes along by itself."""
    program = tmp_path / "program.py"
    program.write_text(
        """
import pardspy_nb as pn
from dataclasses import dataclass
from distributed import Client, LocalCluster

@dataclass
class Point:
    x: int

class Mine(Exception):
    pass

def double(point):
    if point.x == 3:
        raise Mine("three")
    return {"twice": Point(2 * point.x)}

if __name__ == "__main__":
    alone = {"threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with LocalCluster(n_workers=1, **alone) as cluster, Client(cluster) as client:
        df = pn.run_parallel(double, {"point": [Point(i) for i in range(4)]}, executor=client,
                             max_failures=1, progress="none")
    print(df["twice"].tolist(), df["error_type"].tolist()[3])
"""
    )
    done = subprocess.run(
        [sys.executable, str(program)], capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    assert "Point(x=4)" in done.stdout
    assert "Mine" in done.stdout


@pytest.mark.parametrize("limit", [{"rpm": 240}, {"max_cost_usd": 1.0}])
def test_a_pause_under_a_limit_is_over_when_it_is(
    client: Client, server: ScriptedServer, signature: pn.Signature, limit: dict[str, float]
) -> None:
    """Whatever asked to be let in while it lasted is let in afterwards."""
    lm = pn.LM("m", base_url=server.url, api_key="k", price=(1.0, 1.0), max_tokens=20)
    run = pn.start_parallel(
        pn.Predict(signature, lm),
        rows(12),
        executor=client,
        max_workers=2,
        store=None,
        progress="none",
        **limit,
    )
    until(lambda: run.metrics.successes >= 2)
    run.pause()
    # a worker hears of it a little later; what waits is let in by then, or never
    until(lambda: stays(lambda: len(server.requests)))
    until(lambda: run.metrics.successes == len(server.requests))
    run.resume()
    until(lambda: run.done)
    assert (run.result()["status"] == "ok").all()


def test_equal_rows_of_a_partition_do_not_wait_for_each_other(
    client: Client, server: ScriptedServer, predict: pn.Predict, tmp_path: Path
) -> None:
    """Under a limit, with failed first attempts: what follows another row asks for nothing."""
    server.script = lambda m, a: Reply("status", code=500) if a == 1 else Reply()
    table = pd.DataFrame({"review": rows(6) * 8})
    metrics = pn.run_to_parquet(
        predict,
        dd.from_pandas(table, npartitions=1),
        tmp_path / "out",
        executor=client,
        rpm=6000,
        max_workers=8,
        store=tmp_path / "s.sqlite",
    )
    assert (metrics.successes, metrics.cached) == (48, 42)


class Unsendable:
    def __reduce__(self) -> Any:
        raise RuntimeError("not me")


class Unloadable:
    def __reduce__(self) -> Any:
        return int, ("no number",)


def test_what_cannot_go_over_is_that_rows_failure(client: Client) -> None:
    """Inputs or answers of any class, there or back; the other rows are as ever."""

    async def answer(kind: Any) -> Any:
        if kind == "lock":
            return {"made": threading.Lock()}
        if kind == "unloadable":
            import cloudpickle  # noqa: F401 - what is made here can be sent, and not be loaded

            return {"made": type("Odd", (), {"__reduce__": lambda self: (int, ("no number",))})()}
        return {"made": 1}

    kinds = ["fine", "lock", "fine", "unloadable", Unsendable(), "fine", Unloadable(), "fine"]
    df = pn.run_parallel(
        answer, {"kind": kinds}, executor=client, max_failures=None, progress="none"
    )
    assert df["status"].tolist() == [
        "ok",
        "failed",
        "ok",
        "failed",
        "failed",
        "ok",
        "failed",
        "ok",
    ]
    assert set(df["error_type"].dropna()) == {"TransferError"}
    assert "not me" in df.loc[4, "error"]


def test_an_error_that_only_workers_have_keeps_its_name(client: Client) -> None:
    def fails(i: int) -> int:
        import types

        there_only = types.ModuleType("there_only")
        exec("class Mine(Exception): pass", there_only.__dict__)
        there_only.Mine.__module__ = "there_only"
        __import__("sys").modules["there_only"] = there_only
        raise there_only.Mine("of there")

    df = pn.run_parallel(fails, {"i": range(3)}, executor=client, max_failures=None)
    assert set(df["error_type"]) == {"Mine"}
    assert set(df["error"]) == {"of there"}


def test_second_requests_are_counted(
    client: Client, server: ScriptedServer, predict: pn.Predict
) -> None:
    """`hedge` on a cluster: whoever is asked twice is in the figures, and nothing else is."""
    slow = {70, 90}
    server.latency_s = lambda marker: (
        30.0 if marker in slow and server.attempts[marker] == 1 else 0.02
    )
    seen: list[Any] = []
    df = pn.run_parallel(
        predict,
        rows(120),
        executor=client,
        hedge=0.9,
        max_workers=8,
        store=None,
        progress=seen.append,
    )
    metrics = df.parallel.metrics
    kinds = Counter(type(event).__name__ for event in seen)
    assert metrics.not_run == 0
    assert metrics.duplicates == kinds["AttemptLost"] >= 1
    assert kinds["RowStarted"] == 120 + metrics.duplicates
    assert df.loc[70, "latency_ms"] < 30_000  # the second one's answer


def test_partitions_that_cannot_be_written_end_the_run(
    client: Client, server: ScriptedServer, predict: pn.Predict, tmp_path: Path
) -> None:
    """With the reason; a relative path is of the directory here, not of the workers'."""
    table = pd.DataFrame({"review": rows(6)})

    def full_disk(dask_worker: Any) -> None:
        import pyarrow.parquet as pq

        pq.kept = pq.write_table

        def write(*args: Any, **more: Any) -> None:
            raise OSError(28, "No space left on device")

        pq.write_table = write

    def repaired(dask_worker: Any) -> None:
        import pyarrow.parquet as pq

        pq.write_table = pq.kept

    client.run(full_disk)
    try:
        with pytest.raises(pn.RunStopped, match="No space left on device"):
            pn.run_to_parquet(predict, table, tmp_path / "out", executor=client, store=None)
    finally:
        client.run(repaired)

    here = Path.cwd()
    os.chdir(tmp_path)
    try:
        pn.run_to_parquet(predict, table, "relative", executor=client, store="s.sqlite")
    finally:
        os.chdir(here)
    assert len(pd.read_parquet(tmp_path / "relative")) == 6
    assert (tmp_path / "s.sqlite").exists()


def test_nothing_is_left_behind(
    client: Client, server: ScriptedServer, predict: pn.Predict
) -> None:
    """No site, no client, no topic: not after a run, nor after one that was cancelled at once."""
    for wait_s in (None, 0.0, 0.005, 0.3):
        run = pn.start_parallel(predict, rows(20), executor=client, store=None, progress="none")
        if wait_s is not None:
            time.sleep(wait_s)
            run.cancel()
        run.result()

    def left(dask_scheduler: Any) -> list[str]:
        ours = [name for name in dask_scheduler._broker._topics if name.startswith("pardspy-")]
        return ours + [name for name in dask_scheduler.clients if "pardspy" in name]

    until(lambda: not any(client.run(open_engines).values()) and not client.run_on_scheduler(left))


def test_a_worker_that_got_no_command_for_too_long_is_hosted_again(
    client: Client, server: ScriptedServer, predict: pn.Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The process that called was stopped for a while: what its workers gave up is taken up."""

    def impatient(seconds: float) -> None:
        from pardspy_nb.executors.cluster import worker_engine

        worker_engine.SILENCE_S = seconds

    from pardspy_nb.executors.cluster import coordinator

    monkeypatch.setattr(coordinator, "BEAT_S", 4.0)
    client.run(impatient, 0.4)
    try:
        server.delay_s = 0.2
        df = pn.run_parallel(
            predict, rows(40), executor=client, max_workers=4, store=None, progress="none"
        )
    finally:
        client.run(impatient, 60.0)
    assert (df["status"] == "ok").all()


def test_an_asynchronous_client_is_refused(server: ScriptedServer, predict: pn.Predict) -> None:
    class Asynchronous:
        asynchronous = True

        def submit(self) -> None: ...

        def scheduler_info(self) -> None: ...

    with pytest.raises(TypeError, match="must not be an asynchronous client"):
        pn.run_parallel(predict, rows(2), executor=Asynchronous())
