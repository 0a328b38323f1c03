"""If our own code breaks, at whatever stage: the run ends, nothing more is paid, no row is lost."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn
from pardspy_nb.display import sinks
from pardspy_nb.display.progress import RunProgress
from pardspy_nb.engine import (
    adaptive_concurrency,
    admission,
    budget,
    deduplication,
    outage,
    outcomes,
    rate_limiter,
    row_queue,
    row_task,
    stragglers,
)
from pardspy_nb.engine.engine import Engine
from pardspy_nb.llm import endpoint, lm, transport
from pardspy_nb.modules import invocation, predict
from pardspy_nb.runs.collectors import collector, frame
from pardspy_nb.signatures import output_parser
from pardspy_nb.store import cache
from pardspy_nb.tables import frame as building
from pardspy_nb.tables import results

pytestmark = pytest.mark.slow

ROWS, WORKERS, BREAKS_AT = 60, 4, 12

# stages that every row, attempt or event passes
OF_A_ROW: list[tuple[Any, str]] = [
    (admission.Admission, "admit"),
    (admission.Admission, "leave"),
    (outage.Outage, "enter"),
    (outage.Outage, "leave"),
    (outage.Outage, "wait_s"),
    (rate_limiter.RateLimiter, "enter"),
    (rate_limiter.RateLimiter, "leave"),
    (budget.Budget, "wait_s"),
    (budget.Budget, "enter"),
    (budget.Budget, "leave"),
    (row_queue.RowQueue, "take"),
    (row_queue.RowQueue, "leave"),
    (row_queue.RowQueue, "arm"),
    (row_task.RowTask, "bill"),
    (row_task.RowTask, "finished"),
    (outcomes.Outcomes, "settle"),
    (stragglers.Stragglers, "began"),
    (stragglers.Stragglers, "succeeded"),
    (deduplication.Deduplicator, "needs_no_attempt"),
    (deduplication.Deduplicator, "keep"),
    (deduplication.Deduplicator, "share"),
    (adaptive_concurrency.AdaptiveConcurrency, "observe"),
    (cache.AnswerCache, "key"),
    (cache.AnswerCache, "get"),
    (cache.AnswerCache, "put"),
    (Engine, "_begin"),
    (Engine, "_take"),
    (Engine, "_succeed"),
    (Engine, "_start_workers"),
]
OF_AN_EVENT: list[tuple[Any, str]] = [
    (collector.Collector, "_add"),
    (collector.Collector, "_add_row"),
    (frame.FrameDestination, "add"),
    (results.Results, "_add_answer"),
    (RunProgress, "add"),
    (RunProgress, "_succeed"),
]
# an attempt's own stages: what breaks there is the row's failure
OF_AN_ATTEMPT: list[tuple[Any, str]] = [
    (lm.LM, "request"),
    (lm.LM, "read"),
    (lm, "read_completion"),
    (endpoint.Endpoint, "post"),
    (transport.Transport, "post"),
    (output_parser.AnswerParser, "parse"),
    (output_parser.AnswerParser, "_outputs"),
    (predict.Predict, "_messages"),
    (predict.Predict, "answer_of"),
    (invocation.UsageScope, "__enter__"),
]
# once, when the run ends or is looked at
OF_THE_END: list[tuple[Any, str]] = [
    (collector.Collector, "finish"),
    (collector.Collector, "summary"),
    (collector.Collector, "warn_of_renamed"),
    (collector, "provenance"),
    (building, "checksums"),
    (RunProgress, "metrics"),
    (sinks.Watchers, "close"),
    (cache.AnswerCache, "close"),
]


class Boom(Exception):
    """The fault that is injected."""


def broken(function: Callable[..., Any], at: int) -> Callable[..., Any]:
    """A function whose call number `at` fails, after it or before it did its work."""
    calls, lock = [0], threading.Lock()

    def call(*args: Any, **more: Any) -> Any:
        with lock:
            calls[0] += 1
            is_it = calls[0] == at
        if is_it:
            raise Boom("injected")
        return function(*args, **more)

    return call


def run(
    monkeypatch: pytest.MonkeyPatch,
    stage: tuple[Any, str],
    at: int,
    server: ScriptedServer,
    module: pn.Predict,
) -> tuple[Any, BaseException | None]:
    """The frame and the error of a run with a fault at a stage."""
    owner, name = stage
    monkeypatch.setattr(owner, name, broken(getattr(owner, name), at))
    server.delay_s = 0.005
    rows = [f"row-{i}" for i in range(ROWS)]
    options: dict[str, Any] = {"max_workers": WORKERS, "max_failures": None, "progress": "none"}
    if owner is adaptive_concurrency.AdaptiveConcurrency:
        options["max_workers"] = "auto"
    if owner is budget.Budget:
        options["max_cost_usd"] = 100.0
    running = pn.start_parallel(module, rows, **options)
    if not running._thread.done.wait(20):
        running.cancel()
        pytest.fail("the run hangs")
    try:
        return running.result(), None
    except BaseException as error:
        return getattr(error, "df", None), error


def cause_of(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, Boom) or "injected" in str(error):
            return True
        error = error.__cause__
    return False


def known(stage: tuple[Any, str]) -> str:
    return f"{stage[0].__name__.rpartition('.')[2]}.{stage[1]}"


@pytest.fixture
def bounded(signature: pn.Signature, server: ScriptedServer) -> pn.Predict:
    model = pn.LM("m", base_url=server.url, api_key="k", max_tokens=50, price=(1.0, 1.0))
    return pn.Predict(signature, model)


@pytest.mark.parametrize("stage", OF_A_ROW + OF_AN_EVENT, ids=known)
def test_a_fault_of_our_own_ends_the_run_with_every_row(
    monkeypatch: pytest.MonkeyPatch,
    server: ScriptedServer,
    bounded: pn.Predict,
    stage: tuple[Any, str],
) -> None:
    at = 2 if stage[1] in ("arm", "_start_workers") else BREAKS_AT  # these are called seldom
    df, error = run(monkeypatch, stage, at, server, bounded)
    assert isinstance(error, pn.ParallelError), error
    assert cause_of(error), error
    assert df is not None
    assert sorted(df.index) == list(range(ROWS))
    asked = len(server.requests)
    assert asked < ROWS - WORKERS, "the run goes on paying"
    right = df[df["status"] == "ok"]
    assert right["reason"].tolist() == [f"row-{i}" for i in right.index]
    # at most what was in flight when it broke is paid for and not in the frame
    assert len(right) >= asked - WORKERS - 1
    for i in df.index[df["status"] == "not_run"]:
        assert server.attempts[i] == 0


@pytest.mark.parametrize("stage", OF_AN_ATTEMPT, ids=known)
def test_a_fault_within_an_attempt_is_the_rows(
    monkeypatch: pytest.MonkeyPatch,
    server: ScriptedServer,
    bounded: pn.Predict,
    stage: tuple[Any, str],
) -> None:
    df, error = run(monkeypatch, stage, BREAKS_AT, server, bounded)
    assert error is None
    assert df["status"].value_counts()[["ok", "failed"]].tolist() == [ROWS - 1, 1]
    assert df["error"].dropna().str.contains("injected").all()


@pytest.mark.parametrize("stage", OF_THE_END, ids=known)
def test_a_fault_at_the_end_loses_no_row(
    monkeypatch: pytest.MonkeyPatch,
    server: ScriptedServer,
    bounded: pn.Predict,
    stage: tuple[Any, str],
) -> None:
    df, error = run(monkeypatch, stage, 1, server, bounded)
    assert df is not None, error
    assert df["reason"].tolist() == [f"row-{i}" for i in range(ROWS)]


def test_an_odd_value_of_one_row_is_its_failure(
    server: ScriptedServer, predict: pn.Predict
) -> None:
    import numpy as np

    odd: list[Any] = [["a"], {"a": 1}, np.arange(3), {1, 2}, object(), b"x", 10**400, "splendid"]
    server.script = lambda marker, attempt: Reply(label=0)

    def last(review: str, sentiment: str) -> dict[str, Any]:
        number = int(review.removeprefix("row-"))
        return {"sentiment": odd[number] if number < len(odd) else sentiment}

    program = pn.Program([predict, last])
    rows = [f"row-{i}" for i in range(20)]
    df = pn.run_parallel(program, rows, max_failures=None, store=None, progress="none")
    assert df.index[df["status"] == "failed"].tolist() == list(range(len(odd)))
    assert df["error_type"].dropna().eq("ModuleOutputError").all()
    assert df["sentiment"].dropna().tolist() == ["positive"] * 12
