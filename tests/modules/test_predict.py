"""What is sent back to a model, and what that leaves in the frame."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn

QUIET: dict[str, Any] = {"progress": "none", "store": None}


GOOD = {"sentiment": "negative", "reason": "too loud"}


def test_repairs_are_a_column_and_a_figure(
    predict: pn.Predict, server: ScriptedServer, reviews: list[str]
) -> None:
    fenced = f"```json\n{json.dumps(GOOD)}\n```"
    server.script = lambda marker, attempt: Reply(content=fenced if marker == 1 else None)
    options = QUIET | {"store": True}
    df = pn.run_parallel(predict, reviews, **options)
    assert df["repaired"].dropna().to_dict() == {1: "fenced"}
    assert df.columns[df.columns.get_loc("error") + 1] == "repaired"
    assert df.parallel.metrics.repaired == 1
    assert ("repaired", "1") in df.parallel.summary().figures
    again = pn.run_parallel(predict, reviews, **options)
    assert again["cached"].all()
    assert again["repaired"].dropna().to_dict() == {1: "fenced"}
    df.attrs.clear()
    assert df.parallel.metrics.repaired == 1


def test_an_invalid_answer_is_sent_back_at_once_with_what_was_wrong(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    def script(marker: int, attempt: int) -> Reply:
        if attempt == 2:  # trouble in between does not make it forget
            return Reply("status", code=500, headers={"retry-after-ms": "1"})
        return Reply("wrong_label" if attempt == 1 else "ok")

    server.script = script
    df = pn.run_parallel(predict, ["row-1 is it"], **QUIET)
    assert list(df["attempts"]) == [3]
    assert list(df["repaired"]) == ["asked again"]
    assert df["total_tokens"][0] == 2 * 18
    assert df["waited_ms"][0] < 200
    first, _, third = (r["messages"][-1]["content"] for r in server.requests)
    assert third.startswith(first)
    assert "splendid" in third
    assert "Input should be 'positive', 'neutral' or 'negative'" in third
    assert "splendid" not in first


def test_a_bounded_number_of_times(predict: pn.Predict, server: ScriptedServer) -> None:
    server.script = lambda marker, attempt: Reply("wrong_label")
    df = pn.run_parallel(predict, ["row-0"], max_attempts=3, max_failures=1, **QUIET)
    assert (df["error_type"][0], df["attempts"][0]) == ("OutOfVocabularyError", 3)
    assert df["total_tokens"][0] == 3 * 18


@pytest.mark.parametrize("faults", [1, 2, 3])
def test_a_single_call_sends_back_twice(
    predict: pn.Predict, server: ScriptedServer, faults: int
) -> None:
    server.script = lambda marker, attempt: Reply("garbage" if attempt <= faults else "ok")
    if faults == 3:
        with pytest.raises(pn.InvalidOutputError):
            predict(review="row-0")
    else:
        prediction = predict(review="row-0")
        assert prediction.usage is not None
        assert prediction.usage.total_tokens == 18 * (faults + 1)
    assert server.attempts[0] == min(faults + 1, 3)


def test_a_subclass_that_asks_for_inputs_alone_is_left_alone(
    signature: pn.Signature, lm: pn.LM, server: ScriptedServer
) -> None:
    class Own(pn.Predict):
        async def ask(self, inputs: Any) -> Any:  # type: ignore[override]
            return await super().ask(inputs)

    server.script = lambda marker, attempt: Reply("garbage" if attempt == 1 else "ok")
    assert Own(signature, lm)(review="row-0").reason == "row-0"
    assert list(pn.run_parallel(Own(signature, lm), ["row-1"], **QUIET)["attempts"]) == [2]


def test_a_cut_answer_is_asked_for_more_briefly(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    server.script = lambda marker, attempt: Reply("length" if attempt == 1 else "ok")
    df = pn.run_parallel(predict, ["row-0"], **QUIET)
    assert list(df["status"]) == ["ok"]
    assert "Be much shorter" in server.requests[1]["messages"][-1]["content"]


def test_a_conversation_remembers_the_question_and_not_what_was_sent_back(
    signature: pn.Signature, lm: pn.LM, server: ScriptedServer
) -> None:
    server.script = lambda marker, attempt: Reply("garbage" if attempt == 1 else "ok")
    talk = pn.Predict(signature, lm, history=pn.History())
    talk(review="row-0")
    assert talk.history is not None
    assert talk.history.messages[0]["content"] == "review: row-0"
