"""Schemas that OpenAI's strict mode takes, and errors about many labels."""

from __future__ import annotations

import json
from typing import Any

import pydantic
import pytest

import pardspy_nb as pn
from pardspy_nb.signatures.output_parser import AnswerParser


class Price(pydantic.BaseModel):
    amount: float
    currency: str = "EUR"


class Product(pydantic.BaseModel):
    name: str
    price: Price = pydantic.Field(description="what it costs")
    size: tuple[int, int]
    tags: set[str]


def nodes(schema: Any) -> Any:
    if isinstance(schema, dict):
        yield schema
        for value in schema.values():
            yield from nodes(value)
    if isinstance(schema, list):
        for value in schema:
            yield from nodes(value)


def test_a_nested_schema_is_strict() -> None:
    parser = AnswerParser(pn.Signature("S").add_output("products", list[Product], "all of them"))
    assert parser.strict
    for node in nodes(parser.schema):
        assert "prefixItems" not in node
        assert "uniqueItems" not in node
        assert "$ref" not in node or len(node) == 1
    product = {
        "name": "a",
        "price": {"amount": 1, "currency": "EUR"},
        "size": [1, 2],
        "tags": ["x"],
    }
    found = parser.parse(json.dumps({"products": [product]}), "stop", None).outputs["products"][0]
    assert (found.size, found.tags, found.price.amount) == ((1, 2), {"x"}, 1.0)


def test_an_error_about_thousands_of_labels_names_the_nearest() -> None:
    labels = [f"category {i:04}" for i in range(5000)]
    parser = AnswerParser(pn.Signature("S").add_class_output("x", labels))
    with pytest.raises(pn.InvalidOutputError) as info:
        parser.parse(json.dumps({"x": "categry 0042"}), "stop", None)
    assert type(info.value).__name__ == "OutOfVocabularyError"
    assert "category 0042" in str(info.value)
    assert len(str(info.value)) < 400
