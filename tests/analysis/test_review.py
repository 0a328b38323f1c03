"""Review: what a human decides is kept, found again, counted, and used."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn

QUIET: dict[str, Any] = {"progress": "none"}
LABELS = ["positive", "neutral", "negative"]


@pytest.fixture
def df(predict: pn.Predict, store_path: Path) -> pd.DataFrame:
    rows = pd.DataFrame({"review": [f"row-{i}" for i in range(60)]}, index=range(100, 160))
    rows["product"] = ["a", "b", "c"] * 20
    return pn.run_parallel(predict, rows, **QUIET)


def test_a_decision_is_kept_at_once_and_found_by_the_rows_inputs(
    df: pd.DataFrame, predict: pn.Predict
) -> None:
    review = df.parallel.review("sentiment", n=10, reviewer="ann")
    assert review.rows.index.isin(df.index).all()
    assert len(review.rows) == 10
    label = review.rows.index[0]
    assert review.rows["model's sentiment"].isna().all(), "hidden until decided"
    review.decide(label, "Negative", note="ironic")
    assert review.rows.loc[label, "decision"] == "negative"
    assert review.rows.loc[label, "model's sentiment"] == df.loc[label, "sentiment"]
    assert review.progress == (1, 10)
    # another order, another frame, later: the same rows are picked, and what was decided is known
    again = pn.run_parallel(predict, df[["review"]].sample(frac=1, random_state=1), **QUIET)
    found = again.parallel.review("sentiment", n=10, reviewer="ann")
    assert set(found.rows.index) == set(review.rows.index)
    assert found.rows.loc[label, "note"] == "ironic"
    assert found.rows["decision"].notna().sum() == 1


def test_a_killed_process_loses_no_decision(df: pd.DataFrame, tmp_path: Path) -> None:
    df.parallel.to_parquet(tmp_path / "result.parquet")
    code = """
import os, sys, pandas as pd, pardspy_nb
review = pd.read_parquet(sys.argv[1]).parallel.review("sentiment", n=5, reviewer="ann")
for label in review.rows.index[:3]:
    review.decide(label, "positive")
os.kill(os.getpid(), 9)
"""
    subprocess.run([sys.executable, "-c", code, str(tmp_path / "result.parquet")], check=False)
    review = df.parallel.review("sentiment", n=5, reviewer="ann")
    assert review.progress == (3, 5)
    path = review._decisions.path
    with path.open("a") as file:
        file.write('{"row": "half a li')  # of a process that was killed while it wrote
    review.decide(review.rows.index[3], "neutral")
    assert review.progress == (4, 5)


def test_two_reviewers_and_their_conflicts(df: pd.DataFrame) -> None:
    ann = df.parallel.review("sentiment", n=4, reviewer="ann")
    bob = df.parallel.review("sentiment", n=4, reviewer="bob")
    one, two, three, _ = ann.rows.index
    for label, by_ann, by_bob in ((one, "positive", "positive"), (two, "negative", "neutral")):
        ann.decide(label, by_ann)
        bob.decide(label, by_bob)
    ann.decide(three, "negative")
    assert ann.agreement["ann, bob"] == {
        "rows": 2,
        "agreement": 0.5,
        "kappa": pytest.approx(1 / 3),  # by chance a quarter would agree
    }
    assert list(ann.conflicts.index) == [two]
    assert list(ann.conflicts.columns) == ["ann", "bob"]
    fixed = df.parallel.corrected("sentiment")
    assert fixed.loc[one, "sentiment_by"] == "ann and bob"
    assert fixed.loc[two, "sentiment_by"] == "in conflict"
    assert fixed.loc[two, "sentiment"] == df.loc[two, "sentiment"]
    assert (fixed.loc[three, "sentiment"], fixed.loc[three, "sentiment_by"]) == ("negative", "ann")
    assert fixed["sentiment"].dtype == df["sentiment"].dtype
    assert (fixed["sentiment_by"] == "model").sum() == 57
    bob.decide(two, None)  # taken back
    assert not len(ann.conflicts)


def test_corrections_survive_a_retry(
    predict: pn.Predict, server: ScriptedServer, store_path: Path
) -> None:
    server.script = lambda row, attempt: Reply("status", code=400) if row == 3 else Reply()
    df = pn.run_parallel(predict, [f"row-{i}" for i in range(8)], max_failures=None, **QUIET)
    df.parallel.review("sentiment", n=8).decide(5, "neutral")
    server.script = lambda row, attempt: Reply()
    df.parallel.retry_failed(**QUIET)
    assert (df["status"] == "ok").all()
    assert df.parallel.corrected("sentiment").loc[5, "sentiment"] == "neutral"


def test_what_cannot_be_decided_is_refused(df: pd.DataFrame, predict: pn.Predict) -> None:
    review = df.parallel.review("sentiment", n=5)
    with pytest.raises(ValueError, match="none of the labels"):
        review.decide(review.rows.index[0], "splendid")
    with pytest.raises(KeyError, match="no row has the label 7"):
        review.decide(7, "positive")
    with pytest.raises(ValueError, match=r"confidence=True"):
        df.parallel.review("sentiment", pick="uncertain")
    with pytest.raises(ValueError, match="no column 'mood'"):
        df.parallel.review("mood")
    with pytest.raises(ValueError, match="pick must be one of"):
        df.parallel.review("sentiment", pick="best")
    samples = pn.run_parallel(predict, ["row-1"], repeat=2, store=None, **QUIET)
    with pytest.raises(ValueError, match="several samples"):
        samples.parallel.review("sentiment")


def test_labels_that_differ_in_case_are_two(store_path: Path) -> None:
    def unit(text: str) -> dict[str, Any]:
        return {"unit": "mW"}

    df = pn.run_parallel(unit, ["a", "b"], **QUIET)
    df["unit"] = df["unit"].astype(pd.CategoricalDtype(["MW", "mW"]))
    df.attrs["pardspy"]["signature"]["labels"] = {"unit": ["MW", "mW"]}
    review = df.parallel.review("unit", n=2)
    review.decide(0, "mW")
    review.decide(1, "MW")
    assert df.parallel.corrected("unit")["unit"].tolist() == ["mW", "MW"]
    frame = pn.shares(df, "unit", truth=review).frame
    assert frame["label"].tolist() == ["MW", "mW"]


def test_decisions_become_examples_and_truth(df: pd.DataFrame, signature: pn.Signature) -> None:
    review = df.parallel.review("sentiment", n=6)
    wrong, *others = review.rows.index
    review.decide(wrong, next(v for v in LABELS if v != df.loc[wrong, "sentiment"]))
    for label in others:
        review.decide(label, df.loc[label, "sentiment"])
    lm = pn.LM("m", base_url="http://127.0.0.1:1/v1", api_key="none")
    # a reason is required, and the model's own goes with its own label only
    with pytest.warns(UserWarning, match=r"1 corrected rows make no example.*reason"):
        taught = pn.Predict(signature, lm).with_demos(review, n=4)
    assert len(taught.demos) == 4
    assert all(demo["reason"] for demo in taught.demos)
    alone = pn.Signature("Sort").add_input("review", str).add_class_output("sentiment", LABELS)
    first, *_ = pn.Predict(alone, lm).with_demos(review).demos
    assert first["review"] == df.loc[wrong, "review"], "what the model got wrong comes first"
    evaluation = pn.evaluate(df, truth=review)
    assert evaluation.figure("rows") == 6
    assert evaluation.accuracy == pytest.approx(5 / 6)


def test_shares_without_truth_say_what_is_missing(df: pd.DataFrame) -> None:
    found = pn.shares(df, by="product")
    assert set(found.frame["method"]) == {"wilson"}
    assert found.frame.groupby("group")["naive"].sum().to_numpy() == pytest.approx(1.0)
    assert "its errors are not in them" in repr(found)
    assert "its errors are not in them" in found._repr_html_()


@pytest.mark.parametrize("pick", ["random", "stratified"])
def test_shares_are_corrected_by_a_review(df: pd.DataFrame, pick: str) -> None:
    review = df.parallel.review("sentiment", n=30, pick=pick)
    for label in review.rows.index:
        review.decide(label, "negative" if label % 2 else df.loc[label, "sentiment"])
    found = pn.shares(df, "sentiment", truth=review).frame.set_index("label")
    assert (found["n_human"] == 30).all()
    assert found.loc["negative", "share"] > found.loc["negative", "naive"] + 0.15
    assert (found["low"] <= found["share"]).all()
    assert (found["share"] <= found["high"]).all()


def test_truth_of_some_rows_goes_by_its_index(df: pd.DataFrame) -> None:
    some = df["sentiment"].astype(str).sample(20, random_state=2)
    by_series = pn.shares(df, truth=some).frame
    by_column = pn.shares(df.assign(human=some), truth="human").frame
    pd.testing.assert_frame_equal(by_series, by_column)
    assert (by_series["n_human"] == 20).all()
    with pytest.raises(ValueError, match="no row in common"):
        pn.shares(df, truth=some.reset_index(drop=True))
    with pytest.raises(TypeError, match="goes by its index"):
        pn.shares(df, truth=list(some))


def test_shares_are_drawn(df: pd.DataFrame) -> None:
    ax = pn.plot_shares(pn.shares(df, by="product"))
    assert [t.get_text() for t in ax.get_yticklabels()] == LABELS
    assert len(ax.patches) == 9


def test_the_panel_decides_and_goes_on(df: pd.DataFrame) -> None:
    from pardspy_nb.display.review_panel import ReviewPanel

    review = df.parallel.review("sentiment", n=3, reviewer="ann")
    panel = ReviewPanel(review)
    first = df.iloc[review.places[0]]
    assert first["review"] in panel._text.value
    assert "the model's answer" not in panel._text.value
    panel._note.value = "clear"
    panel._buttons[2].click()
    assert review.decision_at(review.places[0]).value == "negative"
    assert review.decision_at(review.places[0]).note == "clear"
    assert f"The model: {first['sentiment']}" in panel._head.value
    panel._skip.click()
    panel._buttons[0].click()
    assert all(button.disabled for button in panel._buttons)
    assert review.progress == (2, 3)
    panel._back.click()
    assert "decided" in panel._text.value
    assert ReviewPanel(review)._state.at == 1, "a new panel goes on with the skipped row"


def of(rows: list[str], said: list[str], like: pd.DataFrame) -> pd.DataFrame:
    """A result of these texts and labels."""
    labels = pd.Categorical(said, categories=LABELS)
    made = pd.DataFrame({"review": rows, "sentiment": labels, "status": "ok"})
    made.attrs = like.attrs
    return made


def test_a_frame_without_its_inputs_is_refused(df: pd.DataFrame) -> None:
    for changed in (df.drop(columns="review"), df.rename(columns={"review": "text"})):
        with pytest.raises(ValueError, match=r"lacks its inputs \['review'\]"):
            changed.parallel.review("sentiment")


def test_equal_rows_do_not_crowd_a_sample(df: pd.DataFrame) -> None:
    texts = [f"template {i % 12}" for i in range(1200)]
    many = of(texts, ["positive"] * 1200, df)
    review = many.parallel.review("sentiment", n=60)
    assert many["review"].iloc[review.places].nunique() > 6


def test_decisions_of_another_pick_are_no_random_sample(df: pd.DataFrame) -> None:
    said = ["negative" if i % 10 == 0 else "positive" for i in range(1000)]
    big = of([f"text {i}" for i in range(1000)], said, df)
    even = big.parallel.review("sentiment", n=100, pick="stratified")
    for place in even.places:
        even.decide_at(place, said[place])
    share = pn.shares(big, truth=even).frame.set_index("label").loc["negative"]
    assert share["low"] < 0.1 < share["high"]
    other = big.parallel.review("sentiment", n=800, pick="random")
    assert other.sample()[0] == [], "nobody has decided any row of it"
    # of some of the rows the picks keep the probabilities that they had
    some = big[big.index % 3 == 0]
    part = pn.shares(some, truth=even).frame.set_index("label").loc["negative"]
    assert part["low"] < (some["sentiment"] == "negative").mean() < part["high"]


def test_an_index_that_repeats_mixes_up_nobody(df: pd.DataFrame) -> None:
    twice = df.head(4).set_axis([0, 1, 0, 1], axis=0)
    review = twice.parallel.review("sentiment", n=4, reviewer="ann")
    for place in range(4):
        review.decide_at(place, twice["sentiment"].iloc[place])
    assert review.agreement["ann, model"]["agreement"] == 1.0
    other = twice.parallel.review("sentiment", n=4, reviewer="bob")
    wrong = next(v for v in LABELS if v != twice["sentiment"].iloc[2])
    other.decide_at(2, wrong)
    [conflict] = review.conflicts.to_dict("records")
    assert conflict == {"ann": twice["sentiment"].iloc[2], "bob": wrong}


def test_decisions_are_found_whatever_files_do_to_values(store_path: Path, tmp_path: Path) -> None:
    def label(i: int, tags: list[str]) -> dict[str, str]:
        return {"label": "a"}

    rows = pd.DataFrame({"i": [1, 2], "tags": [["x", "y"], []]})
    df = pn.run_parallel(label, rows, **QUIET)
    df.parallel.review("label", n=2).decide(0, "b")
    read = pd.read_parquet(df.parallel.to_parquet(tmp_path / "a.parquet"))
    read["i"] = read["i"].astype(float)
    assert read.parallel.corrected("label")["label"].tolist() == ["b", "a"]


def test_a_line_that_was_cut_within_a_letter_loses_only_itself(df: pd.DataFrame) -> None:
    review = df.parallel.review("sentiment", n=4)
    one, two, *_ = review.rows.index
    review.decide(one, "negative")
    review.decide(two, "negative", note="schön é")
    path = review._decisions.path
    raw = path.read_bytes()
    path.write_bytes(raw[: raw.rindex("é".encode()) + 1])
    assert review.progress == (1, 4)
    review.decide(two, "positive")
    assert review.progress == (2, 4)


def test_examples_go_by_the_names_of_inputs(predict: pn.Predict, store_path: Path) -> None:
    table = pd.DataFrame({"text": [f"row-{i}" for i in range(3)]})
    df = pn.run_parallel(predict, table, columns={"review": "text"}, **QUIET)
    review = df.parallel.review("sentiment", n=3)
    review.decide(0, df.loc[0, "sentiment"])
    [demo] = predict.with_demos(review).demos
    assert demo["review"] == "row-0"
