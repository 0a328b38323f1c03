"""Any shape of input becomes rows."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

import pardspy_nb as pn
from pardspy_nb.signatures.fields import Inputs
from pardspy_nb.tables.inputs import expand as expand_in_shape
from pardspy_nb.tables.row_batch import RowBatch, Shape

ONE = Inputs(pn.Signature("x").add_input("review", str).inputs)


TWO = Inputs(
    pn.Signature("x").add_input("review", str).add_input("lang", str, optional=True).inputs
)


TAGS = Inputs(pn.Signature("x").add_input("tags", list[str]).inputs)


def expand(data: Any, inputs: Inputs, **shape: Any) -> RowBatch:
    return expand_in_shape(data, inputs, Shape(**shape))


def inputs_of(data: Any, inputs: Inputs = ONE, **more: Any) -> list[dict[str, Any]]:
    return [dict(row.inputs) for row in expand(data, inputs, **more).rows]


AB = [{"review": "a"}, {"review": "b"}]


@pytest.mark.parametrize(
    "data",
    [
        ["a", "b"],
        ("a", "b"),
        pd.Series(["a", "b"]),
        np.array(["a", "b"]),
        {"review": ["a", "b"]},
        {"review": pd.Series(["a", "b"])},
        {"_batch": AB},
        AB,
        iter(AB),
        pd.DataFrame({"review": ["a", "b"], "other": [1, 2]}),
    ],
    ids=lambda d: type(d).__name__,
)
def test_every_shape_gives_the_same_rows(data: Any) -> None:
    assert inputs_of(data) == AB


def test_one_dict_of_scalars_is_one_row() -> None:
    assert inputs_of({"review": "a"}) == [{"review": "a"}]


def test_scalars_and_strings_broadcast() -> None:
    rows = inputs_of({"review": ["a", "b"], "lang": "de"}, TWO)
    assert rows == [{"review": "a", "lang": "de"}, {"review": "b", "lang": "de"}]


def test_a_custom_batch_key_and_shared_inputs() -> None:
    rows = inputs_of({"items": AB, "lang": "de"}, TWO, batch_key="items")
    assert [r["lang"] for r in rows] == ["de", "de"]


def test_a_list_typed_input_is_one_value_unless_it_is_a_list_of_lists() -> None:
    assert inputs_of({"tags": ["a", "b"]}, TAGS) == [{"tags": ["a", "b"]}]
    assert inputs_of({"tags": [["a"], ["b"]]}, TAGS) == [{"tags": ["a"]}, {"tags": ["b"]}]


def test_columns_feed_inputs_of_other_names() -> None:
    df = pd.DataFrame({"text": ["a", "b"]})
    assert inputs_of(df, columns={"review": "text"}) == AB


@given(st.lists(st.text(), max_size=20), st.integers(1, 4))
def test_repeat_numbers_rows_and_samples(texts: list[str], repeat: int) -> None:
    batch = expand({"review": texts}, ONE, repeat=repeat, skips_blank=False)
    rows = list(batch.rows)
    assert batch.total == len(rows) == len(texts) * repeat
    assert [r.number for r in rows] == list(range(len(rows)))
    assert [(r.position, r.sample) for r in rows] == [
        (p, s) for p in range(len(texts)) for s in range(repeat)
    ]
    assert [r.inputs["review"] for r in rows] == [t for t in texts for _ in range(repeat)]


@given(st.lists(st.lists(st.text(), max_size=4), min_size=2, max_size=2))
def test_lists_of_unequal_length_are_refused_with_their_lengths(pair: list[list[str]]) -> None:
    data = {"review": pair[0], "lang": pair[1]}
    if len(pair[0]) == len(pair[1]):
        assert len(inputs_of(data, TWO, skips_blank=False)) == len(pair[0])
    else:
        with pytest.raises(ValueError, match=f"review: {len(pair[0])}, lang: {len(pair[1])}"):
            expand(data, TWO)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"text": ["a"]}, r"lacks \['review'\] and has unknown \['text'\]"),
        ([{"review": "a"}, {"nope": 1}], "row 1 lacks"),
        ({"review": ["a", 5]}, "must be str, but 1 rows are not .row 1"),
        ({"review": [" ", None]}, "every row has a required input that is missing or blank"),
        (pd.Series(["", np.nan]), "every row"),
        (pd.DataFrame({"text": ["a"]}), "no column for"),
        ({"_batch": "a"}, "list of input dicts"),
    ],
)
def test_bad_input_is_refused_by_name(data: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        expand(data, ONE)


def test_a_plain_list_needs_one_input() -> None:
    two = Inputs(pn.Signature("x").add_input("a").add_input("b").inputs)
    with pytest.raises(ValueError, match="dict of lists"):
        expand(["x"], two)


def test_a_scalar_is_no_batch() -> None:
    with pytest.raises(TypeError, match="cannot make rows of int"):
        expand(3, ONE)


def test_missing_optional_values_are_not_given() -> None:
    """So the default of a function's parameter holds, by every way in."""
    missing = [{"review": "a", "lang": np.nan}, {"review": "b", "lang": None}]
    for data in (pd.DataFrame(missing), missing, {"_batch": missing}, iter(missing)):
        assert inputs_of(data, TWO) == AB
