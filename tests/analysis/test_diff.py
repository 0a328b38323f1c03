"""Rows whose answer changed between two frames."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn

QUIET: dict[str, Any] = {"progress": "none"}


def test_diff_tells_the_rows_whose_answer_changed(
    signature: pn.Signature, server: ScriptedServer, reviews: list[str]
) -> None:
    def run(model: str, script: Any) -> pd.DataFrame:
        server.script = script
        frame: pd.DataFrame = pn.run_parallel(
            pn.Predict(signature, pn.LM(model, base_url=server.url)),
            reviews,
            max_failures=None,
            **QUIET,
        )
        return frame

    def other(marker: int, attempt: int) -> Reply:
        if marker == 4:
            return Reply("status", code=400)
        return Reply(label=2 if marker in (0, 6) else None)

    before = run("gpt-4o-mini", lambda marker, attempt: Reply())
    after = run("gpt-4o", other)
    changed = pn.diff(before, after)
    assert changed.index.tolist() == [0, 4, 6]
    assert changed["review"].tolist() == [reviews[0], reviews[4], reviews[6]]
    assert changed["sentiment_before"].tolist() == ["positive", "neutral", "positive"]
    assert changed["sentiment_after"].isna().tolist() == [False, True, False]
    assert changed.loc[0, "sentiment_after"] == "negative"
    assert changed.loc[4, "status_after"] == "failed"
    expected = 11 * (2.5 - 0.15) / 1e6 + 7 * (10 - 0.6) / 1e6
    assert changed.loc[0, "cost_usd_change"] == pytest.approx(expected)
    assert changed.loc[0, "latency_ms_change"] == pytest.approx(
        after.loc[0, "latency_ms"] - before.loc[0, "latency_ms"]
    )
    about = changed.attrs["pardspy_diff"]
    assert about["rows"] == 12
    assert about["changed"] == {"sentiment": 3, "reason": 1, "status": 1}
    assert about["cost_usd"] == pytest.approx([before["cost_usd"].sum(), after["cost_usd"].sum()])
    assert about["p50_latency_ms"][0] == pytest.approx(statistics.median(before["latency_ms"]))
    assert pn.diff(before, after, columns=["reason"]).index.tolist() == [4]
    assert len(pn.diff(before, before)) == 0


def test_diff_matches_rows_by_index_and_sample(predict: pn.Predict, reviews: list[str]) -> None:
    before = pn.run_parallel(predict, reviews, repeat=2, **QUIET)
    assert len(pn.diff(before, before.sample(frac=1, random_state=0))) == 0
    less = pn.diff(before, before[before.index != 3])
    assert less.index.tolist() == [(3, 0), (3, 1)]
    assert less["status_after"].isna().all()
    assert less["review"].tolist() == [reviews[3]] * 2


def test_two_missing_values_are_no_difference(predict: pn.Predict, reviews: list[str]) -> None:
    before = pn.run_parallel(predict, reviews[:2], **QUIET)
    after = before.copy()
    before["note"] = pd.Series([None, "x"], dtype=object)
    after["note"] = pd.Series([float("nan"), "y"], dtype=object)
    assert pn.diff(before, after, columns=["note"]).index.tolist() == [1]


def test_diff_refuses_what_it_cannot_match(predict: pn.Predict, reviews: list[str]) -> None:
    df = pn.run_parallel(predict, reviews, **QUIET)
    with pytest.raises(ValueError, match="not unique"):
        pn.diff(df, pd.concat([df, df]))
    with pytest.raises(ValueError, match="not the result"):
        pn.diff(df, df[["review"]])
    with pytest.raises(ValueError, match="mood"):
        pn.diff(df, df, columns=["mood"])


def test_diff_of_lists_other_types_and_other_categories(tmp_path: Path) -> None:
    def function(x: int) -> dict[str, Any]:
        return {"tags": [["a"], ["b", str(x)]], "n": x}

    table = pd.DataFrame({"x": [1, 2], "kind": pd.Categorical(["p", "q"])})
    df = pn.run_parallel(function, table, **QUIET)
    df.to_parquet(tmp_path / "df.parquet")
    assert len(pn.diff(df, pd.read_parquet(tmp_path / "df.parquet"), columns=["n"])) == 0
    assert len(pn.diff(df, pd.read_parquet(tmp_path / "df.parquet"), columns=["tags"])) == 0
    df.to_csv(tmp_path / "df.csv")
    assert len(pn.diff(df, pd.read_csv(tmp_path / "df.csv", index_col=0), columns=["n"])) == 0
    other = pn.run_parallel(
        function, pd.DataFrame({"x": [1, 5, 6], "kind": ["p", "r", "s"]}), **QUIET
    )
    changed = pn.diff(df, other, columns=["n"])
    assert changed.index.tolist() == [1, 2]
    assert changed["kind"].tolist() == ["q", "s"]


def test_diff_with_and_without_samples_is_refused(predict: pn.Predict) -> None:
    one = pn.run_parallel(predict, ["row-1"], **QUIET)
    two = pn.run_parallel(predict, ["row-1"], repeat=2, **QUIET)
    with pytest.raises(ValueError, match="samples"):
        pn.diff(one, two)
