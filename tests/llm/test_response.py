"""What endpoints report about an answer, in the words that they really use."""

from __future__ import annotations

import json
from typing import Any

import pytest

import pardspy_nb as pn
from pardspy_nb.core.errors import (
    EmptyOutputError,
    RefusedOutputError,
    ServerError,
    TruncatedOutputError,
)
from pardspy_nb.llm.prices import Rate
from pardspy_nb.llm.response import read_completion, read_usage
from pardspy_nb.signatures.output_parser import AnswerParser

RATE = Rate(1e-6, 4e-6, 0.5e-6)
GOOD = '{"label": "good"}'


@pytest.fixture
def parser() -> AnswerParser:
    return AnswerParser(pn.Signature("S").add_class_output("label", ["good", "bad"]))


def completion(**choice: Any) -> Any:
    return read_completion({"choices": [choice]}, model="m", rate=None, latency_ms=1.0)


@pytest.mark.parametrize(
    ("reason", "error"),
    [
        *[(word, None) for word in ("stop", "end_turn", "STOP", "eos", "tool_calls", None)],
        *[
            (word, TruncatedOutputError)
            for word in ("length", "MAX_TOKENS", "max_tokens", "model_length")
        ],
        *[(word, RefusedOutputError) for word in ("content_filter", "SAFETY", "sensitive")],
        *[(word, pn.InvalidOutputError) for word in ("error", "network_error", "new_word")],
    ],
)
def test_an_answer_ends_as_the_provider_says(
    parser: AnswerParser, reason: str | None, error: type[Exception] | None
) -> None:
    if error is None:
        assert parser.parse(GOOD, reason, None).outputs == {"label": "good"}
    else:
        with pytest.raises(error) as info:
            parser.parse(GOOD, reason, None)
        if reason == "new_word":
            assert "'new_word'" in str(info.value)


@pytest.mark.parametrize("rest", [" " * 100, "\n\n\n", "\n\nUser: and this?\nAssistant: {"])
def test_a_whole_object_before_the_limit_is_whole(parser: AnswerParser, rest: str) -> None:
    assert parser.parse(GOOD + rest, "length", None).outputs == {"label": "good"}
    with pytest.raises(TruncatedOutputError):
        parser.parse(f"Let me think. {GOOD}{rest}", "length", None)


def test_the_text_of_a_message_wherever_it_is() -> None:
    parts = [
        {"type": "thinking", "thinking": [{"type": "text", "text": "hm"}]},
        {"type": "text", "text": GOOD[:5]},
        {"type": "text", "text": GOOD[5:]},
    ]
    assert completion(message={"content": parts}).text == GOOD
    call = {"type": "function", "function": {"name": "answer", "arguments": GOOD}}
    assert completion(message={"content": None, "tool_calls": [call]}).text == GOOD
    old = {"content": None, "function_call": {"name": "answer", "arguments": GOOD}}
    assert completion(message=old).text == GOOD
    read = {"content": json.loads(GOOD)}  # some send JSON as it is
    assert json.loads(completion(message=read).text) == json.loads(GOOD)
    for name in ("reasoning_content", "reasoning", "analysis"):
        for reason, kind in (("length", TruncatedOutputError), ("stop", EmptyOutputError)):
            with pytest.raises(kind, match=f"only the model's thoughts in '{name}'") as i:
                completion(message={"content": None, name: "a thought"}, finish_reason=reason)
            assert not i.value.retryable
    with pytest.raises(RefusedOutputError, match="SAFETY"):
        completion(finish_reason="SAFETY")
    with pytest.raises(ServerError, match=r"no choices\[0\]\.message"):
        read_completion({"choices": []}, model="m", rate=None, latency_ms=1.0)


@pytest.mark.parametrize(
    ("reported", "tokens", "cost"),
    [
        # xAI, and Gemini's compatible endpoint: thoughts are in the total only
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 415}, 405, 10e-6 + 1620e-6),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}, 5, 30e-6),
        ({"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 3}, 5, 30e-6),
        # cached tokens: OpenAI, DeepSeek, Moonshot; more than the prompt has
        (
            {
                "prompt_tokens": 10,
                "completion_tokens": 0,
                "prompt_tokens_details": {"cached_tokens": 4},
            },
            0,
            8e-6,
        ),
        ({"prompt_tokens": 10, "completion_tokens": 0, "prompt_cache_hit_tokens": 4}, 0, 8e-6),
        ({"prompt_tokens": 10, "completion_tokens": 0, "cached_tokens": 400}, 0, 5e-6),
        # OpenRouter states the cost itself
        ({"prompt_tokens": 10, "completion_tokens": 5, "cost": 0.25}, 5, 0.25),
        ({"prompt_tokens": 10, "completion_tokens": 5, "cost": -1}, 5, 30e-6),
        ({"input_tokens": 10, "output_tokens": 5}, 5, 30e-6),
    ],
)
def test_usage_and_cost_are_never_too_low(
    reported: dict[str, Any], tokens: int, cost: float
) -> None:
    usage = read_usage(reported, RATE, 1.0)
    assert (usage.completion_tokens, usage.total_tokens) == (tokens, 10 + tokens)
    assert usage.cost_usd == pytest.approx(cost)


def test_a_price_of_the_users_own_counts_and_no_price_fails_a_row() -> None:
    reported = {"prompt_tokens": 10, "completion_tokens": 5, "cost": 0.25}
    assert read_usage(reported, RATE._replace(is_given=True), 1.0).cost_usd == pytest.approx(30e-6)

    def broken(*counts: int) -> float:
        raise ZeroDivisionError

    assert read_usage({**reported, "cost": None}, RATE._replace(table=broken), 1.0).cost_usd is None
    assert (
        read_usage({"prompt_tokens": 10**400, "completion_tokens": 1}, RATE, 1.0).cost_usd is None
    )
    assert json.dumps(read_usage("nonsense", RATE, 1.0).total_tokens) == "null"


@pytest.mark.parametrize("as_told", [str, float])
def test_counts_are_read_however_they_are_told(as_told: Any) -> None:
    reported = {"prompt_tokens": as_told("100"), "completion_tokens": as_told("10")}
    assert read_usage(reported, RATE, 1.0).total_tokens == 110
    assert read_usage({"prompt_tokens": "many"}, RATE, 1.0).prompt_tokens is None
