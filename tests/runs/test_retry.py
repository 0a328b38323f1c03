"""Rows without an answer once more, in their old places."""

from __future__ import annotations

import asyncio
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
from pardspy_nb.core.events import RunStarted

QUIET: dict[str, Any] = {"progress": "none", "store": None}


def faulty(marker: int, attempt: int) -> Reply:
    """Rows 2 and 5 break for good, rows 3 and 7 say nothing that fits (and bill it)."""
    if marker in (2, 5):
        return Reply("status", code=400, message="too long")
    return Reply("wrong_label" if marker in (3, 7) else "ok")


@pytest.fixture
def df(predict: pn.Predict, server: ScriptedServer, reviews: list[str]) -> pd.DataFrame:
    """Twelve rows, four of them failed."""
    server.script = faulty
    table = pd.DataFrame({"review": reviews, "id": range(100, 112)}, index=list("abcdefghijkl"))
    frame: pd.DataFrame = pn.run_parallel(
        predict, table, max_failures=None, max_attempts=1, **QUIET
    )
    assert list(frame.index[frame["status"] == "failed"]) == ["c", "d", "f", "h"]
    server.script = lambda marker, attempt: Reply()
    server.requests.clear()
    return frame


def test_failed_rows_are_run_again_and_put_in_their_places(
    df: pd.DataFrame, server: ScriptedServer
) -> None:
    columns, dtypes = list(df.columns), df.dtypes
    assert df.parallel.retry_failed(**QUIET) is df
    assert len(server.requests) == 4
    assert list(df["status"]) == ["ok"] * 12
    assert list(df["reason"]) == [f"row-{i}" for i in range(12)]
    assert list(df.columns) == columns
    assert df.dtypes.equals(dtypes)
    assert list(df["id"]) == list(range(100, 112))
    assert df["error"].isna().all()
    assert df["sentiment"].cat.categories.tolist() == ["positive", "neutral", "negative"]


def test_both_runs_are_paid_for_and_counted(df: pd.DataFrame, server: ScriptedServer) -> None:
    df.parallel.retry_failed(**QUIET)
    assert int(df["total_tokens"].sum()) == server.billed_prompt + server.billed_completion
    assert df.loc["d", ["attempts", "total_tokens"]].tolist() == [2, 36]
    assert df.loc["c", ["attempts", "total_tokens"]].tolist() == [2, 18]
    metrics = df.parallel.metrics
    assert (metrics.total, metrics.successes, metrics.failures) == (12, 12, 0)
    assert metrics.usage is not None
    assert metrics.usage.total_tokens == 14 * 18
    assert df.parallel.cost == pytest.approx(df["cost_usd"].sum())


def test_one_group_of_errors_with_other_options(
    df: pd.DataFrame, server: ScriptedServer, signature: pn.Signature
) -> None:
    df.parallel.retry_failed(error="BadRequestError", max_workers=1, **QUIET)
    assert list(df.index[df["status"] != "ok"]) == ["d", "h"]
    group = df.parallel.summary().groups[0]
    assert (group.error_type, group.rows) == ("OutOfVocabularyError", 2)
    larger = pn.Predict(signature, pn.LM("gpt-4o", base_url=server.url))
    df.parallel.retry_failed(larger, error=group, max_workers=7, **QUIET)
    assert list(df["model"].value_counts().sort_index().items()) == [
        ("gpt-4o", 2),
        ("gpt-4o-mini", 10),
    ]
    about = df.attrs["pardspy"]
    rows = {about["sources"][source]["model"]: of for source, of in about["rows_by_source"].items()}
    assert rows == {"gpt-4o-mini": "0-2,4-6,8-11", "gpt-4o": "3,7"}
    assert [retry["options"]["max_workers"] for retry in about["retries"]] == [1, 7]
    assert df.parallel.metrics.max_in_flight >= 2


def test_rows_that_fail_again_keep_their_new_error_and_the_frame_is_whole(
    df: pd.DataFrame, server: ScriptedServer
) -> None:
    server.script = lambda m, a: Reply("status", code=400, message="still") if m == 5 else Reply()
    with pytest.raises(pn.TooManyFailures) as info:
        df.parallel.retry_failed(max_failures=0, max_workers=1, **QUIET)
    assert info.value.df is df
    assert len(df) == 12
    assert df["status"].tolist() == ["ok"] * 5 + ["failed", "ok", "failed"] + ["ok"] * 4
    assert df["error"]["f"] == "HTTP 400: still"
    assert "splendid" in df["error"]["h"], "a row that was not run keeps what it had"


def test_rows_never_run_are_run_too(
    predict: pn.Predict, server: ScriptedServer, reviews: list[str]
) -> None:
    server.script = faulty
    with pytest.raises(pn.TooManyFailures) as info:
        pn.run_parallel(predict, reviews, max_workers=1, max_attempts=1, **QUIET)
    df = info.value.df
    assert set(df["status"]) == {"ok", "failed", "not_run"}
    server.script = lambda marker, attempt: Reply()
    df.parallel.retry_failed()
    assert list(df["status"]) == ["ok"] * 12
    assert list(df["reason"]) == [f"row-{i}" for i in range(12)]


def test_samples_keep_their_numbers(predict: pn.Predict, server: ScriptedServer) -> None:
    server.script = lambda m, a: Reply("status", code=400) if a == 2 else Reply()
    options = {"progress": "none", "max_failures": None, "repeat": 3}
    df = pn.run_parallel(predict, ["row-1", "row-2"], max_workers=1, **options)
    assert (df["status"] == "failed").tolist() == [False, True, False] * 2
    server.requests.clear()
    df.parallel.retry_failed()
    assert df["sample"].tolist() == [0, 1, 2] * 2
    assert len(server.requests) == 2
    again = pn.run_parallel(predict, ["row-1", "row-2"], **options)
    assert again["cached"].all(), "the sample's own number was its key"


def test_a_function_that_knows_no_outputs_before() -> None:
    broken = True

    def function(x: int) -> dict[str, int]:
        if broken:
            raise ValueError("not yet")
        return {"double": 2 * x}

    df = pn.run_parallel(function, {"x": [1, 2]}, max_failures=None, **QUIET)
    assert "double" not in df.columns
    broken = False
    df.parallel.retry_failed()
    assert df["double"].tolist() == [2, 4]
    assert list(df.columns)[:3] == ["x", "double", "status"]


def test_a_frame_from_a_file_needs_the_module(
    df: pd.DataFrame, predict: pn.Predict, server: ScriptedServer, tmp_path: Path
) -> None:
    df.attrs["pardspy"]["run"] = "of another kernel"
    df.to_parquet(tmp_path / "df.parquet")
    read = pd.read_parquet(tmp_path / "df.parquet")
    with pytest.raises(ValueError, match=r"retry_failed\(predict\)"):
        read.parallel.retry_failed()
    read.parallel.retry_failed(predict, **QUIET)
    assert list(read["status"]) == ["ok"] * 12
    assert list(read["reason"]) == [f"row-{i}" for i in range(12)]


def test_columns_under_other_names_and_nothing_to_do(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    server.script = lambda m, a: Reply("status", code=400) if m == 1 else Reply()
    table = pd.DataFrame({"text": ["row-0", "row-1"], "n": [1, 2]})
    options = QUIET | {"columns": {"review": "text"}, "max_failures": None}
    df = pn.run_parallel(predict, table, **options)
    server.script = lambda marker, attempt: Reply()
    df.parallel.retry_failed()
    assert df["reason"].tolist() == ["row-0", "row-1"]
    server.requests.clear()
    assert df.parallel.retry_failed() is df
    assert not server.requests


def test_a_row_goes_back_to_its_own_instance(
    signature: pn.Signature, server: ScriptedServer
) -> None:
    server.script = lambda m, a: Reply("status", code=400) if m == 3 and a == 1 else Reply()
    two = [pn.Predict(signature, pn.LM(name, base_url=server.url)) for name in "ab"]
    parallel = pn.Parallel.from_instances(two, max_failures=None, **QUIET)
    df = parallel([f"row-{i}" for i in range(6)]).to_frame()
    df.parallel.retry_failed()
    assert df["model"].tolist() == ["a", "b"] * 3


def test_rows_told_apart_by_order_alone_do_not_get_anothers_answer(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    server.script = lambda m, a: Reply("status", code=400) if a == 3 else Reply(label=a - 1)
    options = {"progress": "none", "dedupe": False, "max_failures": None, "max_workers": 1}
    df = pn.run_parallel(predict, ["row-1"] * 3, **options)
    server.script = lambda m, a: Reply(label=2)
    df.parallel.retry_failed()
    assert df["sentiment"].tolist() == ["positive", "neutral", "negative"]
    assert not df["cached"].any()


def test_the_users_own_columns_are_not_written_over(
    df: pd.DataFrame, lm: pn.LM, server: ScriptedServer
) -> None:
    other = pn.Predict("review -> id: int", lm)
    failed = df["status"].eq("failed").tolist()
    server.script = lambda m, a: Reply(content='{"id": 5}')
    df.parallel.retry_failed(other, **QUIET)
    assert df["id"].tolist() == list(range(100, 112))
    assert df["run_id"].notna().tolist() == failed
    assert df.attrs["pardspy"]["renamed"] == {"id": "run_id"}


def test_sources_of_rows_that_were_moved_are_not_told(
    df: pd.DataFrame, signature: pn.Signature, server: ScriptedServer
) -> None:
    turned = df.sort_index(ascending=False)
    turned.parallel.retry_failed(
        pn.Predict(signature, pn.LM("gpt-4o", base_url=server.url)), **QUIET
    )
    about = turned.attrs["pardspy"]
    (source, rows), *rest = about["rows_by_source"].items()
    assert about["sources"][source]["model"] == "gpt-4o"
    assert (rows, rest) == ("4,6,8-9", [])
    assert turned["model"].iloc[[4, 6, 8, 9]].eq("gpt-4o").all()


def test_samples_of_a_concat_and_types_of_a_csv(
    df: pd.DataFrame, predict: pn.Predict, server: ScriptedServer, tmp_path: Path
) -> None:
    df.assign(sample=[None] * 6 + [1] * 6).to_csv(tmp_path / "df.csv")
    read = pd.read_csv(tmp_path / "df.csv", index_col=0)
    read.parallel.retry_failed(predict, **QUIET)
    assert list(read["status"]) == ["ok"] * 12
    read.to_parquet(tmp_path / "df.parquet")
    assert isinstance(read["started_at"].dtype, pd.DatetimeTZDtype)


def test_equal_rows_that_fail_again_are_failed_all(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    server.latency_s = lambda marker: 0.02
    server.script = lambda m, a: Reply("status", code=413, message=f"time {a}")
    df = pn.run_parallel(predict, ["row-1"] * 4, max_failures=None, **QUIET)
    df.parallel.retry_failed()
    assert df["status"].eq("failed").all()
    assert df["error"].eq("HTTP 413: time 2").all()
    assert df.parallel.metrics.failures == 4


def test_a_retry_that_becomes_due_while_workers_look_is_not_forgotten(
    predict: pn.Predict, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, fast_retries: None
) -> None:
    """Between the look for a row and the setting of the timer."""
    from pardspy_nb.engine.row_queue import RowQueue

    arm = RowQueue.arm

    def late(queue: RowQueue) -> None:
        if queue._due and sys._getframe(1).f_code.co_name == "_start_workers":
            time.sleep(max(0.0, queue._due[0][0] - queue._loop.time()) + 0.001)
        arm(queue)

    monkeypatch.setattr(RowQueue, "arm", late)
    server.script = lambda marker, attempt: Reply("status", code=500) if attempt == 1 else Reply()
    run = pn.start_parallel(predict, ["row-1"], **QUIET)
    assert run._thread.done.wait(20), "the run hangs"
    assert run.result()["attempts"].tolist() == [2]


@pytest.mark.parametrize("how", ["blocking", "awaited", "background"])
def test_failed_rows_of_a_run_under_way_are_asked_again_at_its_end(
    predict: pn.Predict, server: ScriptedServer, reviews: list[str], how: str
) -> None:
    """One group, or all; the result, its metrics and its summary have the new answers."""
    server.script = lambda marker, attempt: faulty(marker, attempt) if attempt == 1 else Reply()
    options: dict[str, Any] = {"max_failures": None, "max_attempts": 1, "store": None}

    runs: list[pn.Run] = []

    def begun(event: Any) -> None:
        run = pn.last_run()
        if isinstance(event, RunStarted) and run is not None and not runs:
            runs.append(run)
            run.retry_failed("BadRequestError")

    if how == "blocking":
        df = pn.run_parallel(predict, reviews, progress=begun, **options)
    elif how == "awaited":
        df = asyncio.run(pn.arun_parallel(predict, reviews, progress=begun, **options))
    else:
        df = pn.start_parallel(predict, reviews, progress=begun, **options).result()
    assert list(df.index[df["status"] != "ok"]) == [3, 7]
    assert len(server.requests) == 14
    run = runs[0]
    assert pn.last_run() is run
    assert run.df is df
    assert run.metrics.failures == df.parallel.metrics.failures == 2
    assert df.loc[2, "attempts"] == 2
    with pytest.raises(ValueError, match="the run is over"):
        run.retry_failed()


def test_a_run_that_ends_early_or_shows_no_failures_asks_none_again(
    predict: pn.Predict, server: ScriptedServer, reviews: list[str]
) -> None:
    server.script = faulty
    run = pn.start_parallel(predict, reviews, max_failures=0, max_attempts=1, **QUIET)
    run.retry_failed()
    with pytest.raises(pn.TooManyFailures):
        run.result()
    assert len(server.requests) <= 12
    for options in ({"only_successful": True}, {"return_all": False}):
        run = pn.start_parallel(predict, reviews, max_failures=None, **options, **QUIET)
        assert not run.can_retry
        with pytest.raises(ValueError, match="no failed rows"):
            run.retry_failed()
        run.result()


def test_a_retry_at_the_end_that_fails_again_costs_no_row(
    predict: pn.Predict, server: ScriptedServer, reviews: list[str]
) -> None:
    server.script = faulty
    run = pn.start_parallel(predict, reviews, max_failures=4, max_attempts=1, **QUIET)
    run.retry_failed()
    df = run.result()
    assert list(df.index[df["status"] == "failed"]) == [2, 3, 5, 7]
    assert len(server.requests) == 16
    assert run.metrics.failures == df.parallel.metrics.failures == 4


def slow_at_the_second_attempt(marker: int, attempt: int) -> Reply:
    if marker in (2, 5):
        return Reply("status", code=400, message="no") if attempt == 1 else Reply("stall")
    return Reply()


def test_asking_again_leaves_the_callers_loop_free(
    predict: pn.Predict, server: ScriptedServer, reviews: list[str]
) -> None:
    server.script = lambda marker, attempt: (
        Reply("status", code=400, message="no") if marker == 2 and attempt == 1 else Reply()
    )
    server.latency_s = lambda marker: 0.5 if marker == 2 else 0.0

    before = pn.last_run()

    async def main() -> tuple[pd.DataFrame, int]:
        waited = asyncio.ensure_future(
            pn.arun_parallel(predict, reviews, max_failures=None, max_attempts=1, **QUIET)
        )
        while (run := pn.last_run()) is before:
            await asyncio.sleep(0)
        assert run is not None
        run.retry_failed()
        beats = 0
        while not waited.done():
            await asyncio.sleep(0.02)
            beats += len(server.requests) == 13  # while the row is asked again
        return waited.result(), beats

    df, beats = asyncio.run(main())
    assert (df["status"] == "ok").all()
    assert len(server.requests) == 13
    assert beats > 5, "the loop was blocked while the row was asked again"


def test_cancel_ends_what_is_asked_again_and_keeps_the_rest(
    predict: pn.Predict, server: ScriptedServer, reviews: list[str]
) -> None:
    server.script = slow_at_the_second_attempt
    run = pn.start_parallel(predict, reviews, max_failures=None, max_attempts=1, **QUIET)
    run.retry_failed()
    eventually(lambda: len(server.requests) == 14, "the failed rows are asked again")
    assert not run.done
    assert run.metrics.successes == 10, "the run can be looked at meanwhile"
    run.cancel()
    df = run.result()
    assert (df["status"] == "ok").sum() == 10
    assert set(df["status"]) == {"ok", "cancelled"}


def test_a_group_of_errors_has_a_story_while_the_run_lasts(
    predict: pn.Predict, server: ScriptedServer, reviews: list[str]
) -> None:
    server.gate = threading.Event()
    server.script = lambda marker, attempt: (
        faulty(marker, attempt) if marker < 4 else Reply("stall")
    )
    run = pn.start_parallel(predict, reviews, max_failures=None, max_attempts=1, **QUIET)
    server.gate.set()
    eventually(lambda: run.metrics.failures == 2, "two rows have failed")
    groups = run.progress.failures.largest_first()
    stories = {group.example: run.story(group) for group in groups}
    assert stories.keys() == {2, 3}
    assert "row-2 is a review" in str(stories[2])
    assert "too long" in str(stories[2])
    assert "came back" in str(stories[3])
    run.cancel()
    run.result()
