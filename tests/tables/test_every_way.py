"""The same rows by every way in and out: equal tables."""

from __future__ import annotations

import datetime as dt
import math
import tempfile
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import polars as pl
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support.text_type import TEXT

import pardspy_nb as pn

QUIET: Any = {"store": None, "progress": "none"}
FEW = settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

texts = st.text(st.characters(codec="utf-8", exclude_characters="\r"), min_size=1).filter(
    lambda t: not t.isspace()
)
scalars: dict[str, st.SearchStrategy[Any]] = {
    "text": texts,
    "int": st.integers(-(2**63), 2**63 - 1),
    "float": st.floats(allow_nan=False),
    "bool": st.booleans(),
    "time": st.datetimes(dt.datetime(1900, 1, 1), dt.datetime(2200, 1, 1)),
    "day": st.dates(),
    "bytes": st.binary(),
    "money": st.decimals(-(10**6), 10**6, places=2),
}
nested: dict[str, st.SearchStrategy[Any]] = {
    "texts": st.lists(texts, max_size=3),
    "numbers": st.lists(st.floats(allow_nan=False), max_size=3),
    "record": st.fixed_dictionaries({"a": st.integers(0, 9), "b": texts}),
    "records": st.lists(st.fixed_dictionaries({"a": texts, "b": st.lists(texts)}), max_size=2),
}


@st.composite
def columns(draw: st.DrawFn) -> list[Any]:
    """A column of one type, in which values may be missing."""
    kind = draw(st.sampled_from([*scalars, *nested]))
    values = {**scalars, **nested}[kind]
    return draw(st.lists(st.none() | values, min_size=1, max_size=6))


@st.composite
def indexes(draw: st.DrawFn, length: int) -> pd.Index:
    start, step = draw(st.integers(0, 9)), draw(st.integers(1, 3))
    name = draw(st.sampled_from([None, "key", "status", "value"]))
    made = {
        "range": lambda: pd.RangeIndex(start, start + step * length, step, name=name),
        "text": lambda: pd.Index([f"r{i % 3}" for i in range(length)], name=name),
        "time": lambda: pd.date_range("2026-01-01", periods=length, tz="UTC", name=name),
        "pairs": lambda: pd.MultiIndex.from_tuples([(i, f"x{i}") for i in range(length)]),
    }
    return made[draw(st.sampled_from(list(made)))]()


def frame_of(values: list[Any]) -> pd.DataFrame:
    """A frame with a column that is carried along and given to the module."""
    kinds = {type(v) for v in values if v is not None}
    dtype = {frozenset({int}): "Int64", frozenset({str}): TEXT, frozenset({bool}): "boolean"}
    column = pd.Series(values, dtype=dtype.get(frozenset(kinds), object))
    return pd.DataFrame({"value": column, "n": range(len(values))})


def same(value: Any = None, n: int = 0) -> dict[str, Any]:
    return {"copy": value, "n_again": int(n)}


def plain(value: Any) -> Any:
    """A value as Python has it, whatever the library."""
    if isinstance(value, np.ndarray):
        value = value.tolist()
    if value is None or value is pd.NA or value is pd.NaT:
        return None
    if isinstance(value, float) and math.isnan(value):
        return None
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return value.to_pydatetime() if isinstance(value, pd.Timestamp) else value


def listed(df: pd.DataFrame, column: str) -> list[Any]:
    return [plain(value) for value in df[column]]


def to_file(source: Any, folder: str, **options: Any) -> pd.DataFrame:
    pn.run_to_parquet(same, source, Path(folder) / "out.parquet", **options, **QUIET)
    return pd.read_parquet(Path(folder) / "out.parquet")


@given(st.data())
@FEW
@pytest.mark.slow
def test_values_and_index_are_the_same_by_frame_file_and_iterator(data: Any) -> None:
    values = data.draw(columns())
    df = frame_of(values)
    df.index = data.draw(indexes(len(df)))
    expected = [plain(v) for v in values]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.parquet"
        df.to_parquet(path)
        ways = {
            "frame": pn.run_parallel(same, df, **QUIET),
            "frame to file": to_file(df, folder),
            "file": pn.run_parallel(same, path, **QUIET),
            "file to file": to_file(path, folder),
            "exported": pd.read_parquet(
                pn.run_parallel(same, df, **QUIET).parallel.to_parquet(Path(folder) / "x.parquet")
            ),
        }
    for way, made in ways.items():
        assert listed(made, "value") == expected, way
        assert listed(made, "copy") == expected, way
        assert list(made["n_again"]) == list(range(len(values))), way
        assert made.index.equals(df.index), (way, made.index, df.index)
        assert made.index.names == df.index.names, way


@given(columns())
@FEW
@pytest.mark.slow
def test_tables_of_other_libraries_and_streams_hold_the_same_rows(values: list[Any]) -> None:
    rows = [{"value": v, "n": i} for i, v in enumerate(values)]
    expected = [plain(v) for v in values]

    def stream() -> Iterator[dict[str, Any]]:
        shared: dict[str, Any] = {}
        for row in rows:  # one dict, filled again and again
            shared.update(row)
            yield shared

    table = pa.Table.from_pylist(rows)
    with tempfile.TemporaryDirectory() as folder:
        ways = {
            "pyarrow": pn.run_parallel(same, table, **QUIET),
            "polars": pn.run_parallel(same, pl.from_arrow(table), **QUIET),
            "dicts": pn.run_parallel(same, rows, **QUIET),
            "stream": pn.run_parallel(same, stream(), **QUIET),
            "pyarrow to file": to_file(table, folder),
            "polars to file": to_file(pl.from_arrow(table), folder),
            "stream to file": to_file(stream(), folder),
        }
    for way, made in ways.items():
        assert listed(made, "value") == expected, way
        assert listed(made, "copy") == expected, way


@given(st.data())
@FEW
@pytest.mark.slow
def test_a_retry_and_a_second_run_see_the_rows_as_they_are(data: Any) -> None:
    values = data.draw(columns())
    df = frame_of(values)
    df.index = data.draw(indexes(len(df)))
    fails = True

    def sometimes(value: Any = None, n: int = 0) -> dict[str, Any]:
        if fails and n % 2:
            raise ValueError("not yet")
        return same(value, n)

    made = pn.run_parallel(sometimes, df, max_failures=None, **QUIET)
    fails = False
    made.parallel.retry_failed()
    again = pn.run_parallel(same, made, **QUIET)
    expected = [plain(v) for v in values]
    assert listed(made, "copy") == listed(again, "run_copy") == expected
    assert listed(again, "copy") == listed(again, "value") == expected
    assert again.index.equals(df.index)
    assert again.parallel.metrics.successes == len(df)


json_values = st.one_of(
    st.none(),
    texts,
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.lists(texts, max_size=2),
    st.dictionaries(texts, st.integers(0, 9), max_size=2),
)


@given(st.lists(json_values, min_size=1, max_size=5))
@FEW
@pytest.mark.slow
def test_a_jsonl_file_gives_the_values_that_are_in_it(values: list[Any]) -> None:
    import json

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.jsonl"
        path.write_text("".join(json.dumps({"value": v, "n": 1}) + "\n" for v in values))
        made = pn.run_parallel(same, path, **QUIET)
        pn.run_to_parquet(same, path, Path(folder) / "o.parquet", **QUIET)
        filed = pd.read_parquet(Path(folder) / "o.parquet")
    assert listed(made, "value") == listed(made, "copy") == values
    is_text = [
        isinstance(v, str) and not isinstance(w, str)
        for v, w in zip(filed["value"], values, strict=True)
    ]
    for told, value, as_text in zip(listed(filed, "value"), values, is_text, strict=True):
        assert (json.loads(told) if as_text else told) == value


@given(st.lists(st.text(st.characters(codec="utf-8")), min_size=1, max_size=5))
@FEW
@pytest.mark.slow
def test_a_csv_gives_the_text_that_is_in_it(cells: list[str]) -> None:
    import csv

    seen: list[Any] = []

    def note(value: Any = None, n: str = "") -> str:
        seen.append(value)
        return "" if value is None else str(value)

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "in.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([["n", "value"], *(["x", cell] for cell in cells)])
        made = pn.run_parallel(note, path, **QUIET)
    assert list(made["output"]) == cells


@pytest.mark.parametrize(
    "make",
    [
        lambda: [np.arange(1536) / 7, np.arange(1536) * 1.0],
        lambda: [np.array([[1, 2], [3, 4]]), np.array([[5, 6], [7, 8]])],
        lambda: [np.float64(0.5), np.float64(1.5)],
        lambda: [np.int32(7), np.int32(8)],
        lambda: [np.bool_(True), np.bool_(False)],
        lambda: [(1, 2), (3, 4)],
        lambda: [{"a": [1]}, {"a": [2]}],
        lambda: [Decimal("1.10"), Decimal("2.25")],
        lambda: [b"\xff", b"ok"],
        lambda: [dt.date(2026, 1, 2), dt.date(1800, 1, 2)],
    ],
)
def test_what_functions_return_keeps_its_type_in_a_file(make: Any, tmp_path: Path) -> None:
    made = make()
    df = pn.run_parallel(lambda i: {"v": made[i]}, {"i": [0, 1]}, **QUIET)
    pn.run_to_parquet(
        lambda i: {"v": made[i]}, pd.DataFrame({"i": [0, 1]}), tmp_path / "o.parquet", **QUIET
    )
    filed = pd.read_parquet(tmp_path / "o.parquet")
    exported = pd.read_parquet(df.parallel.to_parquet(tmp_path / "x.parquet"))
    expected = [v.tolist() if hasattr(v, "tolist") else v for v in made]
    expected = [list(v) if isinstance(v, tuple) else v for v in expected]
    for table in (filed, exported):
        assert [_lists(plain(v)) for v in table["v"]] == expected
    if isinstance(made[0], np.generic):
        assert pd.api.types.is_numeric_dtype(df["v"].dtype)


def _lists(value: Any) -> Any:
    value = value.tolist() if hasattr(value, "tolist") else value
    return [_lists(v) for v in value] if isinstance(value, list) else value
