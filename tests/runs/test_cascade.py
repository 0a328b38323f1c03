"""Cascades over real HTTP: a cheap model that knows how sure it is, and a strong one."""

from __future__ import annotations

import json
import math
import random
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pandas as pd
import pytest
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn
from pardspy_nb.core.errors import BudgetExceeded

LABELS = ["positive", "neutral", "negative"]
ROWS = [f"row-{i} text" for i in range(600)]


def label_of(marker: int) -> str:
    """What the strong model says."""
    return LABELS[random.Random(marker).randrange(3)]


def answer_with(label: str, sure: float) -> Reply:
    """A reply whose label has this probability."""
    rest = [other for other in LABELS if other != label]
    log = math.log
    alternatives = [{"token": label, "logprob": log(sure)}]
    alternatives += [{"token": o, "logprob": log((1 - sure) / 2 + 1e-12)} for o in rest]
    tokens = [
        {"token": '{"sentiment": "', "logprob": 0.0},
        {"token": label, "logprob": log(sure), "top_logprobs": alternatives},
        {"token": '", "reason": "x"}', "logprob": 0.0},
    ]
    content = json.dumps({"sentiment": label, "reason": "x"})
    return Reply(content=content, logprobs=tokens)


def sureness(marker: int) -> float:
    return 0.4 + 0.6 * random.Random(-marker).random()


def cheap_script(right: Callable[[int, float], bool]) -> Callable[[int, int], Reply]:
    def script(marker: int, attempt: int) -> Reply:
        sure, label = sureness(marker), label_of(marker)
        if not right(marker, sure):
            label = LABELS[(LABELS.index(label) + 1) % 3]
        return answer_with(label, sure)

    return script


def knows_itself(marker: int, sure: float) -> bool:
    return sure > 0.7 or marker % 2 == 0


@pytest.fixture
def strong_server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer(lambda marker, attempt: answer_with(label_of(marker), 0.9)).start()
    yield scripted
    scripted.stop()


@pytest.fixture
def models(
    server: ScriptedServer, strong_server: ScriptedServer, signature: pn.Signature
) -> list[pn.Predict]:
    server.script = cheap_script(knows_itself)
    cheap = pn.LM("cheap", base_url=server.url, api_key="k", price=(1.0, 1.0), max_tokens=50)
    strong = pn.LM("strong", base_url=strong_server.url, api_key="k", price=(20, 20), max_tokens=50)
    return [pn.Predict(signature, cheap), pn.Predict(signature, strong)]


def test_sure_answers_are_kept_and_the_rest_is_asked_of_the_strong_model(
    models: list[pn.Predict], server: ScriptedServer, strong_server: ScriptedServer
) -> None:
    cascade = pn.Cascade(models, on="sentiment", target=0.9)
    df = pn.run_parallel(cascade, ROWS, max_workers=50)

    assert df["status"].eq("ok").all()
    assert set(df["stage"]) == {1, 2}
    kept = df[df["stage"] == 1]
    assert len(kept) > 150
    assert (kept["sentiment"].astype(str) == [label_of(i) for i in kept.index]).mean() >= 0.9
    assert kept["model"].eq("cheap").all()
    assert df[df["stage"] == 2]["model"].eq("strong").all()
    others = df[df["stage"] == 2]
    assert list(others["sentiment"].astype(str)) == [label_of(i) for i in others.index]
    assert sum(server.attempts.values()) == 600
    assert sum(strong_server.attempts.values()) == len(others)
    assert df["sentiment_confidence"].notna().sum() == len(kept)

    told = df.attrs["pardspy"]["cascade"]
    assert 0.5 < told["accept"][0] < 1
    assert kept["sentiment_confidence"].min() >= told["accept"][0]
    assert told["pilot"][0]["rows"] == 120
    assert [s["asked"] for s in told["stages"]] == [600, len(others)]
    paid = (600 * 18 * 1 + len(others) * 18 * 20) / 1e6
    assert df["cost_usd"].sum() == pytest.approx(paid)
    assert told["saved_usd"] == pytest.approx(600 * 18 * 20 / 1e6 - paid)
    assert df.parallel.metrics.usage.cost_usd == pytest.approx(paid)
    assert "saved" in repr(df.parallel.summary())


def test_what_was_answered_is_never_paid_twice(
    models: list[pn.Predict], server: ScriptedServer, strong_server: ScriptedServer
) -> None:
    pn.run_parallel(models[0].varied(confidence=True), ROWS[:300], max_workers=50)
    cascade = pn.Cascade(models, on="sentiment", target=0.9)
    first = pn.run_parallel(cascade, ROWS, max_workers=50)
    assert sum(server.attempts.values()) == 600
    asked = sum(strong_server.attempts.values())

    again = pn.run_parallel(cascade, ROWS, max_workers=50)
    assert sum(server.attempts.values()) == 600
    assert sum(strong_server.attempts.values()) == asked
    assert again["cached"].all()
    assert again["cost_usd"].sum() == 0
    outputs = ["sentiment", "reason", "stage"]
    pd.testing.assert_frame_equal(first[outputs], again[outputs])
    told, before = again.attrs["pardspy"]["cascade"], first.attrs["pardspy"]["cascade"]
    assert told["accept"] == before["accept"]
    assert told["saved_usd"] == pytest.approx(before["saved_usd"])


def test_a_confidence_that_says_nothing_keeps_next_to_nothing(
    models: list[pn.Predict], server: ScriptedServer
) -> None:
    server.script = cheap_script(lambda marker, sure: marker % 10 < 7)
    df = pn.run_parallel(pn.Cascade(models, on="sentiment", target=0.95), ROWS, max_workers=50)
    assert df["stage"].eq(2).all()
    assert df.attrs["pardspy"]["cascade"]["accept"] == [2.0]


def test_no_confidence_at_all_is_told(models: list[pn.Predict], server: ScriptedServer) -> None:
    server.script = lambda marker, attempt: Reply(content='{"sentiment":"neutral","reason":""}')
    with pytest.warns(UserWarning, match="no token probabilities"):
        df = pn.run_parallel(pn.Cascade(models, on="sentiment"), ROWS[:80], max_workers=20)
    assert df["stage"].eq(2).all()


def test_a_threshold_by_hand_needs_no_pilot(
    models: list[pn.Predict], strong_server: ScriptedServer
) -> None:
    cascade = pn.Cascade(models, on="sentiment", accept=0.8)
    df = pn.run_parallel(cascade, ROWS[:200], max_workers=50)
    expected = [1 if sureness(i) >= 0.8 else 2 for i in range(200)]
    assert df["stage"].tolist() == expected
    assert sum(strong_server.attempts.values()) == expected.count(2)
    assert df.attrs["pardspy"]["cascade"]["pilot"] == [None]
    one = cascade(review="row-3 text")
    assert one.stage == expected[3]
    assert one.usage.total_tokens == 18 * expected[3]
    with pytest.raises(ValueError, match=r"accept=0\.9"):
        pn.Cascade(models, on="sentiment")(review="row-3 text")


def test_equal_rows_share_each_stage(
    models: list[pn.Predict], server: ScriptedServer, strong_server: ScriptedServer
) -> None:
    cascade = pn.Cascade(models, on="sentiment", accept=0.8)
    df = pn.run_parallel(cascade, ROWS[:20] * 10, max_workers=50, store=False)
    assert df["status"].eq("ok").all()
    assert sum(server.attempts.values()) == 20
    assert sum(strong_server.attempts.values()) == df["stage"].iloc[:20].eq(2).sum()
    assert df["sentiment"].astype(str).tolist() == df["sentiment"].astype(str).tolist()[:20] * 10


def test_an_answer_that_does_not_fit_goes_on_and_an_endpoint_that_fails_does_not(
    models: list[pn.Predict], server: ScriptedServer, fast_retries: None
) -> None:
    good = server.script

    def script(marker: int, attempt: int) -> Reply:
        if marker == 5:
            return Reply("garbage")
        return Reply("status", code=500) if marker == 6 else good(marker, attempt)

    server.script = script
    cascade = pn.Cascade(models, on="sentiment", accept=0.8)
    df = pn.run_parallel(cascade, ROWS[:10], max_failures=None, outage_s=1)
    assert df.loc[5, "status"] == "ok"
    assert df.loc[5, "stage"] == 2
    assert df.loc[5, "attempts"] == 5
    assert df.loc[5, "total_tokens"] == 18 * 5
    assert df.loc[6, "status"] == "failed"


def test_a_budget_holds_over_all_models(
    models: list[pn.Predict], server: ScriptedServer, strong_server: ScriptedServer
) -> None:
    limit_usd = 0.1
    with pytest.raises(BudgetExceeded) as stopped:
        pn.run_parallel(
            pn.Cascade(models, on="sentiment", accept=0.99), ROWS, max_workers=20, max_cost_usd=0.1
        )
    billed = (server.billed_prompt + server.billed_completion) * 1.0
    billed += (strong_server.billed_prompt + strong_server.billed_completion) * 20.0
    assert 0 < billed / 1e6 <= limit_usd
    assert stopped.value.df["status"].eq("ok").sum() > 0


def test_three_models(
    models: list[pn.Predict], signature: pn.Signature, server: ScriptedServer
) -> None:
    middle = ScriptedServer(cheap_script(lambda m, sure: sure > 0.5)).start()
    try:
        lm = pn.LM("middle", base_url=middle.url, api_key="k", price=(5, 5))
        cascade = pn.Cascade([models[0], pn.Predict(signature, lm), models[1]], on="sentiment")
        rows = [f"row-{i} text" for i in range(1500)]
        df = pn.run_parallel(cascade, rows, max_workers=100)
    finally:
        middle.stop()
    assert df["status"].eq("ok").all()
    assert set(df["stage"]) <= {1, 2, 3}
    counts = Counter(df["stage"])
    assert counts[1] > 300
    assert counts[3] > 100
    right = df["sentiment"].astype(str) == [label_of(i) for i in range(1500)]
    assert right.mean() > 0.95


def test_failed_rows_are_asked_again_with_the_same_threshold(
    models: list[pn.Predict], server: ScriptedServer, fast_retries: None
) -> None:
    good = server.script
    server.script = lambda m, a: Reply("status", code=400) if m < 3 else good(m, a)
    cascade = pn.Cascade(models, on="sentiment", target=0.9)
    df = pn.run_parallel(cascade, ROWS, max_workers=50, max_failures=None)
    assert df["status"].ne("ok").sum() == 3
    server.script = good
    accept = df.attrs["pardspy"]["cascade"]["accept"][0]
    df.parallel.retry_failed()
    assert df["status"].eq("ok").all()
    for i in range(3):
        assert df.loc[i, "stage"] == (1 if sureness(i) >= accept else 2)


def test_a_row_tells_its_story(models: list[pn.Predict]) -> None:
    df = pn.run_parallel(pn.Cascade(models, on="sentiment", accept=0.8), ROWS[:20])
    for label in (df.index[df["stage"] == 1][0], df.index[df["stage"] == 2][0]):
        story = df.parallel.row(label)
        assert json.loads(story.answer)["sentiment"] == str(df.loc[label, "sentiment"])
        assert f"row-{label} text" in str(story.messages)


def test_an_estimate_knows_the_cascade(models: list[pn.Predict]) -> None:
    cascade = pn.Cascade(models, on="sentiment", target=0.9)
    rows = [f"row-{i} text" for i in range(2000)]
    told = pn.estimate(cascade, rows)
    df = pn.run_parallel(cascade, rows, max_workers=100)
    real = df["cost_usd"].sum() + told.pilot_cost_usd
    expected = told.cost_usd.expected + told.pilot_cost_usd
    assert expected == pytest.approx(real, rel=0.25)


@pytest.mark.parametrize(
    "wrong",
    [
        {"on": "reason"},
        {"on": "sentiment", "target": 95},
        {"on": "sentiment", "accept": [0.5, 0.5]},
        {"on": "sentiment", "pilot": 0},
    ],
)
def test_what_does_not_fit_is_refused(models: list[pn.Predict], wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"on=|target|accept|pilot"):
        pn.Cascade(models, **wrong)


def test_what_rows_apart_cannot_do_is_refused(models: list[pn.Predict], tmp_path: Any) -> None:
    cascade = pn.Cascade(models, on="sentiment")
    with pytest.raises(ValueError, match="hedge"):
        pn.run_parallel(cascade, ROWS, hedge=0.9)
    with pytest.raises(ValueError, match="piece by piece"):
        pn.run_to_parquet(cascade, pd.DataFrame({"review": ROWS}), tmp_path / "out.parquet")
    assert not list(tmp_path.iterdir())
    with pytest.raises(ValueError, match="one table"):
        pn.Parallel.from_instances([cascade])
    by_hand = pn.Cascade(models, on="sentiment", accept=0.8)
    table = pd.DataFrame({"review": ROWS[:50]})
    pn.run_to_parquet(by_hand, table, tmp_path / "out.parquet")
    assert set(pd.read_parquet(tmp_path / "out.parquet")["stage"]) == {1, 2}
    with pytest.raises(ValueError, match="two modules"):
        pn.Cascade(models[:1], on="sentiment")
    with pytest.raises(TypeError, match="Predict"):
        pn.Cascade([len, models[1]], on="sentiment")
