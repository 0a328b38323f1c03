"""Signatures: three ways to write one, types, labels, schemas."""

from __future__ import annotations

import datetime as dt
import enum
from typing import Any, Literal

import pydantic
import pytest

import pardspy_nb as pn
from pardspy_nb.core.errors import EmptyOutputError, InvalidOutputError, TruncatedOutputError
from pardspy_nb.signatures.fields import RESERVED
from pardspy_nb.signatures.output_parser import AnswerParser

LABELS = ["positive", "neutral", "negative"]


class Declared(pn.Signature):
    """Analyze customer review sentiment"""

    review: str = pn.InputField("Customer review text")
    sentiment: Literal["positive", "neutral", "negative"] = pn.OutputField("Overall sentiment")
    reason: str = pn.OutputField("Brief explanation")


class Mood(enum.Enum):
    GOOD = "good"
    BAD = "bad"


class Part(pydantic.BaseModel):
    name: str
    price: float


class Order(pydantic.BaseModel):
    parts: list[Part]


def parse(signature: pn.Signature, text: str, finish: str | None = "stop") -> dict[str, Any]:
    return AnswerParser(signature).parse(text, finish, None).outputs


def test_the_three_ways_to_write_a_signature_agree(signature: pn.Signature) -> None:
    assert Declared() == signature
    read = pn.Signature.from_string(
        "review -> sentiment: Literal['positive','neutral','negative'], reason"
    )
    assert AnswerParser(read).schema["required"] == ["sentiment", "reason"]
    assert read.outputs["sentiment"].labels == tuple(LABELS)


def test_add_returns_a_new_signature(signature: pn.Signature) -> None:
    more = signature.add_output("score", int)
    assert "score" in more.outputs
    assert "score" not in signature.outputs


@pytest.mark.parametrize("name", RESERVED)
def test_reserved_column_names_are_refused(name: str) -> None:
    with pytest.raises(ValueError, match=name):
        pn.Signature("x").add_output(name, str)
    with pytest.raises(ValueError, match="reserved"):
        pn.Signature("x").add_input(name, str)


def test_a_field_cannot_be_declared_twice(signature: pn.Signature) -> None:
    with pytest.raises(ValueError, match="already has"):
        signature.add_output("review", str)


@pytest.mark.parametrize("text", ["review, sentiment", "a -> b -> c", "a: nonsense -> b", "1 -> b"])
def test_unreadable_strings_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"."):
        pn.Signature.from_string(text)


def test_a_string_is_never_evaluated() -> None:
    with pytest.raises(ValueError, match="unknown type"):
        pn.Signature.from_string("a: __import__('os').getcwd() -> b")


def test_every_type_of_the_contract_round_trips() -> None:
    signature = (
        pn.Signature("types")
        .add_input("x", str)
        .add_output("i", int)
        .add_output("f", float)
        .add_output("b", bool)
        .add_output("when", dt.datetime)
        .add_output("mood", Mood)
        .add_output("tags", list[str])
        .add_output("extra", dict)
        .add_output("order", Order)
        .add_output("schema", str, optional=True)
    )
    answer = parse(
        signature,
        '{"i": 3, "f": 1.5, "b": true, "when": "2026-01-02T03:04:05Z", "mood": " GOOD ", '
        '"tags": ["a"], "extra": {"k": 1}, "order": {"parts": [{"name": "n", "price": 2}]}, '
        '"unasked": 1}',
    )
    assert answer["mood"] is Mood.GOOD
    assert answer["order"].parts[0].price == 2
    assert answer["schema"] is None
    assert "unasked" not in answer
    assert (answer["i"], answer["f"], answer["b"], answer["tags"]) == (3, 1.5, True, ["a"])
    assert answer["when"].year == 2026


def test_labels_forgive_case_space_and_aliases() -> None:
    signature = (
        pn.Signature("x").add_input("r").add_class_output("s", LABELS, aliases={"pos": "positive"})
    )
    for text in ("positive", " Positive\n", "POS"):
        assert parse(signature, f'{{"s": {text!r}}}'.replace("'", '"'))["s"] == "positive"
    with pytest.raises(InvalidOutputError, match="s: "):
        parse(signature, '{"s": "splendid"}')


def test_an_alias_of_no_label_is_refused() -> None:
    with pytest.raises(ValueError, match="great"):
        pn.Signature("x").add_class_output("s", LABELS, aliases={"ok": "great"})


def test_strict_schema_follows_the_rules() -> None:
    parser = AnswerParser(pn.Signature("x").add_input("r").add_output("order", Order))
    assert parser.strict
    for definition in [parser.schema, *parser.schema["$defs"].values()]:
        assert definition["additionalProperties"] is False
        assert definition["required"] == list(definition["properties"])
    assert not AnswerParser(pn.Signature("x").add_input("r").add_output("d", dict)).strict


@pytest.mark.parametrize(
    ("text", "finish", "error"),
    [
        ('{"reason": "half', "length", TruncatedOutputError),
        ("", "stop", EmptyOutputError),
        ("   ", "stop", EmptyOutputError),
        ("prose", "stop", InvalidOutputError),
        ('{"sentiment": "positive"}', "stop", InvalidOutputError),
    ],
)
def test_bad_answers_are_typed_errors(
    signature: pn.Signature, text: str, finish: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        parse(signature, text, finish)


def test_a_type_that_is_no_data_type_is_refused() -> None:
    with pytest.raises(TypeError, match="x"):
        pn.Signature("a").add_input("x", object())


@pytest.mark.parametrize("kind", [Literal["y", None], Literal[1, True]], ids=str)
def test_labels_that_a_column_cannot_tell_apart_are_refused(kind: Any) -> None:
    with pytest.raises(ValueError, match="must differ and none may be None"):
        pn.Signature("x").add_input("a").add_output("b", kind)
