"""The probabilities of labels, from token log probabilities."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

import pandas as pd
import pytest
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn

QUIET: dict[str, Any] = {"progress": "none", "store": None}


def token(text: str, p: float | None = 1.0, **others: float) -> dict[str, Any]:
    """One token as an endpoint reports it, `_` in a name stands for a quote."""
    import math

    def one(text: str, p: float | None) -> dict[str, Any]:
        logprob = None if p is None else math.log(p)
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}

    tops = [one(text, p), *(one(o.replace("_", '"'), q) for o, q in others.items())]
    return one(text, p) | {"top_logprobs": tops}


def spread(tokens: list[dict[str, Any]], labels: Any) -> dict[str, float | None] | None:
    from pardspy_nb.signatures.logprobs import distributions

    signature = pn.Signature("L").add_input("t").add_output("reason").add_output("x", labels)
    text = "".join(t["token"] for t in tokens).strip()
    return distributions(text, 0, tokens, signature.outputs).get("x")


THREE = Literal["positive", "neutral", "negative"]


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        # one token decides; what is no label does not count: 0.6, 0.2, 0.1 of 0.9
        (
            [
                token('{"x": "'),
                token("positive", 0.6, negative=0.2, neutral=0.1, happy=0.1),
                token('"}'),
            ],
            (0.6 / 0.9, 0.1 / 0.9, 0.2 / 0.9),
        ),
        # the quote belongs to the label's token; the reason says "positive", too
        (
            [
                token('{"reason":"positive",'),
                token('"x":'),
                token('"pos', 0.5, _neg=0.25, _neutral=0.25),
                token("itive", 0.9, ing=0.1),
                token('"}'),
            ],
            (0.5, 0.25, 0.25),
        ),
        # two labels share a first token: 0.3 for positive, then 0.7 times 0.8 and 0.2
        (
            [
                token('{"x":"'),
                token("ne", 0.7, positive=0.3),
                token("gative", 0.8, utral=0.2),
                token('"}'),
            ],
            (0.3, 0.7 * 0.2, 0.7 * 0.8),
        ),
        # two ways to cut the same label
        (
            [token('{"x":"'), token("positive", 0.5, pos=0.1, negative=0.4), token('"}')],
            (0.6, 0.0, 0.4),
        ),
        # what leads to two labels is shared out as the rest is
        (
            [
                token('{"x":"'),
                token("positive", 0.5, ne=0.2, negative=0.2, neutral=0.1),
                token('"}'),
            ],
            (0.5, 0.1 + 0.2 / 3, 0.2 + 0.4 / 3),
        ),
        # nothing tells which of the two it leads to
        ([token('{"x":"'), token("positive", 0.5, ne=0.5), token('"}')], (0.5, None, None)),
        # a token that was forced by the mask has a small probability of its own
        (
            [token(' {"x":"'), token("negative", 0.001, joy=0.99, positive=0.003), token('"}')],
            (0.75, 0.0, 0.25),
        ),
    ],
)
def test_the_distribution_is_that_of_the_logprobs_by_hand(
    tokens: list[dict[str, Any]], expected: tuple[float | None, ...]
) -> None:
    told = spread(tokens, THREE)
    assert told is not None
    assert list(told) == ["positive", "neutral", "negative"]
    for got, right in zip(told.values(), expected, strict=True):
        assert got == (None if right is None else pytest.approx(right))


SLOPPY = [
    ["a"],
    [None],
    [{"token": 3}],
    [{"bytes": [300]}],
    [{"bytes": 10**12}],
    [{"logprob": "x"}],
    [{"logprob": float("nan")}],
    [{"top_logprobs": 5}],
    [{"top_logprobs": [None]}],
    [{"top_logprobs": {"a": -1}}],
    {"a": 1},
    "abc",
]


@pytest.mark.parametrize("tokens", SLOPPY, ids=repr)
def test_logprobs_in_no_shape_leave_the_answer_alone(
    signature: pn.Signature, lm: pn.LM, server: ScriptedServer, tokens: Any
) -> None:
    said = json.dumps({"sentiment": "positive", "reason": "r"})
    base = {"token": said, "logprob": -0.1, "bytes": None, "top_logprobs": []}
    told = (
        [base | t if isinstance(t, dict) else t for t in tokens] if tokens != {"a": 1} else tokens
    )
    server.script = lambda marker, attempt: Reply(content=said, logprobs=told)
    df = pn.run_parallel(pn.Predict(signature, lm, confidence=True), ["row-0"], **QUIET)
    assert (df["status"][0], df["sentiment"][0]) == ("ok", "positive")
    assert df["sentiment_confidence"].isna().all()


def test_a_label_that_begins_another_and_numbers_and_aliases() -> None:
    longer = [token('{"x":"'), token("very", 0.9), token(" good", 0.8), token('"', 0.4), token("}")]
    labels = Literal["very good", "very good indeed"]
    longer[3]["top_logprobs"].append(token(" indeed", 0.1))
    assert spread(longer, labels) == {
        "very good": pytest.approx(0.8),
        "very good indeed": pytest.approx(0.2),
    }
    numbers = [token('{"x": '), token("1", 0.5), token("}", 0.75), token("\n")]
    numbers[1]["top_logprobs"].append(token("2", 0.5))
    numbers[2]["top_logprobs"].append(token("0", 0.25))
    assert spread(numbers, Literal[1, 2, 10]) == {
        "1": pytest.approx(0.375),
        "2": pytest.approx(0.5),
        "10": pytest.approx(0.125),
    }


@pytest.mark.parametrize(
    "tokens",
    [
        [token('{"x":"'), token("positive", None, negative=0.5), token('"}')],
        [token('{"y":"positive"}')],
        [token('{"x":null}')],
        [],
    ],
)
def test_confidence_is_never_made_up(tokens: list[dict[str, Any]]) -> None:
    from pardspy_nb.signatures.logprobs import distributions

    fields = pn.Signature("L").add_input("t").add_output("x", THREE, optional=True).outputs
    assert distributions('{"x":"positive"}', 0, tokens, fields) == {}
    assert spread(tokens, THREE) is None if tokens else True


@pytest.fixture
def sure(server: ScriptedServer) -> Callable[..., None]:
    def answer(p: float) -> None:
        said = '{"sentiment": "negative", "reason": "r"}'
        tokens = [
            token('{"sentiment": "'),
            token("negative", p, positive=(1 - p) / 2),
            token('", "reason": "r"}'),
        ]
        server.script = lambda marker, attempt: Reply(content=said, logprobs=tokens)

    return answer


@pytest.mark.parametrize("way", ["module", "option"])
def test_confidence_is_two_columns_which_the_store_keeps(
    signature: pn.Signature, lm: pn.LM, server: ScriptedServer, sure: Callable[..., None], way: str
) -> None:
    sure(0.8)
    predict = pn.Predict(signature, lm, confidence=way == "module")
    options: dict[str, Any] = {"progress": "none"} | (
        {"confidence": True} if way == "option" else {}
    )
    df = pn.run_parallel(predict, ["row-0", "row-1"], **options)
    assert list(df.columns[1:5]) == [
        "sentiment",
        "reason",
        "sentiment_confidence",
        "sentiment_probabilities",
    ]
    assert str(df["sentiment_confidence"].dtype) == "Float64"
    assert df["sentiment_confidence"].tolist() == [pytest.approx(0.8 / 0.9)] * 2
    assert df["sentiment_probabilities"][0] == {
        "positive": pytest.approx(1 / 9),
        "neutral": 0.0,
        "negative": pytest.approx(8 / 9),
    }
    assert server.requests[0]["logprobs"] is True
    sure(0.5)
    again = pn.run_parallel(predict, ["row-0", "row-1"], **options)
    assert again["cached"].all()
    pd.testing.assert_series_equal(again["sentiment_confidence"], df["sentiment_confidence"])
    plain = pn.run_parallel(pn.Predict(signature, lm), ["row-0"], progress="none")
    assert not plain["cached"].any()
    assert "sentiment_confidence" not in plain


@pytest.mark.parametrize("refuses", [set(), {"logprobs"}])
def test_an_endpoint_without_logprobs_leaves_confidence_missing(
    signature: pn.Signature, lm: pn.LM, server: ScriptedServer, refuses: set[str]
) -> None:
    server.refuses = refuses
    predict = pn.Predict(signature, lm, confidence=True)
    df = pn.run_parallel(predict, [f"row-{i}" for i in range(20)], max_workers=8, **QUIET)
    assert df["status"].eq("ok").all()
    assert df["sentiment_confidence"].isna().all()
    assert df["sentiment_probabilities"].isna().all()
    assert server.refused == (2 if refuses else 0)  # 20 and 5 alternatives


def test_confidence_without_a_class_output_is_refused(lm: pn.LM) -> None:
    with pytest.raises(ValueError, match="class outputs"):
        pn.Predict("text -> reason", lm, confidence=True)
    with pytest.raises(ValueError, match="Predict"):
        pn.run_parallel(lambda text: text, ["a"], confidence=True, **QUIET)
