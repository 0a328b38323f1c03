"""The model that costs nothing."""

from __future__ import annotations

import datetime as dt
import time
from typing import Any, Literal

import numpy as np
import pydantic
import pytest

import pardspy_nb as pn
from pardspy_nb.llm.fake import inputs_in
from pardspy_nb.testing import FakeLM

QUIET: dict[str, Any] = {"progress": "none", "store": None}
TEXTS = [f"text {i}" for i in range(200)]


class Item(pydantic.BaseModel):
    name: str = pydantic.Field(min_length=30)
    n: int = pydantic.Field(ge=3, le=5)
    when: dt.datetime
    kind: Literal["a", "b"]
    inner: list[float] | None


SIGNATURE = (
    pn.Signature("Judge")
    .add_input("review", str)
    .add_class_output("label", ["good", "bad", "mixed"])
    .add_output("items", list[Item])
    .add_output("stars", int)
    .add_output("is_new", bool)
)


def test_answers_fit_the_schema_and_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PARDSPY_MODEL", "fake")
    predict = pn.Predict(SIGNATURE)
    df = pn.run_parallel(predict, TEXTS, confidence=True, **QUIET)
    assert df["status"].eq("ok").all()
    assert df["label"].value_counts().min() > 20
    assert df["attempts"].eq(1).all()
    assert df["cost_usd"].sum() == 0
    assert df["total_tokens"].min() > 0
    items = df.parallel.explode("items", keep_empty=False)
    assert set(items["n"]) <= {3, 4, 5}
    assert items["name"].str.len().min() >= 30
    assert df["label_confidence"].between(0, 1).all()
    assert df["label_confidence"].std() > 0.05
    sure = df["label_probabilities"].iloc[0]
    assert sum(sure.values()) == pytest.approx(1)
    again = pn.run_parallel(pn.Predict(SIGNATURE, FakeLM(latency=0)), TEXTS[::-1], **QUIET)
    assert again["label"].tolist()[::-1] == df["label"].tolist()  # a row has one answer
    other = pn.run_parallel(pn.Predict(SIGNATURE, FakeLM(latency=0, seed=1)), TEXTS, **QUIET)
    assert other["label"].tolist() != df["label"].tolist()


def test_a_function_makes_the_answers() -> None:
    def judge(review: str) -> dict[str, Any]:
        return {"label": "good" if "fine" in review else "bad"}

    predict = pn.Predict(SIGNATURE, FakeLM(judge, latency=0))
    df = pn.run_parallel(predict, ["it is fine", "no\nreally: no"], **QUIET)
    assert df["label"].tolist() == ["good", "bad"]
    assert df["stars"].notna().all()  # drawn
    assert predict.cache_identity is None
    text = FakeLM(lambda review: "not JSON at all", latency=0)
    assert pn.run_parallel(pn.Predict("review -> a", text), ["x"], max_failures=None, **QUIET)[
        "status"
    ].tolist() == ["failed"]


def test_inputs_are_read_from_the_prompt() -> None:
    assert inputs_in("a: 1\nb: two\nlines: x\nc: 3", ["a", "b", "c"]) == {
        "a": "1",
        "b": "two\nlines: x",
        "c": "3",
    }


def test_a_latency_distribution() -> None:
    predict = pn.Predict(SIGNATURE, FakeLM(latency=(0.05, 0.2)))
    df = pn.run_parallel(predict, TEXTS, max_workers=100, **QUIET)
    p50, p99 = np.percentile(df["latency_ms"], [50, 99])
    assert 40 < p50 < 120
    assert p99 > 1.5 * p50
    fixed = pn.Predict(SIGNATURE, FakeLM(latency=lambda draw: 0.01 + 0 * draw.random()))
    assert pn.run_parallel(fixed, TEXTS[:3], **QUIET)["latency_ms"].min() >= 10


@pytest.mark.parametrize(
    ("fault", "error"),
    [
        ("truncation", "TruncatedOutputError"),
        ("bad_label", "OutOfVocabularyError"),
        ("no_json", "InvalidOutputError"),
        ("refusal", "RefusedOutputError"),
        (500, "ServerError"),
    ],
)
def test_faults_are_those_of_a_real_endpoint(
    fault: str | int, error: str, fast_retries: None
) -> None:
    predict = pn.Predict(SIGNATURE, FakeLM(latency=0, faults={fault: 1.0}))
    df = pn.run_parallel(predict, ["a"], max_failures=None, max_attempts=2, **QUIET)
    assert df["error_type"].tolist() == [error]


def test_some_faults_pass_and_no_row_is_lost(fast_retries: None) -> None:
    faults = {"429": 0.02, "500": 0.05, "bad_label": 0.05}
    predict = pn.Predict(SIGNATURE, FakeLM(latency=0, faults=faults))
    df = pn.run_parallel(predict, TEXTS, max_attempts=8, **QUIET)
    assert df["status"].eq("ok").all()
    assert df["attempts"].max() > 1
    began = time.monotonic()
    slow = pn.Predict(SIGNATURE, FakeLM(latency=0, faults={"stall": 1.0}))
    stalled = pn.run_parallel(
        slow, ["a"], timeout_s=0.2, max_attempts=1, max_failures=None, **QUIET
    )
    assert stalled["error_type"].tolist() == ["TimeoutError"]
    assert time.monotonic() - began < 20


def test_a_budget_can_be_rehearsed() -> None:
    lm = FakeLM(latency=0, price=(1.0, 1.0), max_tokens=200)
    df = pn.run_parallel(
        pn.Predict(SIGNATURE, lm), TEXTS, max_cost_usd=0.005, on_budget="return", **QUIET
    )
    assert 0 < df["cost_usd"].sum() <= 0.005
    assert df["status"].eq("not_run").any()


def test_answers_of_the_fake_model_are_remembered() -> None:
    predict = pn.Predict("review -> a", pn.LM("fake"))
    pn.run_parallel(predict, ["x", "y"], progress="none")
    assert pn.run_parallel(predict, ["x", "y"], progress="none")["cached"].all()


def test_what_it_cannot_do_is_refused() -> None:
    with pytest.raises(ValueError, match=r"unknown faults \['418'\]; there are 429"):
        FakeLM(faults={"418": 0.1})
    with pytest.raises(ValueError, match="1 in all"):
        FakeLM(faults={"429": 0.7, "500": 0.7})
    assert FakeLM(SIGNATURE).model == "fake"
    assert FakeLM("a -> b").cache_identity is not None
