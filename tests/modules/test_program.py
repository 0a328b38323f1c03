"""Chains of modules."""

from __future__ import annotations

from typing import Any

import pytest
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn

QUIET: dict[str, Any] = {"progress": "none", "store": None}


LABELS = ["positive", "neutral", "negative"]


@pytest.fixture
def second(lm: pn.LM) -> pn.Predict:
    return pn.Predict("sentiment, review -> reason", lm, instructions="Second step")


def test_a_program_passes_outputs_on_and_counts_each_call_once(
    predict: pn.Predict, second: pn.Predict, server: ScriptedServer
) -> None:
    def shout(reason: str) -> dict[str, Any]:
        return {"loud": reason.upper()}

    program = pn.Program([predict, second, shout])
    df = pn.run_parallel(program, {"review": [f"row-{i}" for i in range(5)]}, **QUIET)
    assert list(df["loud"]) == [f"ROW-{i}" for i in range(5)]
    assert list(df["sentiment"].cat.categories) == LABELS
    assert list(df["total_tokens"]) == [36] * 5
    assert df.parallel.metrics.usage.total_tokens == server.billed_prompt + server.billed_completion
    assert "sentiment: negative" in server.requests[-1]["messages"][-1]["content"] or len(df) == 5
    whole = program(review="row-2")
    assert (whole.loud, whole.sentiment) == ("ROW-2", "negative")
    assert whole.usage is not None
    assert whole.usage.total_tokens == 36


def test_what_a_program_takes_is_what_its_modules_do_not_make(
    predict: pn.Predict, second: pn.Predict, lm: pn.LM, server: ScriptedServer
) -> None:
    with pytest.raises(ValueError, match=r"lacks \['review'\]"):
        pn.run_parallel(pn.Program([predict, second]), {"text": ["a"]}, **QUIET)
    topic = pn.Predict("sentiment, topic -> reason", lm)
    df = pn.run_parallel(pn.Program([predict, topic]), {"review": ["row-1"], "topic": "t"}, **QUIET)
    assert list(df.columns[:2]) == ["review", "topic"]

    def undeclared(review: str) -> dict[str, Any]:
        return {"sentiment": "neutral"}

    df = pn.run_parallel(pn.Program([undeclared, second]), ["row-1"], **QUIET)
    assert df["reason"].tolist() == ["row-1"]
    lacking = pn.run_parallel(
        pn.Program([lambda review: {"x": 1}, second]), ["row-1"], max_failures=1, **QUIET
    )
    assert "needs ['sentiment']" in lacking["error"][0]
    with pytest.raises(ValueError, match="at least one"):
        pn.Program([])


def test_a_program_sends_back_what_does_not_fit_without_starting_over(
    predict: pn.Predict, second: pn.Predict, server: ScriptedServer
) -> None:
    def script(marker: int, attempt: int) -> Reply:
        return Reply("garbage" if attempt == 2 else "ok")

    server.script = script
    df = pn.run_parallel(pn.Program([predict, second]), ["row-0"], **QUIET)
    assert list(df["status"]) == ["ok"]
    assert server.attempts[0] == 3  # the first step once, the second twice
    assert list(df["total_tokens"]) == [3 * 18]


def by_label(inputs: Any, prediction: pn.Prediction) -> float:
    return float(LABELS.index(prediction.sentiment))


def test_what_a_model_of_ones_own_used_is_counted_inside_other_modules(
    signature: pn.Signature,
) -> None:
    class Own:
        async def complete(self, messages: Any, **more: Any) -> pn.Completion:
            return pn.Completion(
                '{"sentiment": "neutral", "reason": "r"}', pn.Usage(3, 2, 5), "own"
            )

    plain = pn.Predict(signature, Own())
    for module, calls in (
        (plain, 1),
        (pn.BestOfN(plain, 3, by_label), 3),
        (pn.Program([plain]), 1),
    ):
        df = pn.run_parallel(module, {"review": ["a"]}, **QUIET)
        assert df["total_tokens"].tolist() == [5 * calls]


def test_a_conversation_inside_another_module_is_not_shared(
    signature: pn.Signature, lm: pn.LM, server: ScriptedServer
) -> None:
    talk = pn.Predict(signature, lm, history=pn.History())
    for module in (pn.Program([talk]), pn.BestOfN(talk, 2, by_label), pn.Refine(talk, 2, by_label)):
        with pytest.raises(ValueError, match="history"):
            pn.run_parallel(module, ["row-0", "row-1"], max_workers=2, **QUIET)
    assert len(pn.run_parallel(pn.Program([talk]), ["row-0"], max_workers=1, **QUIET)) == 1
    made = pn.Parallel.from_factory(
        lambda i: pn.Program([pn.Predict(signature, lm, history=pn.History())]), **QUIET
    )
    assert len(made({"review": ["row-0", "row-1"]}).completions) == 2


def test_functions_inside_a_program_leave_no_threads_behind(predict: pn.Predict) -> None:
    """A thread that is told to end takes a moment, so they are waited for by name."""
    import threading

    program = pn.Program([lambda review: {"review": review + "!"}, predict])
    before = set(threading.enumerate())
    pn.run_parallel(program, [f"row-{i}" for i in range(20)], max_workers=10, **QUIET)
    left = [t for t in set(threading.enumerate()) - before if t.name == "pardspy-function"]
    for thread in left:
        thread.join(5)
    assert not any(thread.is_alive() for thread in left)
