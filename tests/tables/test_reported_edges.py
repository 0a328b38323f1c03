"""Faults at the edges that a review found, each by its kind."""

from __future__ import annotations

import datetime as dt
import io
import sys
import threading
from collections import deque
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest

import pardspy_nb as pn

QUIET: Any = {"store": None, "progress": "none"}

TIMES = pd.to_datetime(["2026-01-01", None])


def size(text: str) -> dict[str, int]:
    return {"n": len(text)}


def out(values: list[Any], tmp_path: Path) -> list[list[Any]]:
    """What a function's outputs are in a file, by two ways."""
    rows = {"i": range(len(values))}

    async def give(i: int) -> dict[str, Any]:
        return {"o": values[i]}

    pn.run_to_parquet(give, pd.DataFrame(rows), tmp_path / "o.parquet", **QUIET)
    df = pn.run_parallel(give, rows, **QUIET)
    files = [tmp_path / "o.parquet", df.parallel.to_parquet(tmp_path / "x.parquet")]
    return [pd.read_parquet(file)["o"].tolist() for file in files]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        ([dt.date(2026, 1, 1), dt.datetime(2026, 1, 1, 5)], ["2026-01-01", "2026-01-01T05:00:00"]),
        ([{"a": "\ud800"}, {"a": "x"}], [{"a": "\\ud800"}, {"a": "x"}]),
        ([np.longdouble(1), 2.5], [1.0, 2.5]),
        (["a", b"b"], ["a", "Yg=="]),
        ([float("inf"), "text"], ["Infinity", "text"]),
        ([{1: 2}, {1: 3}], ['{"1":2}', '{"1":3}']),
        ([range(2), range(1)], [[0, 1], [0]]),
        ([pd.Period("2026-01", "M"), "x"], ["2026-01", "x"]),
        ([np.ma.array([1, 2], mask=[0, 1]), None], [[1, None], None]),
    ],
)
def test_odd_outputs_are_whole_in_a_file(values: Any, expected: Any, tmp_path: Path) -> None:
    for told in out(values, tmp_path):
        plain = [v.tolist() if hasattr(v, "tolist") else v for v in told]
        plain = [[None if w != w else w for w in v] if isinstance(v, list) else v for v in plain]
        assert plain == expected


def test_a_value_that_contains_itself_is_written(tmp_path: Path) -> None:
    loop: list[Any] = []
    loop.append(loop)
    assert out([loop, 1], tmp_path)[0][1] == "1"


def test_times_keep_their_nanoseconds(tmp_path: Path) -> None:
    at = pd.Timestamp("2026-01-01T00:00:00.123456789")
    df = pn.run_parallel(lambda i: {"a": at, "b": at.to_datetime64()}, [1], **QUIET)
    assert df["a"][0] == df["b"][0] == at
    assert "123456789" in df.parallel.to_jsonl(tmp_path / "o.jsonl").read_text()


@pytest.mark.parametrize(
    "column",
    [
        pd.Categorical([1, 2]),
        pd.Categorical([0.5, 1.5]),
        pd.Categorical([True, False]),
        pd.cut([1, 5], [0, 3, 9]),
        pd.array([[1], None], dtype=pd.ArrowDtype(pa.list_(pa.int64()))),
        pd.array(
            [{"a": 2**60 + 1}, {"a": None}], dtype=pd.ArrowDtype(pa.struct({"a": pa.int64()}))
        ),
        pd.array([Decimal("1.10"), None], dtype=pd.ArrowDtype(pa.decimal128(9, 2))),
        pd.array([2**60 + 1, None], dtype=object),
        pd.array(
            pd.to_datetime(["2026-01-01", None]).tz_localize("UTC"),
            "timestamp[ns, tz=UTC][pyarrow]",
        ),
        pd.arrays.SparseArray([0, 1]),
    ],
    ids=lambda c: str(c.dtype)[:30],
)
def test_carried_columns_of_any_type_can_be_written_read_and_run_again(
    column: Any, tmp_path: Path
) -> None:
    table = pd.DataFrame({"text": ["a", "bb"], "c": column})
    path = tmp_path / "o.parquet"
    pn.run_to_parquet(size, table, path, **QUIET)
    back = pd.read_parquet(path)
    assert list(back["n"]) == [1, 2]
    if column.dtype == object:
        assert back["c"].tolist()[0] == 2**60 + 1
    again = pn.run_parallel(size, path, **QUIET)
    assert list(again["run_n"]) == [1, 2]
    df = pn.run_parallel(size, table, **QUIET)
    for write in (df.parallel.to_csv, df.parallel.to_jsonl, df.parallel.to_excel):
        write(tmp_path / f"x.{write.__name__[3:].replace('excel', 'xlsx')}")
    if "struct" in str(column.dtype):
        assert str(2**60 + 1) in (tmp_path / "x.jsonl").read_text()
        assert str(2**60 + 1) in (tmp_path / "x.csv").read_text()


def test_names_that_are_one_as_text_are_refused_before_anything_is_paid(tmp_path: Path) -> None:
    asked: list[str] = []

    def ask(text: str) -> None:
        asked.append(text)

    table = pd.DataFrame([["a", "b"]], columns=[1, "1"])
    with pytest.raises(ValueError, match=r"same name as text.*rename"):
        pn.run_to_parquet(ask, table, tmp_path / "o.parquet", columns={"text": 1}, **QUIET)
    df = pn.run_parallel(size, table, columns={"text": 1}, **QUIET)
    for write in (df.parallel.to_csv, df.parallel.to_jsonl, df.parallel.to_parquet):
        with pytest.raises(ValueError, match="same name as text"):
            write(tmp_path / "x")
    mixed = pd.DataFrame({"text": ["a", "b"]}, index=[1, "a"])
    with pytest.raises(ValueError, match=r"labels of several types.*reset_index"):
        pn.run_to_parquet(ask, mixed, tmp_path / "o.parquet", **QUIET)
    assert asked == []


def test_a_key_that_comes_late_in_a_stream_stays_apart(tmp_path: Path) -> None:
    def rows() -> Iterator[dict[str, Any]]:
        for i in range(2100):
            yield {"text": "a"} if i < 2000 else {"text": "b", "extra": "IN", "status": "shipped"}

    async def answer(**row: Any) -> dict[str, Any]:
        return {"n": len(row), "extra": "OUT"}

    pn.run_to_parquet(answer, rows(), tmp_path / "o.parquet", **QUIET)
    df = pd.read_parquet(tmp_path / "o.parquet")
    assert set(df["extra"]) == {"OUT"}
    assert set(df["status"]) == {"ok"}
    assert set(df["input_extra"].dropna()) == {"IN"}
    assert set(df["input_status"].dropna()) == {"shipped"}
    assert df.parallel.metrics.successes == 2100


def test_a_retry_of_a_frame_whose_attrs_were_lost(tmp_path: Path) -> None:
    fails = True

    def label(text: str) -> dict[str, Any]:
        if fails and text != "a":
            raise ValueError("not yet")
        return {"label": text.upper(), "score": 1}

    df = pn.run_parallel(label, {"text": list("abc")}, max_failures=None, **QUIET)
    read = pd.read_csv(df.parallel.to_csv(tmp_path / "o.csv"))
    assert read.parallel.metrics.failures == 2
    read.loc[2, "label"] = "mine"
    fails = False
    read.parallel.retry_failed(label, **QUIET)
    assert list(read["label"]) == ["A", "B", "mine"]
    assert "run_label" not in read
    assert pd.read_csv(tmp_path / "o.csv").iloc[:1].parallel.metrics.successes == 1


def test_what_is_no_list_of_labels_or_values_is_refused() -> None:
    df = pn.run_parallel(lambda text: {"pred": text}, {"text": ["1", "2"]}, **QUIET)
    for truth in ({0: "1", 1: "2"}, {"1", "2"}, pd.DataFrame({"a": ["1", "2"]})):
        with pytest.raises(TypeError, match="pass the name of a column, a Series"):
            pn.evaluate(df, truth, "pred")  # type: ignore[arg-type]
    for column in (pd.DataFrame({"a": ["x"]}), pl.DataFrame({"a": ["x"]})):
        with pytest.raises(TypeError, match="input 'text' is a DataFrame"):
            pn.run_parallel(size, {"text": column}, **QUIET)
    assert list(pn.run_parallel(size, {"text": deque(["a", "bb"])}, **QUIET)["n"]) == [1, 2]
    objects = pl.DataFrame({"text": ["a"], "o": pl.Series([object()], dtype=pl.Object)})
    with pytest.raises(ValueError, match=r"\['o'\] hold Python objects"):
        pn.run_parallel(size, objects, **QUIET)


def test_numbers_that_are_changed_in_place_while_rows_run() -> None:
    may_go_on = threading.Event()

    def wait(text: str) -> int:
        assert may_go_on.wait(20)
        return len(text)

    numbers = np.arange(2)
    table = pd.DataFrame({"z": numbers}, copy=False).assign(text=["a", "b"])
    run = pn.start_parallel(wait, table, **QUIET)
    table["z"].array[:] = 9
    numbers[:] = 9
    may_go_on.set()
    assert list(run.result()["z"]) == [0, 1]


def test_a_decorator_that_fills_a_parameter_has_its_own_signature() -> None:
    import functools

    def in_german(function: Any) -> Any:
        @functools.wraps(function)
        def module(text: str) -> Any:
            return function(text, "de")

        return module

    @in_german
    def say(text: str, lang: str) -> str:
        return f"{lang}:{text}"

    assert list(pn.run_parallel(say, ["a"], **QUIET)["output"]) == ["de:a"]


def test_a_closed_standard_error(monkeypatch: pytest.MonkeyPatch) -> None:
    closed = io.StringIO()
    closed.close()
    monkeypatch.setattr(sys, "stderr", closed)
    assert list(pn.run_parallel(size, ["a"], store=None)["n"]) == [1]


@pytest.mark.parametrize("blank", ["\u200b", "\ufeff \n", np.datetime64("NaT"), pd.NaT])
def test_what_nobody_can_see_is_blank(blank: Any) -> None:
    df = pn.run_parallel(lambda text: str(text), [{"text": "a"}, {"text": blank}], **QUIET)
    assert list(df["status"]) == ["ok", "skipped"]


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("one.csv", b"text\nWell,\nYes\n", "line 2: 2 values, and the header has 1"),
        ("some.csv", b"text,id\nhello,1,\nyou,2\n", "line 2: 3 values"),
        ("big.jsonl", b'{"a": 1e400}\n', "larger than any number"),
        ("half.jsonl", b'{"a": "\\ud800"}\n', "line 1: it is no JSON"),
        ("latin.jsonl", b'{"a": "\xfc"}\n', r"Path\('new.jsonl'\).*latin-1"),
        ("wide.csv", "a\nb\n".encode("utf-16"), "utf-16"),
    ],
)
def test_files_that_would_be_guessed_are_refused(
    name: str, content: bytes, words: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ValueError, match=words):
        pn.run_parallel(lambda **row: 1, tmp_path / name, **QUIET)


def test_large_numbers_of_a_csv_are_not_rounded_by_a_later_decimal(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("key\n" + "9007199254740993\n" * 3 + "1.5\n")
    df = pn.run_parallel(lambda key: {"seen": key}, path, **QUIET)
    assert df["seen"].tolist() == ["9007199254740993"] * 3 + ["1.5"]
