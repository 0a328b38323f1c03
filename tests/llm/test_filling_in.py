"""Filling in gives what greedy decoding under the grammar of the whole answer would give."""

from __future__ import annotations

import asyncio
import json
import math
import re
from collections.abc import Mapping
from typing import Any, Literal

import pytest
from pydantic import BaseModel

import pardspy_nb as pn
from pardspy_nb.llm.local.filling_in import Filling, _as_json, slots_of
from pardspy_nb.signatures.logprobs import distributions

_TOKENS = re.compile(r"\\.|\w{1,3}|[^\w]", re.DOTALL)
_START = "<assistant>"


class ToyLlama:
    """llama.cpp's own API over a model that means to give one certain answer.

    Args:
        answer: the JSON text that the model would write.
        wrong: for each value text, the texts it thinks of as well, with their probabilities.
    """

    def __init__(self, answer: str, wrong: Mapping[str, float] | None = None) -> None:
        self.answer, self.wrong = answer, wrong or {}
        self.steps: list[dict[str, Any]] = []

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        if path == "/apply-template":
            return {"prompt": body["messages"][-1]["content"] + _START}
        if path == "/tokenize":
            return {"tokens": _TOKENS.findall(body["content"])}
        self.steps.append(dict(body))
        so_far = body["prompt"].partition(_START)[2]
        assert self.answer.startswith(so_far) or "grammar" in body, so_far
        rest = _TOKENS.findall(self.answer[len(so_far) :])
        stop_type, taken = "limit", rest[: body["n_predict"]]
        if "stop" in body:
            told = "".join(rest)
            end = told.index('"')
            if len(_TOKENS.findall(told[:end])) <= body["n_predict"]:
                taken, stop_type = [told[:end]], "word"
        elif "json_schema" in body or "grammar" in body:
            found = json.JSONDecoder().raw_decode(self.answer, len(so_far))[1]
            taken, stop_type = [self.answer[len(so_far) : found]], "eos"
        read = len(_TOKENS.findall(body["prompt"]))
        return {
            "content": "".join(taken),
            "stop_type": stop_type,
            "id_slot": 3,
            "tokens_evaluated": read,
            "tokens_predicted": sum(len(_TOKENS.findall(t)) for t in taken),
            "completion_probabilities": [{"top_logprobs": self._alternatives(rest[0])}],
        }

    def _alternatives(self, right: str) -> list[dict[str, Any]]:
        """The noise first: tokens that lead to no label, likelier than those that do."""
        left = 1 - sum(self.wrong.values())
        thought = {" the": 0.0, right: left, **self.wrong}
        return [
            {"token": text, "bytes": list(text.encode()), "logprob": math.log(max(p, 1e-9))}
            for text, p in sorted(thought.items(), key=lambda item: (item[0] != " the", -item[1]))
        ]


class Item(BaseModel):
    name: str
    price: float


def body_of(signature: pn.Signature, **params: Any) -> dict[str, Any]:
    lm = pn.LM("toy", base_url="http://127.0.0.1:1/v1", api_key="none", temperature=0.0, **params)
    names = list(signature.inputs)
    return dict(pn.Predict(signature, lm).request(dict.fromkeys(names, "row-1")))


def filled(
    signature: pn.Signature, toy: ToyLlama, **params: Any
) -> tuple[dict[str, Any], dict[str, Any]]:
    body = body_of(signature, **params)
    slots = slots_of(body)
    assert slots is not None
    answer = asyncio.run(Filling(toy.post, body, -1).answer(slots))
    return answer, answer["choices"][0]


def plain() -> pn.Signature:
    return pn.Signature("Sort").add_input("text", str)


CASES: dict[str, tuple[pn.Signature, dict[str, Any]]] = {
    "label and text": (
        plain()
        .add_class_output("mood", ["positive", "neutral", "negative"])
        .add_output("reason", str),
        {"mood": "negative", "reason": 'too long, and "dull" \\ in\nparts'},
    ),
    "labels that begin alike": (
        plain().add_class_output("unit", ["M", "MW", "MWh", "mW"]),
        {"unit": "MW"},
    ),
    "labels with quotes, of other letters, and one alone": (
        plain()
        .add_class_output("a", ['say "no"', 'say "yes"'])
        .add_class_output("b", ["да", "нет"])
        .add_class_output("c", ["only"]),
        {"a": 'say "yes"', "b": "нет", "c": "only"},
    ),
    "numbers, lists, records, options": (
        plain()
        .add_output("n", int)
        .add_output("items", list[Item])
        .add_output("found", bool)
        .add_output("note", str | None)
        .add_output("level", Literal[1, 2, 3]),
        {
            "n": -12,
            "items": [{"name": "a", "price": 1.5}],
            "found": True,
            "note": None,
            "level": 2,
        },
    ),
    "empty text": (plain().add_output("a", str).add_output("b", str), {"a": "", "b": "x"}),
}


@pytest.mark.parametrize("case", CASES)
def test_the_answer_is_the_one_that_the_model_means(case: str) -> None:
    signature, meant = CASES[case]
    toy = ToyLlama(json.dumps(meant, ensure_ascii=False))
    answer, choice = filled(signature, toy)
    assert json.loads(choice["message"]["content"]) == meant
    assert choice["finish_reason"] == "stop"
    told = answer["usage"]
    assert told["total_tokens"] == told["prompt_tokens"] + told["completion_tokens"]
    assert told["completion_tokens"] > 0


def test_a_label_takes_one_step_where_its_first_token_tells() -> None:
    signature, meant = CASES["label and text"]
    toy = ToyLlama(json.dumps(meant))
    filled(signature, toy)
    assert toy.steps[0]["n_predict"] == 1
    assert sum("n_probs" in step for step in toy.steps) == 1
    assert {step["id_slot"] for step in toy.steps[1:]} == {3}  # whose cache has read the rest


def test_no_grammar_looks_at_labels_and_text() -> None:
    signature, meant = CASES["label and text"]
    toy = ToyLlama(json.dumps(meant))
    filled(signature, toy)
    assert not any("grammar" in step or "json_schema" in step for step in toy.steps)


def test_confidence_is_that_of_the_token_probabilities() -> None:
    signature = plain().add_class_output("mood", ["positive", "neutral", "negative"])
    toy = ToyLlama('{"mood": "negative"}', {"pos": 0.2, "neu": 0.1})
    _, choice = filled(signature, toy, logprobs=True, top_logprobs=20)
    text = choice["message"]["content"]
    tokens = choice["logprobs"]["content"]
    assert "".join(t["token"] for t in tokens) == text
    [spread] = distributions(text, 0, tokens, signature.outputs).values()
    assert spread == pytest.approx({"positive": 0.2, "neutral": 0.1, "negative": 0.7}, abs=1e-6)


def test_a_label_that_no_alternative_leads_to_is_found_under_a_grammar() -> None:
    signature = plain().add_class_output("mood", ["positive", "neutral", "negative"])

    class Lost(ToyLlama):
        def _alternatives(self, right: str) -> list[dict[str, Any]]:
            return [{"token": "?", "bytes": [63], "logprob": -0.1}]

    toy = Lost('{"mood": "neutral"}')
    toy_answer = toy.answer

    async def post(path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        if "grammar" in body:
            assert body["grammar"] == ('root ::= "positive\\"" | "neutral\\"" | "negative\\""')
            return {
                "content": 'neutral"',
                "stop_type": "eos",
                "tokens_evaluated": 9,
                "tokens_predicted": 3,
            }
        return await toy.post(path, body)

    body = body_of(signature)
    slots = slots_of(body)
    assert slots is not None
    answer = asyncio.run(Filling(post, body, 0).answer(slots))
    assert answer["choices"][0]["message"]["content"] == toy_answer


def test_an_answer_that_is_cut_says_so() -> None:
    signature, _ = CASES["label and text"]
    toy = ToyLlama(json.dumps({"mood": "neutral", "reason": "word " * 400}))
    answer, choice = filled(signature, toy, max_tokens=40)
    assert choice["finish_reason"] == "length"
    # the key's own tokens are known only after the step
    assert answer["usage"]["completion_tokens"] <= 40 + len(', "reason": "')
    with pytest.raises(ValueError, match="Unterminated"):
        json.loads(choice["message"]["content"])


@pytest.mark.parametrize(
    "params",
    [{"temperature": 0.7}, {"n": 2}, {"stop": ["x"]}, {"top_p": 0.5}, {"stream": True}],
)
def test_what_greedy_decoding_does_not_decide_is_sent_as_it_is(params: dict[str, Any]) -> None:
    signature, _ = CASES["label and text"]
    assert slots_of({**body_of(signature), **params}) is None


def test_text_without_a_schema_and_images_are_sent_as_they_are() -> None:
    assert slots_of({"messages": [{"role": "user", "content": "hi"}], "temperature": 0}) is None
    signature, _ = CASES["label and text"]
    body = body_of(signature)
    body["messages"][-1]["content"] = [{"type": "image_url", "image_url": {"url": "data:,"}}]
    assert slots_of(body) is None


def test_a_model_that_repeats_an_escaped_quote_is_cut() -> None:
    body = body_of(plain().add_output("t", str), max_tokens=50)
    slots = slots_of(body)
    assert slots is not None
    asked = []

    async def post(path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        if path == "/apply-template":
            return {"prompt": "P"}
        if path == "/tokenize":
            return {"tokens": [1] * 5}
        asked.append(path)
        assert len(asked) < 100
        return {
            "content": "\\",
            "stop_type": "word",
            "tokens_predicted": 1,
            "tokens_evaluated": 10 + 2 * len(asked),
        }

    answer = asyncio.run(Filling(post, body, -1).answer(slots))
    assert answer["choices"][0]["finish_reason"] == "length"


def test_half_a_letter_fails_no_row() -> None:
    """Of text, half a surrogate pair; of labels, a token that ends within a letter."""
    assert json.loads(f'"{_as_json(chr(0xD83D) + "x")}"')
    signature = plain().add_class_output("mood", ["😀", "😡"])

    async def post(path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        if path == "/apply-template":
            return {"prompt": "P"}
        if path == "/tokenize":
            return {"tokens": [1]}
        told = '😡"' if "grammar" in body else "\ufffd"  # and no probabilities
        return {"content": told, "stop_type": "limit", "tokens_predicted": 1, "tokens_evaluated": 9}

    body = body_of(signature)
    slots = slots_of(body)
    assert slots is not None
    answer = asyncio.run(Filling(post, body, -1).answer(slots))
    assert json.loads(answer["choices"][0]["message"]["content"]) == {"mood": "😡"}
