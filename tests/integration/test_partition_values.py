"""Rows through the partitions of a cluster are those of a run in this process."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

import pardspy_nb as pn

pytestmark = pytest.mark.slow
QUIET: Any = {"store": None, "progress": "none"}


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    from distributed import Client, LocalCluster

    with (
        LocalCluster(n_workers=1, processes=False, dashboard_address="127.0.0.1:0") as cluster,
        Client(cluster) as made,
    ):
        yield made


def same(text: str, value: Any = None) -> dict[str, Any]:
    return {"copy": value, "seen": f"{type(value).__name__} {value!r}"}


COLUMNS: dict[str, list[Any]] = {
    "lists": [["a", 1.5], ["b"], None],
    "records": [{"a": 1}, {"a": 2}, {"a": 3}],
    "large": [2**60 + 1, None, 3],
    "money": [Decimal("1.10"), None, Decimal("2.20")],
    "days": [dt.date(2026, 1, 2), dt.date(1700, 1, 2), None],
    "bytes": [b"\xff", b"", None],
    "mixed": [1, "one", None],
    "arrays": [np.arange(3.0), np.arange(2.0), None],
}


def plain(values: Any) -> list[Any]:
    listed = [v.tolist() if isinstance(v, np.ndarray) else v for v in values]
    return [None if v is None or v is pd.NA or v != v else v for v in listed]


@pytest.mark.parametrize("name", COLUMNS)
def test_a_frame_in_partitions(client: Any, name: str, tmp_path: Path) -> None:
    table = pd.DataFrame({"text": list("abc"), "value": pd.Series(COLUMNS[name], dtype=object)})
    table.index = pd.RangeIndex(5, 11, 2, name="key")
    here = pn.run_parallel(same, table, **QUIET)
    pn.run_to_parquet(same, table, tmp_path / "here.parquet", **QUIET)
    pn.run_to_parquet(same, table, tmp_path / "folder", executor=client, **QUIET)
    there = pd.read_parquet(tmp_path / "folder")
    kept = pn.run_parallel(same, table, executor=client, result="dask", **QUIET).compute()
    for made in (there, kept):
        assert list(made["seen"]) == list(here["seen"])
        assert list(made.index) == [5, 7, 9]
        assert made.index.name == "key"
    filed = pd.read_parquet(tmp_path / "here.parquet")
    assert plain(there["copy"]) == plain(filed["copy"])


def test_text_files_in_partitions(client: Any, tmp_path: Path) -> None:
    rows = [f"{i:03},t{i},{i}" for i in range(2500)]
    (tmp_path / "in.csv").write_text("\n".join(["value,text,n", *rows, "A04,NA,"]))
    lines = ['{"text": "a", "value": {"b": [1]}}', '{"text": "b", "value": null, "late": 1}']
    (tmp_path / "in.jsonl").write_text("\n".join(lines))
    for name in ("in.csv", "in.jsonl"):
        here = pn.run_parallel(same, tmp_path / name, **QUIET)
        pn.run_to_parquet(same, tmp_path / name, tmp_path / "folder", executor=client, **QUIET)
        there = pd.read_parquet(tmp_path / "folder")
        assert list(there["seen"]) == list(here["seen"])
        assert list(there["text"]) == list(here["text"])


def test_types_that_differ_between_partitions_make_one_folder(client: Any, tmp_path: Path) -> None:
    def late(i: int) -> dict[str, Any]:
        return {"o": None if i < 1500 else 2**60 + 1, "p": i if i < 1500 else "x"}

    pd.DataFrame({"i": range(2100)}).to_parquet(tmp_path / "in.parquet", row_group_size=700)
    pn.run_to_parquet(late, tmp_path / "in.parquet", tmp_path / "out", executor=client, **QUIET)
    df = pd.read_parquet(tmp_path / "out")
    assert df["o"].isna().sum() == 1500
    assert int(df["o"].iloc[-1]) == 2**60 + 1
    assert (df["p"].iloc[0], df["p"].iloc[-1]) == ("0", "x")


def test_names_blanks_and_an_index_of_levels(client: Any, tmp_path: Path) -> None:
    table = pd.DataFrame({"text": ["a", "", "c"], "status": ["x", "y", "z"], "seen": [1, 2, 3]})
    pn.run_to_parquet(same, table, tmp_path / "out", executor=client, **QUIET)
    df = pd.read_parquet(tmp_path / "out")
    assert list(df["status"]) == ["x", "y", "z"]
    assert list(df["run_status"]) == ["ok", "skipped", "ok"]
    assert list(df["seen"]) == [1, 2, 3]
    assert list(df["run_seen"])[::2] == ["NoneType None"] * 2
    levels = table.set_index(["status", "seen"])
    with pytest.raises(ValueError, match=r"several levels .*reset_index"):
        pn.run_to_parquet(same, levels, tmp_path / "two", executor=client, **QUIET)
