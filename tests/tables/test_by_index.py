"""What carries an index goes by it, or is refused with the reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import pardspy_nb as pn

QUIET: Any = {"store": None, "progress": "none"}


def join(a: Any, b: Any = "") -> str:
    return f"{a}{b}"


def test_series_in_a_dict_of_columns_go_by_their_index() -> None:
    a = pd.Series(["1", "2", "3"], index=["x", "y", "z"])
    b = pd.Series(list("zyxw"), index=["z", "y", "x", "w"])  # of more rows, in another order
    df = pn.run_parallel(join, {"a": a, "b": b}, **QUIET)
    assert df["output"].to_dict() == {"x": "1x", "y": "2y", "z": "3z"}
    df = pn.run_parallel(join, {"a": list("123"), "b": a}, **QUIET)
    assert df["output"].to_dict() == {"x": "11", "y": "22", "z": "33"}


@pytest.mark.parametrize(
    ("other", "words"),
    [
        (pd.Series(list("abc"), index=["x", "y", "v"]), r"lacks 1 of the 3 rows \('z'\)"),
        (pd.Series(list("abcd"), index=["x", "x", "y", "z"]), r"more than once \('x'\)"),
    ],
)
def test_series_of_other_rows_are_refused(other: pd.Series, words: str) -> None:
    a = pd.Series(["1", "2", "3"], index=["x", "y", "z"])
    with pytest.raises(ValueError, match=rf"Series of 'b' .*{words}.*\.tolist\(\)"):
        pn.run_parallel(join, {"a": a, "b": other}, **QUIET)


def test_true_labels_go_by_the_index_also_with_samples(predict: pn.Predict) -> None:
    rows = pd.DataFrame({"review": ["row-0", "row-1", "row-2"]}, index=["x", "y", "z"])
    truth = pd.Series(
        ["negative", "positive", "neutral", "neutral"], index=["z", "x", "y", "of no row"]
    )
    df = pn.run_parallel(predict, rows, truth=truth, repeat=2, **QUIET)
    assert df.parallel.metrics.accuracy == {"sentiment": 1.0}
    assert pn.evaluate(df, truth).accuracy == 1.0
    assert pn.evaluate(df[df["sentiment"] != "neutral"], truth).accuracy == 1.0
    with pytest.raises(ValueError, match=r"truth goes by its index, which lacks 1 of the 3 rows"):
        pn.run_parallel(predict, rows, truth=truth.drop("x"), **QUIET)
    shuffled = pd.Series(["negative", "positive", "neutral"], index=[2, 0, 1])
    df = pn.run_parallel(predict, rows["review"].tolist(), truth=shuffled, **QUIET)
    assert df.parallel.metrics.accuracy == {"sentiment": 1.0}, "rows without an index count from 0"


def test_labels_are_compared_by_one_rule_and_unknown_ones_are_named(predict: pn.Predict) -> None:
    rows = pd.DataFrame({"review": ["row-0", "row-1", "row-2"]})
    truth = [" POSITIVE", "neutral", "negativ"]
    with pytest.warns(UserWarning, match=r"match no declared label: 'negativ' \(1 rows\)"):
        df = pn.run_parallel(predict, rows, truth=truth, **QUIET)
    with pytest.warns(UserWarning, match=r"'negativ' \(1 rows\)"):
        assert pn.evaluate(df, truth).accuracy == pytest.approx(2 / 3)
    assert df.parallel.metrics.judged == {"sentiment": (2, 3)}


@pytest.mark.parametrize(
    ("said", "true"),
    [
        (["1.0", "2.0"], [1.0, 2.0]),
        (["1", "2"], [1.0, 2.0]),
        ([1, 2], ["1.0", "2"]),
        (["Zürich", "x"], ["Zu\u0308rich", "X "]),
        ([True, False], ["true", "False"]),
    ],
)
def test_spellings_of_one_label(said: list[Any], true: list[Any]) -> None:
    df = pd.DataFrame({"said": said})
    assert pn.evaluate(df, true, "said").accuracy == 1.0


def test_a_vote_on_a_repeated_index_is_each_rows_own() -> None:
    people = pd.DataFrame({"text": ["yes", "no"]}, index=[7, 7])
    calls: dict[str, int] = {}

    def say(text: str) -> dict[str, str]:
        calls[text] = calls.get(text, 0) + 1
        if (text, calls[text]) in (("yes", 2), ("no", 1)):
            raise ValueError("no answer")
        return {"label": text}

    df = pn.run_parallel(
        say, people, repeat=2, max_workers=1, max_failures=None, only_successful=True, **QUIET
    )
    assert df.parallel.vote("label")["label"].tolist() == ["yes", "no"]
    with pytest.raises(ValueError, match="two input rows have the same index value"):
        df.iloc[::-1].parallel.vote("label")


@pytest.mark.parametrize(
    "cut",
    [
        lambda df: df.iloc[5:8],
        lambda df: df.iloc[::2],
        lambda df: df[df["n"] % 3 == 0],
        lambda df: df.rename_axis("id"),
        lambda df: df.iloc[3:6].rename_axis("id"),
        lambda df: df.set_axis(pd.RangeIndex(10, -10, -2)),
    ],
)
def test_ranges_are_kept_by_every_way_out(cut: Any, tmp_path: Path) -> None:
    big = pd.DataFrame({"a": [f"t{i}" for i in range(10)], "n": range(10)})
    rows = cut(big)
    out = tmp_path / "o.parquet"
    pn.run_to_parquet(join, rows, out, **QUIET)
    rows.to_parquet(tmp_path / "in.parquet")
    made = [pn.run_parallel(join, rows, **QUIET), pd.read_parquet(out)]
    pn.run_to_parquet(join, tmp_path / "in.parquet", out, **QUIET)
    made += [pd.read_parquet(out)]
    made += [pd.read_parquet(made[0].parallel.to_parquet(tmp_path / "x.parquet"))]
    for df in made:
        assert list(df.index) == list(rows.index)
        assert df.index.name == rows.index.name
        assert list(rows.join(df[["output"]])["output"]) == list(rows["a"])
    listed = pd.read_csv(made[0].parallel.to_csv(tmp_path / "x.csv"))
    assert listed[rows.index.name or "index"].tolist() == list(rows.index)
