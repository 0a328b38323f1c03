"""Nested outputs: how a prompt words their types, and what a frame makes of them."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import json
from pathlib import Path
from typing import Any, Literal, TypedDict

import pandas as pd
import pydantic
import pytest
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn
from pardspy_nb.signatures.type_words import type_words

QUIET: dict[str, Any] = {"progress": "none", "store": None}


class Colour(enum.Enum):
    RED = "red"
    BLUE = "blue"


class Size(pydantic.BaseModel):
    width: float
    height: float


class Product(pydantic.BaseModel):
    name: str
    price: float | None = None
    stars: int = 0
    kind: Literal["book", "film"] = "book"
    since: dt.datetime | None = None
    colour: Colour = Colour.RED
    size: Size | None = None


class Tree(pydantic.BaseModel):
    name: str
    below: list[Tree] = []


class Point(TypedDict):
    x: int
    y: float


@dataclasses.dataclass
class Pair:
    left: str
    right: bool


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        (str, "str"),
        (list[str], "list of text"),
        (list[Size], "list of Size (width: number, height: number)"),
        (Size | None, "Size (width: number, height: number) or nothing"),
        (dict[str, int], "object of whole number by name"),
        (Point, "Point (x: whole number, y: number)"),
        (list[Pair], "list of Pair (left: text, right: true or false)"),
        (list[Colour], "list of one of: red, blue"),
        (list[Literal["a", "b"]], "list of one of: a, b"),
        (Tree, "Tree (name: text, below: list of Tree)"),
        (tuple[int, ...], "list of whole number"),
        (list[dt.date], "list of date"),
        (list[Any], "list of anything"),
    ],
)
def test_types_read_as_people_write_them(kind: Any, words: str) -> None:
    assert type_words(kind) == words


@pytest.fixture
def df(lm: pn.LM, server: ScriptedServer) -> pd.DataFrame:
    products = [
        [
            {"name": "a", "price": 2, "kind": "film", "since": "2026-01-02T03:04:05Z"},
            {"name": "b", "colour": "blue", "size": {"width": 1, "height": 2}},
        ],
        [],
        None,
    ]
    extras = {"price": None, "stars": 0, "kind": "book", "since": None, "colour": "red"}

    def script(marker: int, attempt: int) -> Reply:
        if products[marker] is None:
            return Reply("status", code=400)
        whole = [{**extras, "size": None, **p} for p in products[marker] or ()]
        return Reply(content=json.dumps({"products": whole, "tags": ["x", "y"]}))

    server.script = script
    signature = (
        pn.Signature("Extract")
        .add_input("name", str)
        .add_output("products", list[Product])
        .add_output("tags", list[str])
    )
    prompt = pn.Predict(signature, lm).request({"name": "x"})["messages"][0]["content"]
    assert "list of Product (name: text, price: number or nothing" in prompt
    assert "__main__" not in prompt
    rows = pd.DataFrame({"name": [f"row-{i}" for i in range(3)]}, index=["i", "j", "k"])
    return pn.run_parallel(pn.Predict(signature, lm), rows, max_failures=None, **QUIET)


def test_one_row_an_item_with_typed_columns(df: pd.DataFrame, tmp_path: Path) -> None:
    long = df.parallel.explode("products")
    assert list(long.index) == ["i", "i", "j", "k"]
    assert list(long["products_name"])[:2] == ["a", "b"]  # `name` is the table's
    assert list(long["name"]) == ["row-0", "row-0", "row-1", "row-2"]
    assert long["price"].dtype == "Float64"
    assert long["stars"].dtype == "Int64"
    assert list(long["kind"].cat.categories) == ["book", "film"]
    assert list(long["colour"].cat.categories) == ["red", "blue"]
    assert long["since"].dt.tz is not None
    assert long["size"].iloc[1] == {"width": 1.0, "height": 2.0}
    assert long["status"].astype(str).tolist() == ["ok", "ok", "ok", "failed"]
    assert not {"cost_usd", "total_tokens", "attempts"} & set(long.columns)
    assert long.iloc[2:]["products_name"].isna().all()
    assert list(df.parallel.explode("products", keep_empty=False).index) == ["i", "i"]

    df.parallel.to_parquet(tmp_path / "a.parquet")
    again = pd.read_parquet(tmp_path / "a.parquet").parallel.explode("products")
    assert again.dtypes.drop("size").astype(str).tolist() == (
        long.dtypes.drop("size").astype(str).tolist()
    )
    assert again["products_name"].tolist()[:2] == ["a", "b"]


def test_items_that_are_no_records_are_one_column(df: pd.DataFrame) -> None:
    tags = df.parallel.explode("tags", keep_empty=False)
    assert tags["tags"].tolist() == ["x", "y", "x", "y"]
    assert tags.parallel.plot_counts("tags") is not None
    with pytest.raises(ValueError, match="neither lists nor records: row 'i' is text"):
        df.parallel.explode("name")
    with pytest.raises(ValueError, match="no column 'prodcts'"):
        df.parallel.explode("prodcts")


def test_pandas_own_functions_read_nested_columns(df: pd.DataFrame, tmp_path: Path) -> None:
    df.iloc[:2].to_parquet(tmp_path / "b.parquet")  # pandas' own writer
    back = pd.read_parquet(tmp_path / "b.parquet")
    assert back["products"].iloc[0][1]["size"] == {"width": 1.0, "height": 2.0}
    flat = pd.json_normalize(df["products"].iloc[0])
    assert flat["size.height"].tolist()[1] == 2.0
    assert df["products"].iloc[0][1]["colour"] == "blue"


def test_any_table_can_be_made_long() -> None:
    given = pd.DataFrame({"t": ['[{"a": 1}, {"a": 2, "b": "x"}]', None], "one": [{"c": 1}, {}]})
    long = given.parallel.explode("t")
    assert long["a"].tolist()[:2] == [1, 2]
    assert long["a"].dtype == "Int64"
    assert given.parallel.explode("one")["c"].tolist() == [1, pd.NA]
    assert list(given.iloc[:0].parallel.explode("one").columns) == ["t", "one"]
    with pytest.raises(ValueError, match="records as well as other values"):
        pd.DataFrame({"t": [[{"a": 1}, 2]]}).parallel.explode("t")


def test_objects_of_a_function_that_declares_no_type_stay_as_they_are() -> None:
    df = pn.run_parallel(lambda n: {"p": Size(width=n, height=1)}, {"n": [1, 2]}, **QUIET)
    assert df["p"][0] == Size(width=1, height=1)
    assert df.parallel.explode("p")["width"].tolist() == [1.0, 2.0]
