"""Modules made of others: pairs, programs, the best of several answers, refined ones."""

from __future__ import annotations

import asyncio
from typing import Any

import pandas as pd
import pytest
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn

QUIET: dict[str, Any] = {"progress": "none", "store": None}
LABELS = ["positive", "neutral", "negative"]


@pytest.fixture
def second(lm: pn.LM) -> pn.Predict:
    return pn.Predict("sentiment, review -> reason", lm, instructions="Second step")


# -- pairs ---------------------------------------------------------------------------------------


def test_each_row_of_a_list_of_pairs_goes_to_its_own_module(
    predict: pn.Predict, lm: pn.LM, server: ScriptedServer
) -> None:
    other = pn.Predict("review, topic -> reason", lm, instructions="The other")

    def plain(review: str) -> dict[str, Any]:
        return {"reason": review.upper()}

    pairs = [
        (predict, {"review": "row-0"}),
        (other, {"review": "row-1", "topic": "t"}),
        (plain, {"review": "row-2"}),
        (predict, {"review": "row-3"}),
    ]
    df = pn.run_parallel(pairs, **QUIET)
    assert list(df["reason"]) == ["row-0", "row-1", "ROW-2", "row-3"]
    assert df["sentiment"].fillna("").tolist() == ["positive", "", "", "positive"]
    assert df["topic"].fillna("").tolist() == ["", "t", "", ""]
    said = {r["messages"][-1]["content"]: r["messages"][0]["content"][:9] for r in server.requests}
    assert said["review: row-1\ntopic: t"] == "The other"
    twice = pn.run_parallel(pairs[:2], repeat=2, max_workers=1, **QUIET)
    assert twice["topic"].fillna("").tolist() == ["", "", "t", "t"]
    assert twice["sample"].tolist() == [0, 1, 0, 1]


def test_pairs_of_one_module_are_typed_and_remembered(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    pairs = [(predict, {"review": f"row-{i}"}) for i in range(6)]
    df = pn.run_parallel(pairs, progress="none")
    assert list(df["sentiment"].cat.categories) == LABELS
    assert asyncio.run(pn.arun_parallel(pairs, progress="none"))["cached"].all()
    assert len(server.requests) == 6


def test_pairs_that_do_not_fit_are_refused_before_anything_is_sent(
    predict: pn.Predict, signature: pn.Signature, lm: pn.LM, server: ScriptedServer
) -> None:
    talk = pn.Predict(signature, lm, history=pn.History())
    for pairs, kind, message in (
        ([], ValueError, "empty"),
        (predict, TypeError, "pairs"),
        ([(predict, {"revew": "x"})], ValueError, r"pair 0.*missing \['review'\].*'revew'"),
        ([(predict, "x")], TypeError, "pair 0"),
        ([(talk, {"review": "a"}), (talk, {"review": "b"})], ValueError, "history"),
        ([(3, {"review": "a"})], TypeError, "not a module"),
    ):
        with pytest.raises(kind, match=message):
            pn.run_parallel(pairs, **QUIET)
    assert server.requests == []


# -- programs ------------------------------------------------------------------------------------


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


# -- the best of several -------------------------------------------------------------------------


def by_label(inputs: Any, prediction: pn.Prediction) -> float:
    return float(LABELS.index(prediction.sentiment))


@pytest.fixture
def varied(server: ScriptedServer) -> ScriptedServer:
    """The k-th answer to a row has label k."""
    server.script = lambda marker, attempt: Reply(label=min(attempt - 1, 2))
    return server


def test_best_of_n_keeps_the_answer_that_scores_best(
    predict: pn.Predict, varied: ScriptedServer
) -> None:
    varied.delay_s = 0.05
    best = pn.BestOfN(predict, 3, by_label)
    df = pn.run_parallel(best, {"review": ["row-0", "row-1"]}, **QUIET)
    assert list(df["sentiment"]) == ["negative", "negative"]
    assert list(df["score"]) == [2.0, 2.0]
    assert list(df.columns[:4]) == ["review", "sentiment", "reason", "score"]
    assert list(df["sentiment"].cat.categories) == LABELS
    assert list(df["total_tokens"]) == [54, 54]
    assert varied.max_in_flight >= 3  # at once
    temperatures = sorted(str(r.get("temperature")) for r in varied.requests)
    assert temperatures == ["1.0"] * 4 + ["None"] * 2


def test_best_of_n_stops_at_its_threshold_and_lives_with_failures(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    def script(marker: int, attempt: int) -> Reply:
        return Reply("status", code=400) if attempt == 1 else Reply(label=min(attempt - 1, 2))

    server.script = script
    best = pn.BestOfN(predict, 5, by_label, threshold=1.0)
    prediction = best(review="row-0")
    assert (prediction.sentiment, prediction.score, server.attempts[0]) == ("neutral", 1.0, 2)
    assert len(prediction.completions) == 1
    server.script = lambda marker, attempt: Reply("status", code=400)
    df = pn.run_parallel(pn.BestOfN(predict, 2, by_label), ["row-9"], max_failures=1, **QUIET)
    assert list(df["error_type"]) == ["BadRequestError"]


def test_refine_asks_again_with_what_was_wrong(predict: pn.Predict, varied: ScriptedServer) -> None:
    async def judge(inputs: Any, prediction: pn.Prediction) -> tuple[float, str]:
        return by_label(inputs, prediction), f"{inputs['review']} is not {prediction.sentiment}"

    refined = pn.Refine(predict, 4, judge, threshold=2.0)
    df = pn.run_parallel(refined, ["row-0"], **QUIET)
    assert (df["sentiment"][0], df["score"][0]) == ("negative", 2.0)
    assert df["total_tokens"][0] == 54
    first, second, third = (r["messages"][-1]["content"] for r in varied.requests)
    assert "row-0 is not positive" in second
    assert '"sentiment": "positive"' in second
    assert second.startswith(first)
    assert "row-0 is not neutral" in third
    assert len(pn.Refine(predict, 2, by_label)(review="row-1").completions) == 2


def test_refine_keeps_the_best_and_survives_an_answer_that_does_not_fit(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    kinds = {1: Reply("garbage"), 2: Reply(label=2), 3: Reply(label=0)}
    server.script = lambda marker, attempt: kinds[attempt]
    prediction = pn.Refine(predict, 3, by_label)(review="row-0")
    assert prediction.sentiment == "negative"
    assert [c["sentiment"] for c in prediction.completions] == ["negative", "positive"]


def test_wrong_use_is_refused(predict: pn.Predict, lm: pn.LM) -> None:
    with pytest.raises(TypeError, match="score"):
        pn.BestOfN(predict, 3)
    with pytest.raises(ValueError, match="at least 1"):
        pn.BestOfN(predict, 0, by_label)
    with pytest.raises(ValueError, match="'score'"):
        pn.BestOfN(pn.Predict("a -> score", lm), 2, by_label)
    with pytest.raises(TypeError, match="threshold"):
        pn.BestOfN(predict, 2, by_label, threshold="high")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"Program\(\["):
        pn.Program(predict)  # type: ignore[arg-type]
    for result in (None, "good", (1, 2, 3)):
        df = pn.run_parallel(
            pn.BestOfN(predict, 1, lambda i, p, r=result: r), ["row-1"], max_failures=1, **QUIET
        )
        assert "must return a number" in df["error"][0]
    with pytest.raises(TypeError, match="Predict"):
        pn.Refine(lambda review: review, 2, by_label)  # type: ignore[arg-type]


def test_composites_nest_and_take_functions(predict: pn.Predict, varied: ScriptedServer) -> None:
    def lengths(reason: str) -> int:
        return len(reason)

    program = pn.Program([pn.BestOfN(predict, 2, by_label), lengths])
    df = pn.run_parallel(program, pd.DataFrame({"review": ["row-0"], "id": [7]}), **QUIET)
    assert (df["output"][0], df["score"][0], df["id"][0]) == (5, 1.0, 7)
    assert list(df["total_tokens"]) == [36]


def test_a_score_that_fails_is_the_rows_error_once_all_samples_are_counted(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    server.latency_s = lambda marker: 0.05 if len(server.requests) == 1 else 0.3

    def bad(inputs: Any, prediction: Any) -> float:
        raise KeyError("score")

    for score, error in ((bad, "KeyError"), (lambda inputs, p: float("nan"), "ValueError")):
        before = server.billed_prompt + server.billed_completion
        df = pn.run_parallel(pn.BestOfN(predict, 4, score), ["row-1"], max_failures=1, **QUIET)
        assert list(df["error_type"]) == [error]
        assert df["total_tokens"][0] == server.billed_prompt + server.billed_completion - before


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


def test_pairs_can_be_confident_and_are_no_lanes(
    predict: pn.Predict, lm: pn.LM, server: ScriptedServer
) -> None:
    titled = pn.Predict(
        pn.Signature("S").add_input("title").add_class_output("sentiment", LABELS), lm
    )
    pairs = [(predict, {"review": "row-1"}), (titled, {"title": "row-2"})] * 20
    server.delay_s = 0.02
    df = pn.run_parallel(pairs, confidence=True, max_workers=4, **QUIET)
    assert df["sentiment_confidence"].isna().all()
    assert list(df["sentiment"].cat.categories) == LABELS
    assert server.max_in_flight <= 4
