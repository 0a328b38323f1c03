"""Runs over real HTTP against the scripted server."""

from __future__ import annotations

import asyncio
import os
import socket
import subprocess
import sys
import threading
import time
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.scripted_server import COMPLETION_TOKENS, PROMPT_TOKENS, Reply, ScriptedServer
from support.text_type import TEXT
from support.waiting import eventually

import pardspy_nb as pn
from pardspy_nb.core.options import Options
from pardspy_nb.llm.retry_after import parse_retry_after
from pardspy_nb.modules.module import from_module
from pardspy_nb.runs.plan import plan_run
from pardspy_nb.runs.run import Run

LABELS = ["positive", "neutral", "negative"]


KEY = "sk-test-secret-key"


QUIET: dict[str, Any] = {"progress": "none", "store": None}


# what each scripted fault is to a row whose every attempt meets it
FAULTS = {
    "length": "TruncatedOutputError",
    "garbage": "InvalidOutputError",
    "truncated": "InvalidOutputError",
    "wrong_label": "OutOfVocabularyError",
    "wrong_type": "InvalidOutputError",
    "empty": "EmptyOutputError",
    "refusal": "RefusedOutputError",
    "reset": "EndpointConnectionError",
    "not_json": "ServerError",
}


def test_the_frame_has_the_columns_and_types_of_the_contract(
    predict: pn.Predict, reviews: list[str]
) -> None:
    df = pn.run_parallel(predict, reviews, **QUIET)
    assert list(df.columns) == [
        "review",
        "sentiment",
        "reason",
        "status",
        "error_type",
        "error",
        "repaired",
        "attempts",
        "cached",
        "latency_ms",
        "queued_ms",
        "waited_ms",
        "started_at",
        "prompt_tokens",
        "completion_tokens",
        "total_tokens",
        "cost_usd",
        "model",
        "finish_reason",
    ]
    assert list(df["reason"]) == [f"row-{i}" for i in range(12)]
    assert not df["sentiment"].cat.ordered
    assert list(df["sentiment"].cat.categories) == LABELS
    assert [str(df[c].dtype) for c in ("reason", "total_tokens", "attempts", "cached")] == [
        TEXT,
        "Int64",
        "int64",
        "bool",
    ]
    assert list(df["status"].cat.categories) == [
        "ok",
        "failed",
        "cancelled",
        "not_run",
        "skipped",
    ]
    assert str(df["started_at"].dt.tz) == "UTC"
    assert df["cost_usd"].iloc[0] == pytest.approx((11 * 0.15 + 7 * 0.6) / 1e6)


@pytest.mark.slow
def test_500_rows_under_a_mix_of_faults_end_in_their_own_answer_or_true_error(
    predict: pn.Predict, server: ScriptedServer, fast_retries: None
) -> None:
    """Every fault once or for ever; attempts and usage as the server counted them."""
    kinds = [*FAULTS, "429", "500", "no_usage", "ok", "ok", "ok"]

    def script(marker: int, attempt: int) -> Reply:
        kind = kinds[marker % len(kinds)]
        forever = (marker // len(kinds)) % 3 == 0
        if attempt > 1 and not forever:
            return Reply()
        if kind in ("429", "500"):
            return Reply("status", code=int(kind), headers={"retry-after-ms": "5"})
        return Reply(kind)

    server.script = script
    texts = [f"row-{i} is a review" for i in range(500)]
    df = pn.run_parallel(predict, texts, max_workers=32, max_failures=None, **QUIET)

    assert list(df["review"]) == texts
    names = FAULTS | {"429": "RateLimitError", "500": "ServerError"}
    billed = 0
    for i, row in enumerate(df.itertuples()):
        kind, forever = kinds[i % len(kinds)], (i // len(kinds)) % 3 == 0
        fails = kind in names and (forever or kind == "refusal")
        if kind == "reset":  # it may have been closed before: sent again at once, uncounted
            assert row.attempts <= server.attempts[i] <= 2 * row.attempts
        else:
            assert row.attempts == server.attempts[i]
        if fails:
            assert (row.status, row.error_type) == ("failed", names[kind]), (i, row.error)
            if kind in ("429", "reset"):  # others meet it, too: no attempt counts
                assert row.attempts >= 4
            else:
                assert row.attempts == (1 if kind == "refusal" else 4)
        else:
            assert (row.status, row.reason) == ("ok", f"row-{i}")
        billed += 0 if pd.isna(row.total_tokens) else row.total_tokens
    assert billed == server.billed_prompt + server.billed_completion
    assert df.parallel.metrics.failures == (df["status"] == "failed").sum()


def test_stalled_requests_meet_the_wall_clock_and_are_tried_again(
    predict: pn.Predict, server: ScriptedServer, fast_retries: None
) -> None:
    server.script = lambda marker, attempt: Reply("stall" if attempt == 1 else "ok")
    df = pn.run_parallel(predict, ["row-0", "row-1"], timeout_s=0.3, **QUIET)
    assert list(df["status"]) == ["ok", "ok"]
    assert list(df["attempts"]) == [2, 2]


def test_a_timeout_that_persists_is_the_rows_error(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    server.script = lambda marker, attempt: Reply("stall")
    df = pn.run_parallel(predict, ["row-0"], timeout_s=0.1, max_attempts=1, max_failures=1, **QUIET)
    assert list(df["error_type"]) == ["TimeoutError"]


def test_the_lms_own_timeout_holds_where_the_run_names_none(
    signature: pn.Signature, server: ScriptedServer
) -> None:
    server.script = lambda marker, attempt: Reply("stall")
    lm = pn.LM("m", base_url=server.url, api_key=KEY, timeout_s=0.1)
    predict = pn.Predict(signature, lm)
    df = pn.run_parallel(predict, ["row-0"], max_attempts=1, max_failures=1, **QUIET)
    assert list(df["error_type"]) == ["TimeoutError"]
    with pytest.raises(TimeoutError):
        predict(review="row-1")


@pytest.mark.slow
def test_retry_after_is_waited_and_counted(predict: pn.Predict, server: ScriptedServer) -> None:
    server.script = lambda marker, attempt: (
        Reply("status", code=429, headers={"Retry-After": "1"}) if attempt == 1 else Reply()
    )
    df = pn.run_parallel(predict, ["row-0"], **QUIET)
    assert df["waited_ms"][0] >= 1000
    assert df["attempts"][0] == 2


def test_retry_after_reads_seconds_milliseconds_and_dates() -> None:
    assert parse_retry_after({"retry-after": "3"}) == 3
    assert parse_retry_after({"retry-after-ms": "250", "retry-after": "3"}) == 0.25
    assert parse_retry_after({"retry-after": "Thu, 01 Jan 1970 00:00:00 GMT"}) == 0
    assert parse_retry_after({"retry-after": "soon"}) is None
    assert parse_retry_after({}) is None


def test_max_workers_bounds_what_the_server_sees(
    predict: pn.Predict, server: ScriptedServer, reviews: list[str]
) -> None:
    server.delay_s = 0.05
    df = pn.run_parallel(predict, reviews, max_workers=3, **QUIET)
    assert server.max_in_flight == 3
    assert df.parallel.metrics.max_in_flight == 3


def test_auto_workers_grow_where_nothing_speaks_against_it(
    predict: pn.Predict, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "cpu_count", lambda: 2)
    server.delay_s = 0.02
    df = pn.run_parallel(predict, [f"row-{i}" for i in range(150)], **QUIET)
    assert 16 <= server.max_in_flight <= 64
    assert df.parallel.metrics.max_in_flight >= server.max_in_flight
    assert server.attempts.total() == 150


def broken(marker: int, attempt: int) -> Reply:
    return Reply("status", code=400) if marker in (2, 3) else Reply()


def test_max_failures_zero_raises_and_keeps_every_row(
    predict: pn.Predict, server: ScriptedServer, reviews: list[str]
) -> None:
    server.script = broken
    with pytest.raises(
        pn.TooManyFailures, match=r"tolerates \(0; None goes on.*rows done, 1 failed.*BadReq"
    ) as info:
        pn.run_parallel(predict, reviews, max_workers=1, **QUIET)
    df = info.value.df
    assert list(df["review"]) == reviews
    assert list(df["status"]) == ["ok", "ok", "failed"] + ["not_run"] * 9
    assert len(info.value.errors) == 1


def test_tolerated_failures_keep_their_place(
    predict: pn.Predict, server: ScriptedServer, reviews: list[str]
) -> None:
    server.script = broken
    df = pn.run_parallel(predict, reviews, max_failures=2, **QUIET)
    assert list(df["status"][2:4]) == ["failed", "failed"]
    assert (df["status"] == "ok").sum() == 10
    prediction = pn.Parallel(predict, max_failures=0.2, **QUIET)(review=reviews)
    assert prediction.completions[2] is None
    assert prediction.completions[4] == {"sentiment": "neutral", "reason": "row-4"}
    assert len(prediction.errors) == 2


def test_fail_fast_cancels_rows_in_flight(predict: pn.Predict, server: ScriptedServer) -> None:
    server.script = lambda marker, attempt: (
        Reply("status", code=400) if marker == 1 else Reply("stall")
    )
    with pytest.raises(pn.FailFast) as info:
        pn.run_parallel(
            predict,
            [f"row-{i}" for i in range(9)],
            fail_fast=True,
            max_workers=3,
            max_failures=None,
            **QUIET,
        )
    assert list(info.value.df["status"][:3]) == ["cancelled", "failed", "cancelled"]


async def everywhere(predict: pn.Predict, reviews: list[str]) -> None:
    inside = pn.run_parallel(predict, reviews, **QUIET)
    awaited = await pn.arun_parallel(predict, reviews, **QUIET)
    prediction = await pn.Parallel(predict, **QUIET).acall(review=reviews)
    single = await predict.acall(review="row-5")
    blocked = predict(review="row-6")
    assert list(inside["reason"]) == list(awaited["reason"])
    assert prediction.usage is not None
    assert prediction.usage.total_tokens == 12 * (PROMPT_TOKENS + COMPLETION_TOKENS)
    assert (single.reason, blocked["reason"]) == ("row-5", "row-6")


def test_the_same_inside_a_running_event_loop(predict: pn.Predict, reviews: list[str]) -> None:
    asyncio.run(everywhere(predict, reviews))


def test_the_background_handle(
    predict: pn.Predict, server: ScriptedServer, reviews: list[str]
) -> None:
    server.gate = threading.Event()
    run = pn.start_parallel(predict, reviews, max_workers=2, **QUIET)
    assert pn.last_run() is run
    assert not run.done
    run.pause()
    run.max_workers = 4
    server.gate.set()
    run.resume()
    df = run.result()
    assert list(df["reason"]) == [f"row-{i}" for i in range(12)]
    assert run.df is df
    assert run.metrics.successes == 12


@pytest.mark.parametrize(
    "function",
    [
        pn.run_parallel,
        pn.arun_parallel,
        pn.start_parallel,
        pn.Parallel,
        pn.Parallel.from_factory,
        pd.DataFrame({"a": [1]}).parallel.run,
    ],
    ids=lambda f: f.__name__,
)
def test_options_are_completed_by_name(function: Any) -> None:
    """A notebook's Tab and Shift-Tab read the signature."""
    import inspect

    parameters = inspect.signature(function).parameters
    assert {"max_workers", "max_failures", "store", "progress"} <= parameters.keys()
    assert parameters["max_workers"].default == "auto"


def test_zero_rows(predict: pn.Predict, server: ScriptedServer) -> None:
    df = pn.run_parallel(predict, [], **QUIET)
    assert len(df) == 0
    assert list(df.columns[:3]) == ["review", "sentiment", "reason"]
    with pytest.raises(ValueError, match="no rows"):
        pn.Parallel(predict)(review=[])
    assert not server.requests


def test_tables_of_other_libraries_and_files(predict: pn.Predict, tmp_path: Path) -> None:
    import polars
    import pyarrow

    table = pd.DataFrame({"review": ["row-1", "row-2"], "id": [1, 2]})
    table.to_parquet(tmp_path / "r.parquet")
    table.to_csv(tmp_path / "r.csv", index=False)
    table.to_json(tmp_path / "r.jsonl", orient="records", lines=True)
    shapes = [
        pyarrow.table(table),
        polars.DataFrame({"review": ["row-1", "row-2"], "id": [1, 2]}),
        str(tmp_path / "r.parquet"),
        tmp_path / "r.csv",
        tmp_path / "r.jsonl",
    ]
    for data in shapes:
        df = pn.run_parallel(predict, data, **QUIET)
        assert list(df["reason"]) == ["row-1", "row-2"]
        assert list(df["id"]) == [1, 2]


def test_a_refused_key_stops_the_run_after_the_first_rows(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    server.script = lambda m, a: Reply("status", code=401, message=f"bad key {KEY}")
    with pytest.raises(pn.RunStopped, match="OPENAI_API_KEY") as info:
        pn.run_parallel(
            predict, [f"row-{i}" for i in range(200)], max_workers=4, max_failures=None, **QUIET
        )
    assert len(server.requests) <= 4
    everything = str(info.value) + repr(info.value.df.to_dict()) + str(info.value.df.attrs)
    assert KEY not in everything


def test_the_key_is_in_no_repr_frame_or_attrs(predict: pn.Predict, reviews: list[str]) -> None:
    df = pn.run_parallel(predict, reviews, **QUIET)
    for shown in (
        repr(predict),
        repr(predict.lm),
        str(vars(predict.lm)),
        str(df.attrs),
        df.to_csv(),
    ):
        assert KEY not in shown


def test_an_unreachable_endpoint_is_told_before_any_call(signature: pn.Signature) -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    predict = pn.Predict(signature, pn.LM("m", base_url=f"http://127.0.0.1:{port}/v1"))
    with pytest.raises(pn.LMError, match=r"cannot reach.*base_url"):
        pn.run_parallel(predict, ["a"], **QUIET)


def test_unknown_prices_and_unreported_tokens_are_missing_never_zero(
    signature: pn.Signature, server: ScriptedServer
) -> None:
    unknown = pn.Predict(signature, pn.LM("no-such-model-at-all", base_url=server.url))
    df = pn.run_parallel(unknown, ["row-0"], **QUIET)
    assert df["cost_usd"].isna().all()
    assert df.parallel.cost is None
    priced = pn.Predict(signature, pn.LM("x", base_url=server.url, price=(1.0, 2.0)))
    df = pn.run_parallel(priced, ["row-0"], **QUIET)
    assert df["cost_usd"][0] == pytest.approx((PROMPT_TOKENS + 2 * COMPLETION_TOKENS) / 1e6)
    server.script = lambda marker, attempt: Reply("no_usage")
    df = pn.run_parallel(priced, ["row-0"], **QUIET)
    assert df["total_tokens"].isna().all()


def test_the_request_is_a_strict_schema_with_the_lms_parameters(
    signature: pn.Signature, server: ScriptedServer
) -> None:
    lm = pn.LM("m", base_url=server.url, temperature=0.3, max_tokens=50, seed=7)
    demo = {"review": "fine", "sentiment": "neutral", "reason": "meh"}
    predict = pn.ChainOfThought(signature, lm, demos=[demo | {"reasoning": "so"}], top_p=0.5)
    server.script = lambda marker, attempt: Reply("ok")
    with pytest.raises(pn.InvalidOutputError, match="reasoning"):
        predict(review="row-0")
    body = server.requests[0]
    assert (body["temperature"], body["max_tokens"], body["seed"], body["top_p"]) == (
        0.3,
        50,
        7,
        0.5,
    )
    schema = body["response_format"]["json_schema"]
    assert schema["strict"] is True
    assert list(schema["schema"]["properties"]) == ["reasoning", "sentiment", "reason"]
    assert [m["role"] for m in body["messages"]] == ["system", "user", "assistant", "user"]
    assert body["messages"][0]["content"].startswith("Analyze customer review sentiment")


def test_history_grows_and_forgets(
    signature: pn.Signature, lm: pn.LM, server: ScriptedServer
) -> None:
    predict = pn.Predict(signature, lm, history=pn.History(max_messages=2))
    for i in range(3):
        predict(review=f"row-{i}")
    assert [len(r["messages"]) for r in server.requests] == [2, 4, 4]
    assert "row-1" in server.requests[2]["messages"][1]["content"]


def test_a_custom_lm_is_one_async_method(signature: pn.Signature) -> None:
    class Echo:
        async def complete(
            self, messages: Any, *, schema: Any = None, strict: bool = True, **params: Any
        ) -> pn.Completion:
            text = '{"sentiment": "neutral", "reason": "' + messages[-1]["content"] + '"}'
            return pn.Completion(text, pn.Usage(1, 2, 3, None, 5.0), "echo")

    df = pn.run_parallel(pn.Predict(signature, Echo()), ["a"], **QUIET)
    assert (df["reason"][0], df["model"][0], df["total_tokens"][0]) == ("review: a", "echo", 3)
    with pytest.raises(TypeError, match="complete"):
        pn.Predict(signature, object())  # type: ignore[arg-type]


def test_missing_demo_fields_and_unknown_inputs_are_refused(
    signature: pn.Signature, predict: pn.Predict, server: ScriptedServer
) -> None:
    with pytest.raises(ValueError, match="demo 0 lacks reason"):
        pn.Predict(signature, predict.lm, demos=[{"review": "x", "sentiment": "neutral"}])
    with pytest.raises(ValueError, match="unknown inputs"):
        predict(text="x")
    assert not server.requests


def test_metrics_are_those_of_the_rows(predict: pn.Predict, reviews: list[str]) -> None:
    prediction = pn.Parallel(predict, **QUIET)(review=reviews)
    metrics, df = prediction.metrics, prediction.to_frame()
    assert metrics is not None
    assert (metrics.total, metrics.successes, metrics.failures) == (12, 12, 0)
    latency = df["latency_ms"]
    assert metrics.latency.min_ms == latency.min()
    assert metrics.latency.max_ms == latency.max()
    assert metrics.latency.avg_ms == pytest.approx(latency.mean())
    assert metrics.latency.p50_ms == pytest.approx(np.percentile(latency, 50))
    assert df.parallel.metrics == metrics
    df.attrs.clear()
    assert df.parallel.metrics.latency == metrics.latency
    assert df.parallel.metrics.usage == pn.Usage(
        metrics.usage.prompt_tokens,
        metrics.usage.completion_tokens,  # type: ignore[union-attr]
        metrics.usage.total_tokens,
        pytest.approx(metrics.usage.cost_usd),  # type: ignore[union-attr]
        pytest.approx(latency.sum()),
    )


def test_a_frame_whose_rows_changed_speaks_for_its_rows(
    predict: pn.Predict, reviews: list[str]
) -> None:
    df = pn.run_parallel(predict, reviews, **QUIET)
    half = df[df["sentiment"] != "neutral"]
    assert (half.parallel.metrics.total, half.parallel.metrics.successes) == (8, 8)
    assert half.parallel.metrics.usage.total_tokens == half["total_tokens"].sum()
    assert pd.concat([df, df]).parallel.metrics.successes == 24
    assert df.sort_values("reason").parallel.metrics == df.parallel.metrics
    resampled = df.iloc[[0] * 6 + [1] * 6].reset_index(drop=True)  # as many rows, and others
    tokens = resampled["total_tokens"].sum()
    assert resampled.parallel.metrics != df.parallel.metrics
    assert resampled.parallel.metrics.usage.total_tokens == tokens
    assert resampled.parallel.metrics.max_in_flight == 0
    kept = pn.run_parallel(predict, reviews, return_all=False, **QUIET)
    assert (len(kept), kept.parallel.metrics.total) == (1, 12), "the option left rows out"


def test_rows_a_second_are_those_that_were_asked(
    predict: pn.Predict, server: ScriptedServer, reviews: list[str]
) -> None:
    for cached, asked in ((0, 12), (12, 0)):
        df = pn.run_parallel(predict, reviews, progress="none")
        metrics = df.parallel.metrics
        assert metrics.cached == cached
        assert metrics.rows_per_s == pytest.approx(asked / metrics.elapsed_s)


def test_attrs_survive_parquet(predict: pn.Predict, reviews: list[str], tmp_path: Path) -> None:
    df = pn.run_parallel(predict, reviews, **QUIET)
    df.to_parquet(tmp_path / "a.parquet")
    back = pd.read_parquet(tmp_path / "a.parquet")
    assert back.attrs["pardspy"] == df.attrs["pardspy"]
    assert back.parallel.metrics == df.parallel.metrics
    assert list(back["sentiment"].cat.categories) == LABELS


@pytest.mark.parametrize(
    ("reply", "error"),
    [
        (Reply("status", code=404), "ModelNotFoundError"),
        (Reply("status", code=429, body={"code": "insufficient_quota"}), "QuotaError"),
        (Reply("status", code=403), "AuthenticationError"),
    ],
)
def test_errors_that_would_meet_every_row_stop_the_run(
    predict: pn.Predict, server: ScriptedServer, reviews: list[str], reply: Reply, error: str
) -> None:
    server.script = lambda marker, attempt: reply
    with pytest.raises(pn.RunStopped, match=error) as info:
        pn.run_parallel(predict, reviews, max_workers=1, max_failures=None, **QUIET)
    # a single 403 may be the row's own: a firewall, a filter
    asked = 3 if reply.more["code"] == 403 else 1
    assert len(server.requests) == asked
    assert list(info.value.df["status"]) == ["failed"] * asked + ["not_run"] * (12 - asked)


@pytest.mark.slow
def test_an_awaited_call_on_the_users_own_loop_leaves_no_client_open(
    server: ScriptedServer,
) -> None:
    program = f"""
import asyncio
import pardspy_nb as pn
lm = pn.LM("m", base_url={server.url!r})
signature = pn.Signature("x").add_input("review").add_output("reason")
print(asyncio.run(pn.Predict(signature, lm).acall(review="row-7")).reason)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stdout.strip() == "row-7"
    assert done.stderr == ""


def test_cancelling_an_awaited_call_cancels_its_request(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    server.script = lambda marker, attempt: Reply("stall")

    async def give_up() -> None:
        async with asyncio.timeout(0.2):
            await predict.acall(review="row-0")

    with pytest.raises(TimeoutError):
        asyncio.run(give_up())


def test_an_awaited_run_that_is_cancelled_ends_its_display_too(
    predict: pn.Predict, server: ScriptedServer, reviews: list[str], capsys: Any
) -> None:
    server.script = lambda marker, attempt: Reply("stall")
    options = {"progress": "tqdm", "store": None, "max_workers": 12}

    async def give_up() -> None:
        waiting = asyncio.ensure_future(pn.arun_parallel(predict, reviews, **options))
        while server.in_flight < 12:
            await asyncio.sleep(0.01)
        waiting.cancel()
        await waiting

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(give_up())
    until, shown = time.monotonic() + 10, ""
    while "12 cancelled" not in shown:
        assert time.monotonic() < until, shown
        time.sleep(0.02)
        shown += capsys.readouterr().err
    assert "0/12" in shown


def test_an_iterator_that_breaks_keeps_the_rows_before_it(predict: pn.Predict) -> None:
    def rows() -> Any:
        yield {"review": "row-0"}
        yield {"review": "row-1"}
        raise OSError("disk gone")

    with pytest.raises(pn.ParallelError, match=r"ended early: 2 rows done.*disk gone") as info:
        pn.run_parallel(predict, rows(), **QUIET)
    assert list(info.value.df["reason"]) == ["row-0", "row-1"]


def test_errors_of_any_kind_fail_their_row_only() -> None:
    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError

    class Foreign(Exception):
        retryable, retry_after_s, usage = True, "soon", {"total_tokens": 3}

    errors = [Mute(), Foreign("x"), ValueError("\ud800")]

    def fail(i: int) -> int:
        raise errors[i]

    df = pn.run_parallel(fail, [0, 1, 2, 0, 1, 2], max_failures=None, max_attempts=2, **QUIET)
    assert list(df["error_type"]) == ["Mute", "Foreign", "ValueError"] * 2
    assert df["error"][0] == "(its message cannot be read: RuntimeError)"
    assert df["error"][2] == "\\ud800"
    assert df["prompt_tokens"].isna().all()


def test_an_input_that_cannot_be_put_into_words_fails_its_row_only(predict: pn.Predict) -> None:
    odd = pn.Predict(pn.Signature("x").add_input("a", Any).add_output("reason"), predict.lm)
    df = pn.run_parallel(odd, {"a": ["row-1", object(), "row-3"]}, max_failures=1, progress="none")
    assert list(df["status"]) == ["ok", "failed", "ok"]


def test_the_engine_s_own_crash_ends_the_run_and_keeps_its_rows() -> None:
    class Trap(Exception):
        @property
        def retryable(self) -> bool:
            raise RuntimeError("the engine did not expect this")

    def fail(i: int) -> int:
        if i == 2:
            raise Trap
        return i

    with pytest.raises(pn.ParallelError, match="did not expect this") as info:
        pn.run_parallel(fail, list(range(9)), max_workers=1, **QUIET)
    assert list(info.value.df["status"]) == ["ok", "ok", "cancelled"] + ["not_run"] * 6


def test_columns_of_arrays_are_inputs(predict: pn.Predict) -> None:
    import array

    import pyarrow

    for data in (pyarrow.array([1, 2]), array.array("i", [1, 2]), np.array([1, 2])):
        df = pn.run_parallel(lambda i: i + 1, data, **QUIET)
        assert list(df["output"]) == [2, 3]


def test_workers_can_be_set_to_auto_while_the_run_goes_on() -> None:
    async def nap(i: int) -> int:
        await asyncio.sleep(0.01)
        return i

    run = pn.start_parallel(nap, list(range(100)), max_workers=2, **QUIET)
    run.max_workers = "auto"  # type: ignore[assignment]
    df = run.result()
    assert (df["status"] == "ok").all()
    assert 8 <= df.parallel.metrics.max_in_flight <= 64
    assert run.max_workers >= 8


def test_cancel_is_heard_though_a_model_blocks_while_it_starts(signature: pn.Signature) -> None:
    release, starting = threading.Event(), threading.Event()

    class Rude:
        async def prepare(self) -> None:
            starting.set()
            release.wait(30)

        async def complete(self, messages: Any, **more: Any) -> pn.Completion:
            raise AssertionError("nothing may be asked")

    run = pn.start_parallel(pn.Predict(signature, Rude()), ["a", "b"], **QUIET)
    assert starting.wait(10)
    run.cancel()
    assert list(run.result()["status"]) == ["not_run", "not_run"]
    release.set()


def test_usage_that_is_told_as_text_is_counted(
    predict: pn.Predict, server: ScriptedServer, reviews: list[str]
) -> None:
    server.script = lambda marker, attempt: Reply("good", usage=("11", 7, 0))
    df = pn.run_parallel(predict, reviews, tpm=1_000_000, **QUIET)
    assert (df["status"] == "ok").all()
    assert (df["prompt_tokens"] == 11).all()
    assert (df["completion_tokens"] == 7).all()


@pytest.mark.parametrize("odd", [float("nan"), -1, 10**400, "many", [1], {}, True, object()])
def test_usage_that_is_no_number_is_missing_and_hurts_nobody(odd: Any) -> None:
    class Odd:
        async def complete(self, messages: Any, **more: Any) -> pn.Completion:
            return pn.Completion('{"b": "x"}', pn.Usage(odd, 7, 7, odd, 1.0), "m")

    df = pn.run_parallel(pn.Predict("a -> b", Odd()), ["x", "y"], tpm=1e6, **QUIET)
    assert (df["status"] == "ok").all()
    assert df["prompt_tokens"].isna().all()
    assert df["cost_usd"].isna().all()
    assert (df["completion_tokens"] == 7).all()


def test_usage_of_other_shapes_is_read() -> None:
    def own(a: str) -> pn.Prediction:
        usage: Any = {"prompt_tokens": Decimal(5), "completion_tokens": "2", "total_tokens": 7.0}
        return pn.Prediction({"b": a}, usage=usage)

    df = pn.run_parallel(own, ["x", "y"], **QUIET)
    assert df[["prompt_tokens", "completion_tokens", "total_tokens"]].iloc[0].tolist() == [5, 2, 7]


def test_a_key_that_cannot_be_sent_stops_the_run_at_once(
    signature: pn.Signature, server: ScriptedServer, reviews: list[str]
) -> None:
    lm = pn.LM("m", base_url=server.url, api_key="sk-a\nb")
    with pytest.raises(pn.LMError, match="characters that no key can have"):
        pn.run_parallel(pn.Predict(signature, lm), reviews, **QUIET)
    assert not server.requests
    padded = pn.LM("m", base_url=server.url, api_key=" sk-mine\n")
    assert (
        pn.run_parallel(pn.Predict(signature, padded), reviews, **QUIET)["status"] == "ok"
    ).all()


@pytest.mark.slow
def test_limits_that_the_endpoint_tells_are_kept(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    server.answer_headers = {"x-ratelimit-limit-requests": "1200"}  # 20 a second
    df = pn.run_parallel(predict, [f"row-{i}" for i in range(40)], max_workers=5, **QUIET)
    assert (df["status"] == "ok").all()
    later = server.times_s[10:]  # five are on their way before the first answer tells
    in_one_s = max(sum(a <= b < a + 1 for b in later) for a in later)
    assert in_one_s <= 20 + 20
    assert later[-1] - later[0] >= 29 / 20 - 1


@pytest.mark.slow
def test_rpm_holds_at_the_server(predict: pn.Predict, server: ScriptedServer) -> None:
    pn.run_parallel(predict, [f"row-{i}" for i in range(60)], max_workers=60, rpm=1800, **QUIET)
    for window_s in (0.2, 1.0):
        most = max(sum(a <= b < a + window_s for b in server.times_s) for a in server.times_s)
        assert most <= 30 * window_s + 30
    assert server.times_s[-1] - server.times_s[0] >= 59 / 30 - 1


def test_a_row_in_trouble_is_hedged_over_http_and_both_requests_count(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    server.delay_s = 0.02
    server.script = lambda marker, attempt: (
        Reply("stall", seconds=20) if marker == 50 and attempt == 1 else Reply()
    )
    df = pn.run_parallel(
        predict, [f"row-{i}" for i in range(80)], max_workers=8, hedge=0.9, **QUIET
    )
    assert (df["status"] == "ok").all()
    assert df["attempts"][50] == 2
    assert df["attempts"].sum() == server.attempts.total()
    assert 1 <= df.parallel.metrics.duplicates <= 4
    assert df["total_tokens"][50] == 2 * 18
    assert df.parallel.metrics.elapsed_s < 10


def test_a_misspelt_setting_is_refused(predict: pn.Predict, reviews: list[str]) -> None:
    run: Any = pn.start_parallel(predict, reviews, progress="none", store=None)
    with pytest.raises(AttributeError, match="did you mean 'max_workers'"):
        run.max_wokers = 3
    run.max_workers = 3
    assert len(run.result()) == 12


def test_a_run_that_is_looked_at_while_another_thread_concludes_it_blocks_neither() -> None:
    """Whoever shows a finished run must not hold what its conclusion needs."""
    run = Run(plan_run(from_module(lambda i: {"twice": 2 * i}), [1, 2], Options(progress="none")))
    run.start()
    eventually(lambda: run.done, "all rows are settled")
    shown: list[Any] = []
    with run._ending:  # as the thread does that concludes the run
        looks = threading.Thread(target=lambda: shown.append(run._mime_()), daemon=True)
        looks.start()
        looks.join(0.3)
        is_free = run._drain.acquire(timeout=2)
        if is_free:
            run._drain.release()
    looks.join(10)
    assert is_free, "the thread that looks holds it"
    assert "Done in" in shown[0][1]
