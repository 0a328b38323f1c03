"""A list of (module, inputs)."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from support.scripted_server import ScriptedServer

import pardspy_nb as pn

QUIET: dict[str, Any] = {"progress": "none", "store": None}


LABELS = ["positive", "neutral", "negative"]


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
