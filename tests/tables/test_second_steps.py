"""Second steps, retries and ways out of results, as a second review found them."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

import pandas as pd
import polars as pl
import pytest
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn

QUIET: Any = {"store": None, "progress": "none"}


@pytest.fixture
def label(lm: pn.LM) -> pn.Predict:
    signature = (
        pn.Signature("S").add_input("text").add_class_output("sentiment", ["positive", "negative"])
    )
    return pn.Predict(signature, lm)


def fail(server: ScriptedServer, *markers: int) -> None:
    server.script = lambda marker, attempt: (
        Reply("status", code=400, message="bad")
        if marker in markers
        else Reply(content=json.dumps({"sentiment": ["positive", "negative"][marker % 2]}))
    )


def two_steps(server: ScriptedServer, label: pn.Predict) -> pd.DataFrame:
    table = pd.DataFrame({"text": ["row-0", "row-1", "row-2"]})
    fail(server, 1)
    first = pn.run_parallel(label, table, max_failures=None, **QUIET)
    fail(server, 1, 2)
    second: pd.DataFrame = pn.run_parallel(label, first, max_failures=None, **QUIET)
    fail(server)
    return second


@pytest.mark.filterwarnings("ignore:the table has columns")
@pytest.mark.parametrize("lose", ["csv", "merge", "clear"])
def test_a_retry_of_a_second_step_whose_attrs_were_lost(
    server: ScriptedServer, label: pn.Predict, lose: str, tmp_path: Path
) -> None:
    df = two_steps(server, label)
    before = df["sentiment"].astype(object).tolist()
    if lose == "csv":
        df = pd.read_csv(df.parallel.to_csv(tmp_path / "z.csv"))
    elif lose == "merge":
        df = df.merge(pd.DataFrame({"text": ["row-0", "row-1", "row-2"], "more": [1, 2, 3]}))
        df.attrs = {}
    else:
        df.attrs = {}
    df.parallel.retry_failed(label, **QUIET)
    assert list(df["run_sentiment"]) == ["positive", "negative", "positive"]
    assert list(df["run_status"]) == ["ok"] * 3
    assert [None if pd.isna(v) else v for v in df["sentiment"]] == [
        None if pd.isna(v) else v for v in before
    ]
    assert df["run_repaired"].isna().all()


@pytest.mark.filterwarnings("ignore:the table has columns")
def test_rows_of_several_runs_are_not_counted_as_one(
    server: ScriptedServer, label: pn.Predict
) -> None:
    second = two_steps(server, label)
    first = second[[c for c in second if not str(c).startswith("run_")]].copy()
    first.attrs = {}
    with pytest.raises(ValueError, match="rows of several runs"):
        pd.concat([first, second]).parallel.metrics  # noqa: B018
    added = pd.concat([first, pd.DataFrame({"text": ["new"]})], ignore_index=True)
    assert (added.parallel.metrics.not_run, len(added.parallel.failures)) == (1, 2)


@pytest.mark.parametrize(
    "data",
    [
        [{"x": (i for i in range(3))}],
        [{"x": [map(str, [1])]}],
        pd.DataFrame({"x": pd.Series([iter([1])], dtype=object)}),
        {"x": [{"a": {1: 2}.values()}]},
        iter([{"x": iter([1])}]),
    ],
)
def test_what_only_the_first_attempt_could_read_is_refused(data: Any) -> None:
    with pytest.raises((TypeError, pn.ParallelError), match=r"'x' of row 0 holds .*once"):
        pn.run_parallel(lambda x: 1, data, **QUIET)


@pytest.mark.parametrize(
    "value",
    [
        lambda: {"inner": map(str, [1])},
        lambda: [iter([1])],
        lambda: {1: 2}.values(),
        lambda: (c for c in "a"),
    ],
)
def test_what_only_the_first_way_out_could_read_is_refused(value: Any) -> None:
    for module in (lambda i: {"g": value()}, lambda i: pn.Prediction({"g": value()})):
        df = pn.run_parallel(module, {"i": [1]}, max_failures=None, **QUIET)
        assert "can be read only once" in df["error"][0]


def test_a_prediction_that_a_module_keeps_and_changes() -> None:
    kept: list[str] = []

    def growing(text: str) -> pn.Prediction:
        kept.append(text)
        threading.Timer(0.01, kept.append, ["late"]).cancel()
        return pn.Prediction({"v": kept})

    df = pn.run_parallel(growing, list("abc"), max_workers=1, **QUIET)
    kept.append("late")
    assert df["v"].tolist() == [["a"], ["a", "b"], ["a", "b", "c"]]


def test_blank_rows_of_pairs_of_several_modules(
    server: ScriptedServer, label: pn.Predict, lm: pn.LM
) -> None:
    fail(server)
    other = pn.Predict(
        pn.Signature("S").add_input("q").add_class_output("sentiment", ["positive", "negative"]), lm
    )
    pairs = [
        (label, {"text": "row-0"}),
        (label, {"text": " "}),
        (other, {"q": "row-1"}),
        (other, {"q": None}),
    ]
    df = pn.run_parallel(pairs, **QUIET)
    assert list(df["status"]) == ["ok", "skipped", "ok", "skipped"]
    assert len(server.requests) == 2


def test_remembered_rows_have_the_time_of_then(
    server: ScriptedServer, label: pn.Predict, fast_retries: None
) -> None:
    server.script = lambda marker, attempt: (
        Reply("status", code=500) if attempt < 2 else Reply(content='{"sentiment": "positive"}')
    )
    first = pn.run_parallel(label, ["row-9", "row-9"], progress="none")
    time.sleep(0.02)
    again = pn.run_parallel(label, ["row-9"], progress="none")
    times = {*first["started_at"], *again["started_at"]}
    assert len({t.floor("ms") for t in times}) == 1, times
    assert {*first["attempts"], *again["attempts"]} == {2}


def test_skipped_rows_do_not_count_in_a_comparison(
    server: ScriptedServer, label: pn.Predict
) -> None:
    fail(server)
    table = pd.DataFrame(
        {"text": ["row-0", "row-1", None], "lab": ["positive", "negative", "positive"]}
    )
    other = pn.Predict(label.signature, label.lm, instructions="Z")
    for truth in ("lab", table["lab"], table["lab"].tolist()):
        made = pn.compare({"a": label, "b": other}, table, truth=truth, **QUIET)
        assert list(made["accuracy"]) == [1.0, 1.0]
        assert list(made["skipped"]) == [1, 1]


def test_an_arrow_table_brings_its_index_back() -> None:
    table = pd.DataFrame({"text": list("ab")}, index=[5, 9])
    for index in (table.index, table.index.rename("key")):
        named = table.set_axis(index)
        made = pn.run_parallel(lambda text: text, named, result="pyarrow", **QUIET)
        assert list(made.to_pandas().index) == [5, 9]
        assert made.to_pandas().index.name == index.name


def test_truth_in_a_column_whose_name_is_a_number(
    server: ScriptedServer, label: pn.Predict
) -> None:
    fail(server)
    table = pd.DataFrame({2020: ["row-0", "row-1"], 2021: ["positive", "negative"]})
    df = pn.run_parallel(label, table, columns={"text": 2020}, truth=2021, **QUIET)
    assert df.parallel.metrics.accuracy == {"sentiment": 1.0}
    assert pn.evaluate(df, truth=2021).accuracy == 1.0


def test_frames_that_are_no_results_or_lack_inputs_are_refused(
    server: ScriptedServer, label: pn.Predict
) -> None:
    product = pd.DataFrame({"text": ["a"], "status": ["failed"]})
    for use in ("metrics", "failures"):
        with pytest.raises(ValueError, match="not the result of a run"):
            getattr(product.parallel, use)
    fail(server, 0)
    df = pn.run_parallel(label, ["row-0"], max_failures=None, **QUIET)
    with pytest.raises(ValueError, match=r"no column for \['text'\]; it has \['words', "):
        df.rename(columns={"text": "words"}).parallel.retry_failed(label, **QUIET)


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("https://a.b/c.csv", r"is a URL.*pd\.read_csv"),
        ("", "the path is empty"),
        ("a.xlsx", r"pd\.read_excel"),
        ("a.csv.gz", r"pd\.read_csv\(path, dtype=str\)"),
        ("a.tsv", r"sep='\\t'"),
        ("a.json", r"pd\.read_json"),
        ("packed.csv", "compressed"),
        ("semicolons.csv", "separated by ';'"),
        ("empty.jsonl", "it is empty"),
    ],
)
def test_files_that_cannot_be_read_are_refused_with_the_way(
    path: str, words: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("packed.csv").write_bytes(b"\x1f\x8b\x08 rest")
    Path("semicolons.csv").write_text("text;n\na;1\n")
    Path("empty.jsonl").write_text("")
    with pytest.raises(ValueError, match=words):
        pn.run_parallel(lambda text: text, path, **QUIET)


def test_targets_of_another_kind_are_refused(tmp_path: Path) -> None:
    df = pn.run_parallel(lambda text: text, ["a"], **QUIET)
    with pytest.raises(ValueError, match=r"ends in \.csv, and this writes \.xlsx: use to_csv"):
        df.parallel.to_excel(tmp_path / "x.csv")
    with pytest.raises(ValueError, match="is a folder"):
        df.parallel.to_csv(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        df.parallel.to_jsonl(tmp_path / "no" / "x.jsonl")
    with pytest.raises(TypeError, match=r"data\.collect\(\)"):
        pn.run_parallel(lambda text: text, pl.LazyFrame({"text": ["a"]}), **QUIET)
    asked: list[str] = []

    def ask(text: str) -> None:
        asked.append(text)

    twice = pd.DataFrame([["a", "b"]], columns=[0, "0"])
    with pytest.raises(ValueError, match="same name as text"):
        pn.run_parallel(ask, twice, columns={"text": 0}, result="polars", **QUIET)
    assert asked == []


@pytest.mark.slow
def test_plots_of_many_and_of_odd_labels(tmp_path: Path) -> None:
    names = [f"$label_{i}^\\foo$ {'x' * 80}" for i in range(60)]
    df = pn.run_parallel(lambda i: {"label": names[i], "true": names[i]}, {"i": range(60)}, **QUIET)
    ax = df.parallel.plot_counts("label")
    ax.figure.savefig(tmp_path / "a.png")
    names_shown = [label.get_text() for label in ax.get_yticklabels()]
    assert len(names_shown) == 21
    assert names_shown[-1] == "(40 others)"
    few = pn.run_parallel(lambda i: {"label": f"${i}-$9"}, {"i": range(3)}, **QUIET)
    bars = few.parallel.plot_counts("label")
    bars.figure.savefig(tmp_path / "b.png")
    assert [t.get_text() for t in bars.get_xticklabels()] == ["$0-$9", "$1-$9", "$2-$9"]
    began = time.process_time()
    pn.plot_confusion(df, "true", "label").figure.savefig(tmp_path / "c.png")
    assert time.process_time() - began < 20
