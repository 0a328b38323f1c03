"""Several modules over the same rows."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import pandas as pd
import pytest
from hypothesis import strategies as st
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn

mpl.use("Agg")


LABELS = ["positive", "neutral", "negative"]


QUIET: dict[str, Any] = {"progress": "none", "store": None}


label = st.sampled_from(LABELS)


@pytest.fixture
def labelled() -> pd.DataFrame:
    """Twelve rows, of which the scripted server labels ten rightly; one has no label."""
    truths = [LABELS[i % 3].upper() for i in range(12)]
    truths[4], truths[5] = "positive", None  # type: ignore[call-overload]
    return pd.DataFrame({"review": [f"row-{i}" for i in range(12)], "gold": truths})


@pytest.mark.slow
def test_modules_side_by_side_with_a_paired_test(
    signature: pn.Signature, lm: pn.LM, server: ScriptedServer, labelled: pd.DataFrame
) -> None:
    from scipy.stats import binomtest

    good = pn.Predict(signature, lm)
    poor = pn.Predict(signature, lm, instructions="Say positive")

    def script(marker: int, attempt: int) -> Reply:
        is_poor = "Say positive" in server.requests[-1]["messages"][0]["content"]
        if is_poor and marker == 7:
            return Reply("status", code=400)
        return Reply(label=0 if is_poor else None)

    server.script = script
    both = pn.compare({"good": good, "poor": poor}, labelled, truth="gold", progress="none")
    assert list(both.index) == ["good", "poor"]
    assert both["accuracy_all"].tolist() == [pytest.approx(10 / 11), pytest.approx(5 / 11)]
    assert both["accuracy"].tolist() == [pytest.approx(10 / 11), pytest.approx(5 / 10)]
    assert both["failed"].tolist() == [0, 1]
    assert both["cost_usd"].iloc[0] == pytest.approx(12 * (11 * 0.15 + 7 * 0.6) / 1e6)
    # only good is right on the neutral and negative rows it has right, only poor on row 4
    test = both.tests.iloc[0]
    assert (test["only_a"], test["only_b"]) == (6, 1)
    assert test["p_value"] == pytest.approx(binomtest(6, 7).pvalue)
    assert test["difference"] == pytest.approx(5 / 11)
    assert both.frames["poor"]["status"].eq("failed").sum() == 1
    assert both.evaluations["good"].accuracy == both["accuracy"].iloc[0]
    html = both._repr_html_()
    assert "good minus poor: +45.5 points" in html
    again = pn.compare({"good": good, "poor": poor}, labelled, truth="gold", progress="none")
    assert again["cost_usd"].iloc[0] == pytest.approx(both["cost_usd"].iloc[0])  # remembered
    assert again.frames["good"]["cached"].all()


def test_without_labels_modules_are_compared_by_agreement(
    signature: pn.Signature, lm: pn.LM, labelled: pd.DataFrame
) -> None:
    modules = {n: pn.Predict(signature, lm, instructions=n) for n in ("a", "b", "c")}
    three = pn.compare(modules, labelled, **QUIET)
    assert three.tests["agreement"].tolist() == [1.0] * 3
    assert "accuracy" not in three
    assert "a and b agree on 100.0%" in three._repr_html_()


def test_holms_adjustment_is_that_of_the_textbook() -> None:
    from pardspy_nb.analysis.compare import _holm

    assert _holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])


def test_a_comparison_that_makes_no_sense_is_refused(
    predict: pn.Predict, labelled: pd.DataFrame
) -> None:
    with pytest.raises(ValueError, match="two modules"):
        pn.compare({"a": predict}, labelled, **QUIET)
    with pytest.raises(ValueError, match="list"):
        pn.compare({"a": predict, "b": predict}, iter(["row-1"]), **QUIET)
    with pytest.raises(ValueError, match="one sample"):
        pn.compare({"a": predict, "b": predict}, labelled, repeat=3, **QUIET)
