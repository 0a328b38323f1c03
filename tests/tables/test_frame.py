"""Any value makes a frame."""

from __future__ import annotations

import datetime as dt
from typing import Any

import numpy as np
import pytest
from support.scripted_server import ScriptedServer
from support.text_type import TEXT

import pardspy_nb as pn
from pardspy_nb.tables.column_types import utc_times

QUIET: dict[str, Any] = {"progress": "none", "store": None}


@pytest.mark.parametrize("value", [2**70, "half a pair \ud800", {"a": [1]}, b"x", 1.5], ids=repr)
def test_any_value_makes_a_frame(value: Any) -> None:
    df = pn.run_parallel(lambda i: {"out": i}, {"i": [value, value]}, **QUIET)
    assert list(df["status"]) == ["ok", "ok"]
    assert str(df["out"][0]).encode()


def test_an_integer_too_large_for_its_column_is_kept(server: ScriptedServer) -> None:
    class Big:
        async def complete(self, messages: Any, **more: Any) -> pn.Completion:
            return pn.Completion('{"b": 100000000000000000000}', pn.Usage(2**64, 1, 1), "m")

    df = pn.run_parallel(pn.Predict("a -> b: int", Big()), ["x"], **QUIET)
    assert df["b"][0] == 10**20
    assert df["prompt_tokens"].isna().all()  # no call has so many


def test_missing_text_is_missing() -> None:
    df = pn.run_parallel(lambda i: {"out": i or None, "no": None}, ["a", "é", ""], **QUIET)
    assert [str(df[name].dtype) for name in ("out", "model", "error")] == [TEXT] * 3
    assert df["out"].tolist()[:2] == ["a", "é"]
    assert df["out"].isna().tolist() == [False, False, True]
    assert df["error"].isna().all()


@pytest.mark.parametrize("zone", [None, dt.UTC, dt.timezone(dt.timedelta(hours=2))])
@pytest.mark.parametrize("year", [1, 1970, 9999])
def test_times_of_any_year_are_times(year: int, zone: Any) -> None:
    """pandas' nanoseconds end in 2262."""
    at = dt.datetime(year, 6, 1, 12, 0, 0, 1, tzinfo=zone)
    df = pn.run_parallel(lambda i: {"at": at if i else None}, [1, 0], **QUIET)
    assert str(df["at"].dtype).startswith("datetime64[us")
    assert df["at"][0] == at
    assert df["at"].isna().tolist() == [False, True]


def test_times_of_rows_that_did_not_start_are_missing() -> None:
    seconds = np.array([np.nan, 0.0, 1_700_000_000.000001, np.nan])
    with np.errstate(all="raise"):
        times = utc_times(seconds)
    assert str(times.dtype) == "datetime64[us, UTC]"
    assert times.isna().tolist() == [True, False, False, True]
    assert times[1:3].asi8.tolist() == [0, 1_700_000_000_000_001]
