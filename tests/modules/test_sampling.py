"""The best of several answers, and refined ones."""

from __future__ import annotations

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
