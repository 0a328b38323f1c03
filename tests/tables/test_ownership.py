"""A run owns its rows from the moment it starts."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import pardspy_nb as pn

QUIET: Any = {"store": None, "progress": "none"}


class Held:
    """A function that waits until it may go on."""

    def __init__(self) -> None:
        self.may_go_on = threading.Event()

    def __call__(self, **row: Any) -> dict[str, Any]:
        assert self.may_go_on.wait(20)
        return {"seen": repr(row)}


def result_after(change: Any, data: Any) -> pd.DataFrame:
    """The result of a run whose input is changed while it runs."""
    held = Held()
    run = pn.start_parallel(held, data, max_workers=1, **QUIET)
    change(data)
    held.may_go_on.set()
    df: pd.DataFrame = run.result()
    return df


def table() -> pd.DataFrame:
    return pd.DataFrame(
        {"id": [3, 1, 2], "text": list("cab"), "tags": [["c"], ["a"], ["b"]]}, index=[7, 8, 9]
    )


@pytest.mark.parametrize(
    "change",
    [
        lambda df: df.sort_values("id", inplace=True),
        lambda df: df.drop(index=[7], inplace=True),
        lambda df: df.rename(columns={"text": "x"}, inplace=True),
        lambda df: df.reset_index(inplace=True),
        lambda df: df.loc.__setitem__((7, "text"), "changed"),
        lambda df: df["tags"].iloc[0].append("changed"),
        lambda df: setattr(df.index, "name", "changed"),
        lambda df: df.insert(0, "status", 1),
    ],
)
def test_a_frame_that_is_changed_while_its_rows_run(change: Any) -> None:
    df = result_after(change, table())
    expected = table()
    assert df.index.equals(expected.index)
    assert df.index.name is None
    pd.testing.assert_frame_equal(df[["id", "text", "tags"]], expected)
    assert list(df["seen"]) == [repr(row) for row in expected.to_dict("records")]


@pytest.mark.parametrize(
    ("data", "change"),
    [
        ([{"x": [1]}, {"x": [2]}], lambda rows: rows[1].update(x=[9])),
        ([{"x": [1]}, {"x": [2]}], lambda rows: rows[1]["x"].append(9)),
        ({"x": [[1], [2]]}, lambda data: data["x"][1].append(9)),
        ({"x": np.array([[1], [2]])}, lambda data: data["x"].__setitem__((1, 0), 9)),
        ({"_batch": [{"x": [1]}, {"x": [2]}]}, lambda data: data["_batch"][1].update(x=9)),
    ],
)
def test_other_inputs_that_are_changed_while_they_run(data: Any, change: Any) -> None:
    df = result_after(change, data)
    assert list(df["seen"]) == ["{'x': [1]}", "{'x': [2]}"]
    assert list(df["x"]) == [[1], [2]]


@pytest.mark.parametrize("to_file", [False, True])
def test_an_iterator_that_fills_one_dict_again_and_again(to_file: bool, tmp_path: Path) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        row: dict[str, Any] = {"tags": []}
        for text in "abc":
            row["text"] = text
            row["tags"].append(text)
            yield row

    def joined(text: str, tags: list[str]) -> str:
        return text + "".join(tags)

    if to_file:
        pn.run_to_parquet(joined, rows(), tmp_path / "o.parquet", **QUIET)
        df = pd.read_parquet(tmp_path / "o.parquet")
    else:
        df = pn.run_parallel(joined, rows(), **QUIET)
    assert list(df["text"]) == ["a", "b", "c"]
    assert list(df["output"]) == ["aa", "bab", "cabc"]


def test_what_a_module_does_to_its_inputs_is_seen_by_nobody_else() -> None:
    df = pd.DataFrame({"tags": [["a"], ["b"]]})
    tries: dict[str, int] = {}

    def greedy(tags: list[str]) -> str:
        seen = "".join(tags)
        tries[seen] = tries.get(seen, 0) + 1
        tags.append("!")
        if tries[seen] == 1:
            raise TimeoutError
        return seen

    def also(tags: list[str]) -> dict[str, str]:
        return {"again": "".join(tags)}

    made = pn.run_parallel(pn.Program([greedy, also]), df, **QUIET)
    assert list(made["output"]) == list(made["again"]) == ["a", "b"]
    assert df["tags"].tolist() == made["tags"].tolist() == [["a"], ["b"]]


def test_a_module_that_returns_one_list_again_and_again() -> None:
    found: list[int] = []

    def fill(n: int) -> dict[str, list[int]]:
        found.clear()
        found.extend(range(n))
        return {"found": found}

    df = pn.run_parallel(fill, {"n": [1, 2, 3]}, max_workers=1, **QUIET)
    assert df["found"].tolist() == [[0], [0, 1], [0, 1, 2]]
