"""A result as a workbook: every value as it is, or as text, or refused."""

from __future__ import annotations

import datetime as dt
from pathlib import Path
from typing import Any

import openpyxl
import pandas as pd
import pytest

import pardspy_nb as pn

QUIET: Any = {"store": None, "progress": "none"}


def test_every_value_arrives(tmp_path: Path) -> None:
    table = pd.DataFrame(
        {
            "text": ["=1+1", "http://a.b/c"],
            "id": [1234567890123456789, 2],
            "digits": ["007", "1e5"],
            "at": pd.to_datetime(["2026-01-01 12:00", None]).tz_localize("Europe/Berlin"),
            "old": [dt.date(1700, 1, 2), dt.date(2026, 1, 2)],
            "tags": [["a"], {"b": 1}],
            "share": [0.5, None],
            0: [True, False],
        },
        index=pd.Index(["x", "y"], name="key"),
    )
    df = pn.run_parallel(lambda text: text, table, **QUIET)
    path = df.parallel.to_excel(tmp_path / "o.xlsx")
    assert path == tmp_path / "o.xlsx"
    book = openpyxl.load_workbook(path)
    header, *rows = book["rows"].iter_rows()
    names = [cell.value for cell in header]
    first, second = (dict(zip(names, row, strict=True)) for row in rows)
    assert (first["key"].value, second["key"].value) == ("x", "y")
    assert (first["text"].value, first["text"].data_type) == ("=1+1", "s"), "no formula"
    assert second["text"].hyperlink is None
    assert first["id"].value == "1234567890123456789"
    assert (first["digits"].value, second["digits"].value) == ("007", "1e5")
    assert first["at"].value == dt.datetime(2026, 1, 1, 11), "UTC"
    assert (first["old"].value, second["old"].value) == ("1700-01-02", dt.datetime(2026, 1, 2))
    assert (first["tags"].value, second["tags"].value) == ('["a"]', '{"b":1}')
    assert (first["share"].value, second["share"].value) == (0.5, None)
    assert first["0"].value is True
    assert isinstance(first["started_at"].value, dt.datetime)
    about = {row[0].value: row[1].value for row in book["run"].iter_rows()}
    assert about["module"] == "<lambda>"


def test_what_a_sheet_cannot_hold_is_refused_with_the_remedy(tmp_path: Path) -> None:
    df = pn.run_parallel(lambda n: "x" * n, {"n": [1, 40_000]}, **QUIET)
    with pytest.raises(ValueError, match=r"column 'output' of row 1 has 40,000: use to_parquet"):
        df.parallel.to_excel(tmp_path / "o.xlsx")
    assert not (tmp_path / "o.xlsx").exists()
