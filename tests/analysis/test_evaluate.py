"""Predicted labels beside the true ones, checked against scikit-learn and SciPy."""

from __future__ import annotations

import copy
import enum
import pickle
from typing import Any

import matplotlib as mpl
import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn

mpl.use("Agg")


LABELS = ["positive", "neutral", "negative"]


QUIET: dict[str, Any] = {"progress": "none", "store": None}


label = st.sampled_from(LABELS)


def frame(pairs: list[tuple[str | None, str | None]]) -> pd.DataFrame:
    return pd.DataFrame(
        {
            "label": [t for t, _ in pairs],
            "sentiment": pd.Categorical([p for _, p in pairs], LABELS, ordered=True),
        }
    )


@pytest.mark.slow
@settings(deadline=None, max_examples=60)
@given(st.lists(st.tuples(label, label), min_size=1, max_size=40))
def test_the_figures_are_scikit_learns(pairs: list[tuple[str, str]]) -> None:
    from scipy.stats import binomtest
    from sklearn import metrics

    true, said = zip(*pairs, strict=True)
    ev = pn.evaluate(frame(list(pairs)), "label", "sentiment")
    assert ev.accuracy == pytest.approx(metrics.accuracy_score(true, said))
    right = sum(t == s for t, s in pairs)
    between = binomtest(right, len(pairs)).proportion_ci(method="wilson")
    row = ev[ev["metric"] == "accuracy"].iloc[0]
    assert (row["low"], row["high"]) == (
        pytest.approx(between.low, abs=1e-9),
        pytest.approx(between.high, abs=1e-9),
    )
    report = metrics.classification_report(
        true, said, labels=LABELS, output_dict=True, zero_division=0
    )
    for name in LABELS:
        for ours, theirs in (("precision", "precision"), ("recall", "recall"), ("f1", "f1-score")):
            got = ev.figure(ours, name)
            assert (0.0 if np.isnan(got) else got) == pytest.approx(report[name][theirs])
        assert ev.figure("support", name) == report[name]["support"]
    present = sorted(set(true))
    macro = metrics.f1_score(true, said, labels=present, average="macro", zero_division=0)
    assert ev.figure("macro_f1") == pytest.approx(macro)
    crossed = metrics.confusion_matrix(true, said, labels=LABELS)
    assert ev.confusion.to_numpy().tolist() == crossed.tolist()
    if len({*true, *said}) > 1:
        assert ev.kappa == pytest.approx(metrics.cohen_kappa_score(true, said))


def test_calibration_is_that_of_scikit_learn() -> None:
    from sklearn.calibration import calibration_curve
    from sklearn.metrics import brier_score_loss

    rng = np.random.default_rng(3)
    sure = rng.uniform(0, 1, 500)
    right = rng.uniform(0, 1, 500) < sure**1.5
    df = frame([("positive", "positive" if r else "negative") for r in right])
    df["sentiment_confidence"] = pd.array(sure, "Float64")
    df.loc[0, "sentiment_confidence"] = pd.NA  # not told, so of no bin
    ev = pn.evaluate(df, "label", "sentiment")
    assert ev.calibration is not None
    share, mean = calibration_curve(right[1:], sure[1:], n_bins=10)
    assert ev.calibration["accuracy"].tolist() == pytest.approx(share.tolist())
    assert ev.calibration["confidence"].tolist() == pytest.approx(mean.tolist())
    assert ev.calibration["n"].sum() == 499
    assert ev.figure("brier") == pytest.approx(brier_score_loss(right[1:], sure[1:]))
    bins = np.minimum((sure[1:] * 10).astype(int), 9)
    by_hand = sum(
        (bins == b).mean() * abs(right[1:][bins == b].mean() - sure[1:][bins == b].mean())
        for b in range(10)
    )
    assert ev.figure("ece") == pytest.approx(by_hand)


def test_missing_labels_and_answers_are_counted_and_not_judged() -> None:
    df = frame(
        [("Positive ", "positive"), (None, "neutral"), ("negative", None), ("negative", "positive")]
    )
    ev = pn.evaluate(df, "label", "sentiment")
    assert (ev.figure("rows"), ev.figure("answered"), ev.accuracy) == (3, 2, 0.5)
    assert ev.correct.tolist() == [True, False, False]
    assert ev.accuracy_all == pytest.approx(1 / 3)
    assert pn.evaluate(df, df["label"].tolist(), "sentiment").accuracy == 0.5
    assert ev.calibration is None
    html = ev._repr_html_()
    assert "50% (9–91%)" in html
    assert "accuracy, all rows" in html
    assert "true \\ predicted" in html
    assert type(ev.head(2)) is pd.DataFrame
    assert (
        "&lt;b&gt;"
        in pn.evaluate(pd.DataFrame({"a": ["<b>", "x"], "b": ["<b>", "x"]}), "a", "b")._repr_html_()
    )


class Mood(enum.Enum):
    GOOD = "positive"
    BAD = "negative"


@pytest.mark.parametrize(
    ("said", "true", "accuracy"),
    [
        (["Positive", "positive", "negative"], ["positive", "positive", "negative"], 1.0),
        (pd.Categorical([1, 2, 1], categories=[1, 2]), [1.0, 2.0, np.nan], 1.0),
        ([True, False, True], [1, 0, 0], 2 / 3),
        (pd.Categorical(["positive", "negative"]), [Mood.GOOD, Mood.BAD], 1.0),
        (["1", "2"], [1, 2], 1.0),
        (["c", "a"], ["C", "c"], 0.5),
        ([1.5, 2.0], [1.5, 2], 1.0),
    ],
)
def test_labels_of_any_kind_are_compared_by_what_they_say(
    said: Any, true: Any, accuracy: float
) -> None:
    ev = pn.evaluate(pd.DataFrame({"p": said}), true, "p")
    assert ev.accuracy == pytest.approx(accuracy)
    assert ev.confusion.to_numpy().sum() == ev.figure("answered")
    for label in ev.confusion.index:
        ev.figure("f1", label)


def test_aliases_of_the_run_count_for_both(lm: pn.LM, server: ScriptedServer) -> None:
    aliased = (
        pn.Signature("S")
        .add_input("review")
        .add_class_output("sentiment", LABELS, aliases={"pos": "positive"})
    )
    table = pd.DataFrame({"review": ["row-0", "row-1", "row-3"], "gold": ["pos", "neutral", "POS"]})
    df = pn.run_parallel(pn.Predict(aliased, lm), table, truth="gold", **QUIET)
    assert df.parallel.metrics.accuracy == {"sentiment": 1.0}
    assert pn.evaluate(df).accuracy == 1.0


def test_an_evaluation_keeps_what_belongs_to_it(tmp_path: Any) -> None:
    ev = pn.evaluate(
        frame([("positive", "positive"), ("neutral", "positive")]), "label", "sentiment"
    )
    for other in (ev.copy(), copy.deepcopy(ev), pickle.loads(pickle.dumps(ev))):
        assert type(other) is pn.Evaluation
        assert other.confusion.equals(ev.confusion)
        assert pn.plot_confusion(other).get_title(loc="left") == "Confusion"
    ev.to_parquet(tmp_path / "ev.parquet")


def test_a_module_without_any_answer_is_wrong_on_every_row(
    signature: pn.Signature, lm: pn.LM, server: ScriptedServer, labelled: pd.DataFrame
) -> None:
    def script(marker: int, attempt: int) -> Reply:
        bad = "Bad" in server.requests[-1]["messages"][0]["content"]
        return Reply("status", code=400) if bad else Reply()

    server.script = script
    modules = {n: pn.Predict(signature, lm, instructions=n) for n in ("Good", "Bad")}
    both = pn.compare(modules, labelled, truth="gold", **QUIET)
    assert both["accuracy_all"].tolist() == [pytest.approx(10 / 11), 0.0]
    assert both["accuracy"].isna().tolist() == [False, True]
    assert both.tests["only_a"].tolist() == [10]
    assert "0.0%" in both._repr_html_()
    with pytest.raises(ValueError, match="pred="):
        pn.compare(modules, labelled, truth={"sentiment": "gold", "reason": "gold"}, **QUIET)


def test_a_retry_adds_its_rows_to_the_accuracy(
    predict: pn.Predict, labelled: pd.DataFrame, server: ScriptedServer
) -> None:
    server.script = lambda marker, attempt: (
        Reply("status", code=400) if marker == 2 and attempt == 1 else Reply()
    )
    for truth in ("gold", list(labelled["gold"]), {"sentiment": "gold"}):
        server.attempts.clear()
        df = pn.run_parallel(predict, labelled, truth=truth, max_failures=None, **QUIET)
        assert df.parallel.metrics.judged == {"sentiment": (9, 10)}
        df.parallel.retry_failed()
        assert df.parallel.metrics.judged == {"sentiment": (10, 11)}


def test_what_cannot_be_compared_is_refused_with_what_to_type() -> None:
    df = frame([("1", "positive"), ("0", "negative")])
    with pytest.raises(ValueError, match=r"none in common.*map"):
        pn.evaluate(df, "label", "sentiment")
    with pytest.raises(ValueError, match="no column 'gold'"):
        pn.evaluate(df, "gold", "sentiment")
    with pytest.raises(ValueError, match="pred="):
        pn.evaluate(df, "label")
    with pytest.raises(ValueError, match="truth="):
        pn.evaluate(df, pred="sentiment")
    with pytest.raises(ValueError, match="3 labels, and the frame 2"):
        pn.evaluate(df, ["a"] * 3, "sentiment")
    with pytest.raises(ValueError, match="no row has a true label"):
        pn.evaluate(frame([(None, "positive")]), "label", "sentiment")
    with pytest.raises(ValueError, match="confidence to calibrate"):
        pn.plot_calibration(frame([("positive", "positive")]), "label", "sentiment")


def test_the_pictures_show_the_counts_and_the_bins() -> None:
    df = frame([("positive", "positive")] * 3 + [("negative", "positive"), ("neutral", "neutral")])
    df["sentiment_confidence"] = [0.9, 0.8, 0.95, 0.6, 0.5]
    ax = pn.plot_confusion(df, "label", "sentiment")
    assert [t.get_text() for t in ax.texts] == ["3", "0", "0", "0", "1", "0", "1", "0", "0"]
    assert [t.get_text() for t in ax.get_xticklabels()] == LABELS
    ev = pn.evaluate(df, "label", "sentiment")
    assert pn.plot_confusion(ev, ax=ax) is ax
    calibrated = pn.plot_calibration(ev)
    assert [t.get_text() for t in calibrated.texts] == ["1", "1", "1", "2"]


@pytest.fixture
def labelled() -> pd.DataFrame:
    """Twelve rows, of which the scripted server labels ten rightly; one has no label."""
    truths = [LABELS[i % 3].upper() for i in range(12)]
    truths[4], truths[5] = "positive", None  # type: ignore[call-overload]
    return pd.DataFrame({"review": [f"row-{i}" for i in range(12)], "gold": truths})


def test_accuracy_is_live_in_panel_bar_summary_and_metrics(
    predict: pn.Predict, labelled: pd.DataFrame, capsys: Any
) -> None:
    from pardspy_nb.display.live_html import live_figures

    run = pn.start_parallel(predict, labelled, truth="gold", progress="tqdm", store=None)
    df = run.result()
    assert df.parallel.metrics.accuracy == {"sentiment": pytest.approx(10 / 11)}
    figure = ("accuracy", "91% (62–98%)")
    assert figure in df.parallel.summary().figures
    assert figure in live_figures(run.progress)
    assert "accuracy 91% (62–98%)" in capsys.readouterr().err
    assert pn.evaluate(df).accuracy == pytest.approx(10 / 11)
    listed = pn.run_parallel(predict, labelled[["review"]], truth=list(labelled["gold"]), **QUIET)
    assert listed.parallel.metrics.accuracy == {"sentiment": pytest.approx(10 / 11)}
    named = pn.run_parallel(predict, labelled, truth={"sentiment": "gold"}, repeat=2, **QUIET)
    assert named.parallel.metrics.judged == {"sentiment": (20, 22)}


def test_a_series_of_true_labels_goes_by_its_index(
    predict: pn.Predict, labelled: pd.DataFrame
) -> None:
    shuffled = labelled["gold"].sample(frac=1, random_state=1)
    df = pn.run_parallel(predict, labelled[["review"]], truth=shuffled, **QUIET)
    assert df.parallel.metrics.accuracy == {"sentiment": pytest.approx(10 / 11)}
    assert pn.evaluate(df, shuffled, "sentiment").accuracy == pytest.approx(10 / 11)
    other = labelled["gold"].set_axis(range(100, 112))
    with pytest.raises(ValueError, match=r"lacks 12 of the 12 rows.*\.tolist\(\)"):
        pn.evaluate(df, other, "sentiment")
    assert pn.evaluate(df, other.tolist(), "sentiment").accuracy == pytest.approx(10 / 11)


@pytest.mark.parametrize(
    ("truth", "message"),
    [
        ("label", "no|column 'label'"),
        (["positive"], "1 labels for 12 rows"),
        ({"mood": "gold"}, "mood"),
        (True, "truth names the column"),
        ([0, 1] * 6, "none in common"),
    ],
)
def test_a_truth_that_does_not_fit_is_refused_before_anything_is_sent(
    predict: pn.Predict, labelled: pd.DataFrame, server: ScriptedServer, truth: Any, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        pn.run_parallel(predict, labelled, truth=truth, **QUIET)
    with pytest.raises(ValueError, match="at hand"):
        pn.run_parallel(predict, iter(["row-0"]), truth=["positive"], **QUIET)
    assert server.requests == []


def test_groups_have_figures_of_their_own() -> None:
    df = pd.DataFrame(
        {
            "said": ["a", "b", "a", "b", "a", "a"],
            "true": ["a", "b", "b", "b", None, "b"],
            "month": ["May", "May", "June", "June", "July", "June"],
        }
    )
    found = pn.evaluate(df, "true", "said", by="month")
    assert found.accuracy == pytest.approx(3 / 5)
    assert found.figure("accuracy", group="May") == 1.0
    assert found.figure("accuracy", group="June") == pytest.approx(1 / 3)
    assert found.figure("support", "b", group="June") == 3
    assert "July" not in set(found["group"])
    assert "accuracy" in found._repr_html_()
    with pytest.raises(ValueError, match="no column 'week'"):
        pn.evaluate(df, "true", "said", by="week")


def test_one_rule_says_which_rows_count(
    predict: pn.Predict, labelled: pd.DataFrame, server: ScriptedServer
) -> None:
    server.script = lambda marker, attempt: (
        Reply("status", code=400) if marker in (0, 1) else Reply()
    )
    table = labelled.copy()
    table.loc[len(table)] = ["", "positive"]  # blank: not asked, and not counted
    options = {"truth": "gold", "max_failures": None, **QUIET}
    df = pn.run_parallel(predict, table, **options)
    metrics, judged = df.parallel.metrics, pn.evaluate(df)
    assert metrics.unanswered == {"sentiment": 2}
    assert (judged.figure("rows"), judged.figure("answered")) == (11, 9)
    assert metrics.accuracy["sentiment"] == pytest.approx(judged.accuracy)
    assert metrics.accuracy_all["sentiment"] == pytest.approx(judged.accuracy_all)
    both = pn.compare({"a": predict, "b": predict}, table, **options)
    assert both["accuracy"].tolist() == [pytest.approx(judged.accuracy)] * 2
    assert both["accuracy_all"].tolist() == [pytest.approx(judged.accuracy_all)] * 2
    words = repr(df.parallel.summary())
    assert "accuracy, answered" in words
    assert "accuracy, all" in words


def test_many_classes_are_shown_by_frequency() -> None:
    names = [f"class {i:02}" for i in range(38) for _ in range(i + 1)]
    ev = pn.evaluate(pd.DataFrame({"true": names, "said": names}), "true", "said")
    html = ev._repr_html_()
    assert "and 28 more with" in html
    assert "class 37" in html
    assert "class 05" not in html
    assert "(others)" in html
    assert len(html) < 20_000
