"""Functions, factories and instances as modules."""

from __future__ import annotations

import os
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from support.scripted_server import COMPLETION_TOKENS, PROMPT_TOKENS, ScriptedServer

import pardspy_nb as pn

QUIET: dict[str, Any] = {"progress": "none", "store": None}


def test_sync_and_async_functions_are_modules() -> None:
    def shout(text: str) -> dict[str, Any]:
        return {"loud": text.upper(), "n": len(text)}

    async def plain(text: str) -> str:
        return text[::-1]

    df = pn.run_parallel(shout, ["ab", "c"], **QUIET)
    assert list(df["loud"]) == ["AB", "C"]
    assert str(df["n"].dtype) == "Int64"
    assert list(pn.run_parallel(plain, ["ab"], **QUIET)["output"]) == ["ba"]


def test_sync_functions_run_max_workers_at_once() -> None:
    barrier = threading.Barrier(4, timeout=10)

    def meet(i: int) -> int:
        return barrier.wait()

    df = pn.run_parallel(meet, [1, 2, 3, 4], max_workers=4, **QUIET)
    assert sorted(df["output"]) == [0, 1, 2, 3]


def test_a_function_that_hangs_does_not_hold_up_the_run() -> None:
    release = threading.Event()

    def hang(i: int) -> int:
        if i == 0:
            release.wait(30)
        return i

    df = pn.run_parallel(
        hang, [0, 1, 2], max_workers=1, timeout_s=0.2, max_attempts=1, max_failures=1, **QUIET
    )
    release.set()
    assert list(df["status"]) == ["failed", "ok", "ok"]


def test_context_variables_of_the_caller_are_seen() -> None:
    from contextvars import ContextVar

    tenant: ContextVar[str] = ContextVar("tenant")
    tenant.set("acme")

    def who(i: int) -> str:
        return tenant.get()

    assert list(pn.run_parallel(who, [1], **QUIET)["output"]) == ["acme"]


def test_a_factory_makes_a_module_a_row_and_instances_take_turns(
    signature: pn.Signature, lm: pn.LM, server: ScriptedServer, reviews: list[str]
) -> None:
    made: list[int] = []

    def factory(i: int) -> pn.Predict:
        made.append(i)
        return pn.Predict(signature, lm, history=pn.History())

    prediction = pn.Parallel.from_factory(factory, **QUIET)(review=reviews)
    assert [c["reason"] for c in prediction.completions] == [f"row-{i}" for i in range(12)]
    assert sorted(made[1:]) == list(range(12))
    assert {len(r["messages"]) for r in server.requests} == {2}, "a history was shared"

    server.requests.clear()
    server.delay_s = 0.02
    instances = [pn.Predict(signature, lm, history=pn.History()) for _ in range(3)]
    pn.Parallel.from_instances(instances, **QUIET)(review=reviews)
    assert server.max_in_flight <= 3
    for i, instance in enumerate(instances):
        asked = [m["content"] for m in instance.history.messages if m["role"] == "user"]  # type: ignore[union-attr]
        assert asked == [f"review: row-{n} is a review" for n in range(i, 12, 3)]


def test_a_shared_history_is_refused(signature: pn.Signature, lm: pn.LM) -> None:
    predict = pn.Predict(signature, lm, history=pn.History())
    with pytest.raises(ValueError, match="from_factory"):
        pn.run_parallel(predict, ["row-0", "row-1"], **QUIET)


def test_nested_runs_count_their_usage_once(predict: pn.Predict) -> None:
    def outer(topic: str) -> dict[str, Any]:
        inner = pn.run_parallel(predict, [f"row-{topic}", "row-9"], **QUIET)
        return {"first": inner["reason"].iloc[0]}

    df = pn.run_parallel(outer, ["1", "2"], **QUIET)
    assert list(df["first"]) == ["row-1", "row-2"]
    assert list(df["total_tokens"]) == [2 * (PROMPT_TOKENS + COMPLETION_TOKENS)] * 2


@pytest.mark.parametrize("module", [3, None, "x", pn.Predict], ids=str)
def test_what_is_no_module_is_refused(module: Any) -> None:
    with pytest.raises((TypeError, ValueError)):
        pn.run_parallel(module, ["a"])
    with pytest.raises(ValueError, match="at least one"):
        pn.Parallel.from_instances([])


def test_a_module_that_returns_a_result_columns_name_fails_its_row() -> None:
    df = pn.run_parallel(lambda x: {"status": 1}, ["a"], max_failures=1, **QUIET)
    assert df["error_type"][0] == "ModuleOutputError"


def test_calls_that_go_on_after_their_time_are_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thread cannot be stopped from outside: no more than so many are left behind."""
    from pardspy_nb.core import threads

    monkeypatch.setattr(threads, "MOST_LEFT_BEHIND", 5)
    monkeypatch.setattr(threads, "_COME_AGAIN_S", 0.05)
    release = threading.Event()
    hanging: set[int] = set()

    def hang(i: int) -> int:
        hanging.add(threading.get_ident())
        release.wait(60)
        return i

    try:
        df = pn.run_parallel(
            hang, range(30), max_workers=4, timeout_s=0.05, max_failures=None, **QUIET
        )
    except pn.AllFailed as error:
        df = error.df
    n_hanging = len(hanging)
    release.set()
    assert (df["status"] == "failed").all()
    assert n_hanging <= 5 + 4  # and those in flight
    said = df["error"].str.contains("still go on in their threads")
    assert said.sum() >= 20
    assert pn.run_parallel(hang, [1], **QUIET)["output"].tolist() == [1]


def test_a_thread_that_cannot_be_had_is_that_rows_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    from pardspy_nb.core import threads

    monkeypatch.setattr(threads, "_COME_AGAIN_S", 0.01)
    start = threading.Thread.start
    begun: list[str] = []

    def limited(thread: threading.Thread) -> None:
        if thread.name == "pardspy-function":
            begun.append(thread.name)
            if len(begun) != 1:
                raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)

    def waits_for_a_refusal(i: int) -> int:
        while len(begun) < 3:
            time.sleep(0.001)
        return i

    df = pn.run_parallel(waits_for_a_refusal, range(3), max_workers=2, max_attempts=50, **QUIET)
    assert (df["status"] == "ok").all()
    assert df["attempts"].max() > 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="this system has no fork")
@pytest.mark.parametrize("is_async", [False, True])
def test_a_fork_ends_where_the_function_ends(tmp_path: Path, is_async: bool) -> None:
    """Whatever the child does, it is not the run: it asks nothing, and lives no longer."""
    asked = tmp_path / "asked"

    def forks(i: int) -> int:
        with asked.open("a") as file:
            file.write(f"{i}\n")
        child = os.fork()
        if child == 0:
            if i == 0:
                sys.exit(7)
            if i == 1:
                raise ValueError("in the child")
            return i
        _, status = os.waitpid(child, 0)
        return os.waitstatus_to_exitcode(status)

    async def forks_in_a_coroutine(i: int) -> int:
        return forks(i)

    df = pn.run_parallel(forks_in_a_coroutine if is_async else forks, range(3), **QUIET)
    assert df["output"].tolist() == [7, 1, 0]
    assert sorted(asked.read_text().split()) == ["0", "1", "2"]
