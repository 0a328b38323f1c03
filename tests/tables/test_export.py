"""Results as other tools' tables and files, with what is known of the run."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from pydantic import BaseModel
from support.scripted_server import ScriptedServer

import pardspy_nb as pn
from pardspy_nb.tables import export


class Point(BaseModel):
    x: int


@pytest.fixture
def df(server: ScriptedServer, predict: pn.Predict) -> pd.DataFrame:
    table = pd.DataFrame({"review": [f"row-{i}" for i in range(6)]}, index=list("abcdef"))
    frame: pd.DataFrame = pn.run_parallel(predict, table, progress="none")
    return frame


@pytest.mark.parametrize("make", [pl.DataFrame, pa.table, pd.DataFrame])
@pytest.mark.parametrize("kind", ["pandas", "polars", "pyarrow"])
def test_any_table_in_and_any_table_out(
    server: ScriptedServer, predict: pn.Predict, make: Any, kind: str
) -> None:
    """Columns in one order, labels in theirs, missing values missing."""
    table = make({"review": [f"row-{i}" for i in range(6)], "n": [1, 2, None, 4, 5, 6]})
    made = pn.run_parallel(predict, table, result=kind, progress="none")
    kinds = {"pandas": pd.DataFrame, "polars": pl.DataFrame, "pyarrow": pa.Table}
    assert type(made) is kinds[kind]
    names = made.column_names if kind == "pyarrow" else list(made.columns)
    assert names[:4] == ["review", "n", "sentiment", "reason"]
    if kind == "polars":
        assert made["sentiment"].dtype == pl.Enum(["positive", "neutral", "negative"])
        assert made["n"].null_count() == 1
        assert made["error"].null_count() == 6
        assert made["prompt_tokens"].sum() == server.billed_prompt
    if kind == "pyarrow":
        back = made.to_pandas()
        assert list(back["sentiment"].cat.categories) == ["positive", "neutral", "negative"]
        assert json.loads(made.schema.metadata[b"PANDAS_ATTRS"])["pardspy"]["model"]


def test_a_run_gives_what_was_asked_for_wherever_it_is_waited_for(
    server: ScriptedServer, predict: pn.Predict
) -> None:
    """`result` is the kind, `df` is always pandas'."""
    run = pn.start_parallel(predict, ["row-1"], result="polars", progress="none")
    assert isinstance(run.result(), pl.DataFrame)
    assert isinstance(run.df, pd.DataFrame)


def test_kinds_that_cannot_be_made_are_refused_before_anything_is_sent(
    server: ScriptedServer, predict: pn.Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(ValueError, match="'pandas', 'polars', 'pyarrow' or 'dask'"):
        pn.run_parallel(predict, ["row-1"], result="spark")
    with pytest.raises(ValueError, match="needs executor="):
        pn.run_parallel(predict, ["row-1"], result="dask")
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ModuleNotFoundError, match="needs polars: pip install polars"):
        pn.run_parallel(predict, ["row-1"], result="polars", progress="none")
    assert server.requests == []


def test_a_parquet_file_keeps_what_is_known(df: pd.DataFrame, tmp_path: Path) -> None:
    path = df.parallel.to_parquet(tmp_path / "answers.parquet")
    back = pd.read_parquet(path)
    pd.testing.assert_frame_equal(df, back)
    assert back.attrs["pardspy"] == json.loads(json.dumps(df.attrs["pardspy"], default=str))
    assert back.parallel.metrics == df.parallel.metrics
    assert len(back.parallel.retry_failed()) == 6


@pytest.mark.parametrize("name", ["answers.csv", "answers.jsonl"])
def test_text_files_have_it_beside_them(df: pd.DataFrame, tmp_path: Path, name: str) -> None:
    write = df.parallel.to_csv if name.endswith("csv") else df.parallel.to_jsonl
    assert write(tmp_path / name) == tmp_path / name
    about = json.loads((tmp_path / f"{name}.provenance.json").read_text())
    assert about["signature"]["outputs"]["sentiment"] == "one of: positive, neutral, negative"
    read = pd.read_csv if name.endswith("csv") else lambda path: pd.read_json(path, lines=True)
    back = read(tmp_path / name)
    assert back["reason"].tolist() == df["reason"].tolist()
    assert list(back.columns) == ["index", *df.columns]


def test_what_no_column_holds_is_json(tmp_path: Path) -> None:
    """Objects of any kind reach every tool, as text that can be read again."""

    def odd(i: int) -> dict[str, Any]:
        mixed: list[Any] = [1, "one", {"a": 1}]
        return {"point": Point(x=i), "mixed": mixed[i], "tags": ["a"] * i}

    df = pn.run_parallel(odd, {"i": range(3)}, progress="none")
    back = pd.read_parquet(df.parallel.to_parquet(tmp_path / "odd.parquet"))
    assert back["point"].tolist() == [{"x": 0}, {"x": 1}, {"x": 2}]
    assert back["mixed"].tolist() == ["1", "one", '{"a":1}']
    assert [list(tags) for tags in back["tags"]] == [[], ["a"], ["a", "a"]]
    assert df.parallel.to_polars()["tags"].to_list() == [[], ["a"], ["a", "a"]]
    df.parallel.to_jsonl(tmp_path / "odd.jsonl")
    told = [json.loads(line) for line in (tmp_path / "odd.jsonl").read_text().splitlines()]
    assert told[2]["point"] == {"x": 2}
    assert [row["mixed"] for row in told] == [1, "one", {"a": 1}]
    assert told[1]["tags"] == ["a"]


def test_columns_of_any_type_are_carried_along(
    server: ScriptedServer, predict: pn.Predict, tmp_path: Path
) -> None:
    """What other tools have no type for becomes text; nothing that was paid for is lost."""
    table = pd.DataFrame(
        {
            "review": ["row-0", "row-1"],
            "sparse": pd.arrays.SparseArray([0, 1]),
            "complex": [1j, 2j],
            "mixed": pd.Categorical([1, "one"]),
            "period": pd.period_range("2026-01", periods=2, freq="M"),
            "interval": pd.interval_range(0, 2),
            "bytes": [b"\xff", b"ok"],
            "money": [Decimal("1.10"), Decimal("2.20")],
            "empty": [{}, {}],
            "flag": pd.array([True, None], dtype=object),
        }
    )
    for kind in ("polars", "pyarrow"):
        made = pn.run_parallel(predict, table, result=kind, progress="none")
        assert made.shape[0] == 2
    df = pn.run_parallel(predict, table, progress="none")
    back = pd.read_parquet(df.parallel.to_parquet(tmp_path / "all.parquet"))
    assert back["empty"].tolist() == ["{}", "{}"]
    df.parallel.to_jsonl(tmp_path / "all.jsonl")
    first, second = map(json.loads, (tmp_path / "all.jsonl").read_text().splitlines())
    assert (first["money"], first["flag"], second["flag"]) == ("1.10", True, None)
    assert first["period"] == "2026-01"
    df.parallel.to_csv(tmp_path / "all.csv")
    assert pd.read_csv(tmp_path / "all.csv")["money"].tolist() == [1.1, 2.2]


def test_a_table_that_cannot_be_made_leaves_the_frame(
    server: ScriptedServer, predict: pn.Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(df: Any) -> Any:
        raise TypeError("no such column type")

    monkeypatch.setattr(export, "as_arrow", broken)
    with pytest.raises(pn.ParallelError, match="no such column type") as told:
        pn.run_parallel(predict, ["row-1"], result="pyarrow", progress="none")
    assert (told.value.df["status"] == "ok").all()


def test_an_index_that_says_something_becomes_a_column(df: pd.DataFrame) -> None:
    assert df.parallel.to_polars()["index"].to_list() == list("abcdef")
    assert df.reset_index(drop=True).parallel.to_arrow().column_names[0] == "review"
    assert df.rename_axis("review").parallel.to_arrow().column_names[:2] == ["review_", "review"]
    levels = pd.MultiIndex.from_arrays([list("aabbcc"), range(6)])
    assert df.set_axis(levels).parallel.to_arrow().column_names[:2] == ["index_0", "index_1"]
