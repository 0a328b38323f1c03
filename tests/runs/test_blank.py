"""Rows whose required input is missing or blank are not asked, and keep their place."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from support.scripted_server import ScriptedServer

import pardspy_nb as pn

QUIET: Any = {"store": None, "progress": "none"}
BLANK = [None, np.nan, pd.NA, "", " \n\t"]


def test_blank_rows_are_skipped_and_counted(predict: pn.Predict, server: ScriptedServer) -> None:
    df = pn.run_parallel(predict, {"review": ["row-1", *BLANK, "row-2"]}, **QUIET)
    assert list(df["status"]) == ["ok", *["skipped"] * 5, "ok"]
    assert server.attempts.total() == 2
    metrics = df.parallel.metrics
    assert (metrics.successes, metrics.failures, metrics.skipped) == (2, 0, 5)
    assert ("skipped (blank)", "5") in df.parallel.summary().figures
    assert len(df.parallel.failures) == 0
    assert df["sentiment"].isna().tolist() == [False, *[True] * 5, False]


@pytest.mark.parametrize(
    "data",
    [
        [{"review": "row-1"}, {"review": " "}, {"review": None}],
        {"_batch": [{"review": "row-1"}, {"review": ""}, {"review": np.nan}]},
        pd.DataFrame({"review": ["row-1", "", None]}),
        pd.Series(["row-1", "", None]),
        iter([{"review": "row-1"}, {"review": ""}, {"review": None}]),
    ],
    ids=lambda d: type(d).__name__,
)
def test_by_every_way_in(predict: pn.Predict, data: Any) -> None:
    df = pn.run_parallel(predict, data, repeat=2, **QUIET)
    assert list(df["status"]) == ["ok"] * 2 + ["skipped"] * 4


def test_in_files_samples_and_retries(
    predict: pn.Predict, server: ScriptedServer, tmp_path: Path
) -> None:
    table = pd.DataFrame({"review": ["row-1", "", "row-2"]})
    pn.run_to_parquet(predict, table, tmp_path / "o.parquet", **QUIET)
    df = pd.read_parquet(tmp_path / "o.parquet")
    assert list(df["status"]) == ["ok", "skipped", "ok"]
    decided = pn.run_parallel(predict, table, repeat="until decided", **QUIET)
    assert (decided["status"] == "skipped").sum() == 3, "and no further samples"
    df.parallel.retry_failed(predict)
    assert list(df["status"]) == ["ok", "skipped", "ok"]
    df.loc[1, "review"] = "row-5"
    df.parallel.retry_failed(predict)
    assert list(df["status"]) == ["ok"] * 3


def test_they_are_asked_if_wanted_and_all_blank_is_an_error(
    predict: pn.Predict, server: ScriptedServer, tmp_path: Path
) -> None:
    df = pn.run_parallel(predict, {"review": ["", "row-1"]}, blank="ask", **QUIET)
    assert list(df["status"]) == ["ok", "ok"]
    for data in ({"review": BLANK}, [{"review": ""}], pd.DataFrame({"review": [None, None]})):
        with pytest.raises(ValueError, match=r"every row has a required input .*blank='ask'"):
            pn.run_parallel(predict, data, **QUIET)
    asked = server.attempts.total()
    with pytest.raises(pn.ParallelError, match=r"every row has .*nothing was asked"):
        pn.run_parallel(predict, iter([{"review": ""}]), **QUIET)
    with pytest.raises(pn.ParallelError, match="nothing was asked"):
        pn.run_to_parquet(predict, pd.DataFrame({"review": [""]}), tmp_path / "o.parquet", **QUIET)
    with pytest.raises(ValueError, match="'skip' or 'ask'"):
        pn.run_parallel(predict, ["a"], blank="drop", **QUIET)
    assert server.attempts.total() == asked


def test_a_default_of_a_parameter_holds_where_the_value_is_missing() -> None:
    fails = True

    def say(text: str, lang: str = "en") -> str:
        if fails and text == "b":
            raise ValueError("not yet")
        return f"{lang}:{text}"

    rows = [{"text": "a", "lang": "de"}, {"text": "b"}, {"text": "c", "lang": np.nan}]
    df = pn.run_parallel(say, rows, max_failures=None, **QUIET)
    fails = False
    df.parallel.retry_failed()
    assert list(df["output"]) == ["de:a", "en:b", "en:c"]
    again = pn.run_parallel(say, df[["text", "lang"]], **QUIET)
    assert list(again["output"]) == ["de:a", "en:b", "en:c"]


def test_a_function_of_any_name_keeps_its_inputs_also_over_an_iterator() -> None:
    def names(**row: Any) -> str:
        return ",".join(row)

    rows = [{"a": 1}, {"a": 2, "b": 3}]
    for data in (rows, iter(rows)):
        df = pn.run_parallel(names, data, **QUIET)
        assert list(df.columns[:3]) == ["a", "b", "output"]
        assert list(df["output"]) == ["a", "a,b"]
        assert df["b"].tolist()[1] == 3


def test_estimates_and_previews_leave_blank_rows_out(predict: pn.Predict) -> None:
    reviews = ["", *[f"row-{i}" for i in range(6)]]
    assert pn.estimate(predict, reviews, sample=3, store=None).rows == 6
    assert len(pn.preview(predict, reviews, n=9).requests) == 6
