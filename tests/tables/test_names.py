"""A user's column is never overwritten."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.text_type import TEXT

import pardspy_nb as pn

QUIET: Any = {"store": None, "progress": "none"}


def lower(text: str) -> dict[str, str]:
    if text == "BAD":
        raise ValueError(text)
    return {"text": text.lower()}


def as_file(module: Any, source: Any, tmp_path: Path, **more: Any) -> pd.DataFrame:
    pn.run_to_parquet(module, source, tmp_path / "o.parquet", max_failures=None, **more, **QUIET)
    return pd.read_parquet(tmp_path / "o.parquet")


ROWS = {"text": ["A", "BAD", "C"]}


def test_an_output_named_like_an_input_gets_another_name_by_every_way(tmp_path: Path) -> None:
    program = pn.Program([lower, lambda text: {"n": len(text)}])
    pairs = [(lower, {"text": text}) for text in ROWS["text"]]
    made = {
        "frame": pn.run_parallel(lower, pd.DataFrame(ROWS), max_failures=None, **QUIET),
        "dict": pn.run_parallel(lower, ROWS, max_failures=None, **QUIET),
        "program": pn.run_parallel(program, ROWS, max_failures=None, **QUIET),
        "pairs": pn.run_parallel(pairs, max_failures=None, **QUIET),
        "file": as_file(lower, pd.DataFrame(ROWS), tmp_path),
        "stream": as_file(lower, iter([{"text": t} for t in ROWS["text"]]), tmp_path),
    }
    for way, df in made.items():
        assert list(df["text"]) == ROWS["text"], way
        assert df["run_text"].tolist()[::2] == ["a", "c"], way
        assert pd.isna(df["run_text"].iloc[1]), way
        assert df.attrs["pardspy"]["renamed"]["text"] == "run_text", way
    with pytest.raises(ValueError, match="same column 'text'; the run's own answers"):
        pn.evaluate(made["frame"], truth="text", pred="text")


def test_inputs_and_columns_named_like_ours_stay(tmp_path: Path) -> None:
    table = pd.DataFrame({"status": ["x", "y"], "model": ["m1", "m2"], "sample": [5, 6]})

    def join(status: str, model: str, sample: int) -> str:
        return f"{status}{model}{sample}"

    ways = {
        "frame": pn.run_parallel(join, table, **QUIET),
        "dict": pn.run_parallel(join, table.to_dict("list"), **QUIET),
        "repeat": pn.run_parallel(join, table, repeat=2, **QUIET).iloc[::2],
        "file": as_file(join, table, tmp_path),
    }
    for way, df in ways.items():
        for name in table:
            assert list(df[name]) == list(table[name]), way
        assert list(df["output"]) == ["xm15", "ym26"], way
        assert list(df["run_status"]) == ["ok", "ok"], way
        metrics = df.parallel.metrics
        assert (metrics.total, metrics.failures) == (len(df) if way != "repeat" else 2, 0)
    df = ways["frame"]
    assert len(df.parallel.failures) == 0
    assert "run_status" in repr(df.parallel.summary()) or df.parallel.summary()
    df.parallel.plot_latency()
    df.parallel.plot_timeline()


def test_a_result_is_the_table_of_the_next_step_and_of_the_one_after(tmp_path: Path) -> None:
    def step(text: str) -> str:
        if text == "BAD" and not fixed:
            raise ValueError("bad")
        return text.lower()

    fixed = False
    first = pn.run_parallel(step, pd.DataFrame(ROWS), max_failures=None, **QUIET)
    second = pn.run_parallel(step, first, max_failures=None, **QUIET)
    third = pn.run_parallel(step, second, max_failures=None, **QUIET)
    assert [n for n in third if n.endswith("status")] == ["status", "run_status", "run2_status"]
    pd.testing.assert_frame_equal(third[list(first.columns)], first, check_flags=False)
    assert third.parallel.metrics.failures == 1
    path = third.parallel.to_parquet(tmp_path / "third.parquet")
    back = pd.read_parquet(path)
    assert back.parallel.metrics == third.parallel.metrics
    fixed = True
    back.parallel.retry_failed(step)
    assert list(back["run2_status"]) == ["ok"] * 3
    assert list(back["status"]) == ["ok", "failed", "ok"]
    assert back["run2_output"].tolist() == ["a", "bad", "c"]
    bare = third.copy()
    bare.attrs = {}
    assert bare.parallel.metrics.failures == 1, "found again without attrs"


def test_columns_of_any_name_feed_inputs_and_come_back_as_they_were(tmp_path: Path) -> None:
    table = pd.DataFrame({0: ["A", "B"], ("x", 1): ["C", "D"]})
    for name in table.columns:
        df = pn.run_parallel(lower, table, columns={"text": name}, **QUIET)
        assert list(df.columns[:2]) == [0, ("x", 1)]
        assert list(df["text"]) == [t.lower() for t in table[name]]
        filed = as_file(lower, table, tmp_path, columns={"text": name})
        assert list(filed["text"]) == [t.lower() for t in table[name]]


def test_a_mapped_column_is_the_only_one_and_retry_reads_it() -> None:
    def strict(review: str) -> str:
        if review == "BAD":
            raise ValueError("bad")
        return review.lower()

    df = pn.run_parallel(
        strict, pd.DataFrame(ROWS), columns={"review": "text"}, max_failures=None, **QUIET
    )
    assert "review" not in df
    df.loc[1, "text"] = "Mended"
    df.parallel.retry_failed()
    assert list(df["output"]) == ["a", "mended", "c"]


def test_what_was_set_by_hand_stays_and_says_so() -> None:
    asked: list[str] = []

    def classify(text: str) -> dict[str, Any]:
        asked.append(text)
        if len(asked) <= 4:
            raise ValueError("not yet")
        return {"label": "by the model", "why": "because"}

    df = pn.run_parallel(
        classify, {"text": list("abcd")}, max_failures=None, max_workers=1, **QUIET
    )
    df["label"] = pd.array([None, "mine", "mine", None], dtype=TEXT)
    df["why"] = pd.array([None, None, "mine, too", None], dtype=TEXT)
    df.attrs["pardspy"]["outputs"] = ["label", "why"]
    df.parallel.retry_failed()
    assert sorted(asked[4:]) == ["a", "b", "d"], "all of row c was set by hand"
    assert list(df["label"]) == ["by the model", "mine", "mine", "by the model"]
    assert list(df["why"]) == ["because", "because", "mine, too", "because"]
    assert df["repaired"].tolist()[1:3] == ["by hand: label", "by hand: label, why"]
    assert df["repaired"].isna().tolist() == [True, False, False, True]


def test_a_vote_does_not_write_over_a_column(predict: pn.Predict) -> None:
    table = pd.DataFrame({"review": ["row-1", "row-2"], "votes": ["mine", "too"]})
    voted = pn.run_parallel(predict, table, repeat=2, **QUIET).parallel.vote("sentiment")
    assert list(voted["votes"]) == ["mine", "too"]
    assert list(voted["run_votes"]) == [2, 2]


def test_an_output_with_another_name_is_told(predict: pn.Predict) -> None:
    table = pd.DataFrame({"review": ["row-1"], "sentiment": ["mine"]})
    with pytest.warns(UserWarning, match=r"\['sentiment'\] already.*\['run_sentiment'\]"):
        df = pn.run_parallel(predict, table, **QUIET)
    assert df["sentiment"].tolist() == ["mine"]
    assert "run_sentiment" in repr(df.parallel.summary())
    assert list(pn.evaluate(df, truth=["neutral"]).confusion.index)[:1] == ["positive"]


def test_names_do_not_depend_on_how_often_one_has_looked() -> None:
    def rows() -> Iterator[dict[str, Any]]:
        yield {"text": "a"}
        assert looked.wait(20)
        yield {"text": "b", "extra": "mine"}

    def answer(**row: Any) -> dict[str, Any]:
        return {"extra": len(row)}

    looked = threading.Event()
    run = pn.start_parallel(answer, rows(), **QUIET)
    while not len(run.df):
        time.sleep(0.01)
    looked.set()
    df = run.result()
    assert df["extra"].tolist()[1] == "mine"
    assert list(df["run_extra"]) == [1, 2]
