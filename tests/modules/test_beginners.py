"""What a newcomer gets wrong in the first hour, and the words that come back."""

from __future__ import annotations

import inspect
import warnings
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.scripted_server import ScriptedServer

import pardspy_nb as pn
from pardspy_nb.llm.known_params import KNOWN

QUIET: dict[str, Any] = {"progress": "none", "store": None}
REVIEWS = pd.DataFrame({"review": ["row-1 " + "x" * 500, "row-2"]})


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"temprature": 0}, "did you mean 'temperature'"),
        ({"max_token": 5}, "did you mean 'max_tokens'"),
        ({"baseurl": "http://x"}, "did you mean 'base_url'"),
        ({"threads": 2}, r"LM\('local', threads=…\)"),
        ({"top_k": 5}, r"extra_body=\{'top_k': …\}"),
        ({"max_workers": 3}, r"run_parallel\(predict, rows, max_workers=…\)"),
    ],
)
def test_an_lm_knows_its_parameters(given: dict[str, Any], words: str) -> None:
    with pytest.raises(TypeError, match=words):
        pn.LM("m", api_key="k", **given)


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ({"confidnce": True}, "did you mean 'confidence'"),
        ({"temperatur": 1}, "did you mean 'temperature'"),
        ({"my_field": 1}, r"extra_body=\{'my_field': …\}"),
        ({"base_url": "http://x"}, r"LM\(…, base_url=…\)"),
        ({"rpm": 100}, r"run_parallel\(predict, rows, rpm=…\)"),
    ],
)
def test_predict_knows_its_parameters(
    signature: pn.Signature, lm: pn.LM, given: dict[str, Any], words: str
) -> None:
    with pytest.raises(TypeError, match=words):
        pn.Predict(signature, lm, **given)


def test_what_only_an_endpoint_knows_is_sent(
    signature: pn.Signature, server: ScriptedServer
) -> None:
    lm = pn.LM("m", base_url=server.url, api_key="k", extra_body={"top_k": 7})
    predict = pn.Predict(signature, lm, extra_body={"min_p": 0.1}, seed=3)
    predict(review="row-1")
    sent = server.requests[-1]
    assert (sent["top_k"], sent["min_p"], sent["seed"]) == (7, 0.1, 3)
    pn.LM("local", repeat_penalty=1.0, top_k=5, threads=1)  # the embedded server's own


def test_the_list_of_parameters_is_that_of_the_installed_client() -> None:
    from openai.resources.chat.completions import AsyncCompletions

    ours = {"self", "messages", "model", "audio", "timeout"}
    ours |= {"extra_headers", "extra_query", "extra_body"}
    assert set(inspect.signature(AsyncCompletions.create).parameters) - ours <= KNOWN


@pytest.mark.parametrize("given", [["text"], [["a", "b"]], [REVIEWS]])
def test_inputs_have_names(predict: pn.Predict, given: list[Any], server: ScriptedServer) -> None:
    with pytest.raises(TypeError, match=r"predict\(review=…\).*run_parallel") as told:
        predict(*given)
    assert len(str(told.value)) < 250
    assert not server.requests


@pytest.mark.parametrize("many", [["a", "b"], REVIEWS, REVIEWS["review"], 3])
def test_one_row_at_a_time(predict: pn.Predict, many: Any, server: ScriptedServer) -> None:
    with pytest.raises(ValueError, match="input 'review' must be str") as told:
        predict(review=many)
    assert ("run_parallel" in str(told.value)) == (not isinstance(many, int))
    assert len(str(told.value)) < 300
    assert not server.requests


def test_a_description_in_the_place_of_the_type() -> None:
    signature = pn.Signature("s").add_input("review", "the text").add_output("why", "in a word")
    assert signature.inputs["review"].type is str
    assert signature.inputs["review"].description == "the text"
    assert signature.outputs["why"].description == "in a word"
    with pytest.raises(TypeError, match="give the type itself, 'n', int"):
        pn.Signature("s").add_input("n", "int")
    with pytest.raises(TypeError, match="two descriptions"):
        pn.Signature("s").add_input("n", "one", "two")


def test_labels_without_quotes() -> None:
    with pytest.raises(ValueError, match=r"quotes: Literal\['good', 'bad'\]"):
        pn.Signature.from_string("a -> b: Literal[good, bad]")


def test_arguments_in_the_wrong_order(predict: pn.Predict, lm: pn.LM) -> None:
    for table in (REVIEWS, ["row-1"], {"review": ["row-1"]}):
        with pytest.raises(
            TypeError, match=r"the module comes first: run_parallel\(predict"
        ) as told:
            pn.run_parallel(table, predict)
        assert len(str(told.value)) < 300
    with pytest.raises(TypeError, match=r"Predict\(signature, lm\)"):
        pn.Predict(lm, predict.signature)
    for thing, words in (
        (predict.signature, r"Predict\(signature\)"),
        (lm, r"Predict\(signature, lm\)"),
        (pn.Predict, r"make an object of it: Predict\(…\)"),
    ):
        with pytest.raises(TypeError, match=words):
            pn.run_parallel(thing, REVIEWS)


def test_a_folder_of_csv_files(predict: pn.Predict, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / f"{name}.csv").write_text("review\nrow-1\n")
    with pytest.raises(ValueError, match=r"2 \.csv files.*pd\.concat"):
        pn.run_parallel(predict, tmp_path)


def test_a_function_that_returns_nothing_is_told_of_once() -> None:
    def forgets(n: int) -> None:
        pass

    with pytest.warns(UserWarning, match="forgets returned None.*forget to return") as told:
        df = pn.run_parallel(forgets, {"n": [1, 2, 3]}, **QUIET)
    assert len([w for w in told if "returned None" in str(w.message)]) == 1
    assert df["status"].eq("ok").all()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pn.run_parallel(lambda n: {"a": None}, {"n": [1]}, **QUIET)


def test_the_accessor_says_what_it_can_do() -> None:
    shown = repr(REVIEWS.parallel)
    for name in ("summary", "explode", "retry_failed", "review", "plot_counts", "to_excel"):
        assert f".{name}(…)" in shown
    kind = type(REVIEWS.parallel)
    for name in dir(kind):
        if not name.startswith("_"):
            words = inspect.getdoc(getattr(kind, name)) or ""
            assert not words.startswith("See "), name
            assert len(words) > 30, name


def test_samples_are_no_rows_of_their_own(predict: pn.Predict) -> None:
    df = pn.run_parallel(predict, ["row-1", "row-2"], repeat=3, **QUIET)
    df["gold"] = "neutral"
    with pytest.warns(UserWarning, match=r"too narrow.*df\.parallel\.vote"):
        assert pn.evaluate(df, "gold").figure("rows") == 6
    with pytest.raises(ValueError, match=r"samples.*df\.parallel\.vote"):
        pn.shares(df, "sentiment", truth="gold")


def test_the_frame_comes_first(predict: pn.Predict) -> None:
    df = pn.run_parallel(predict, ["row-1", "row-2"], **QUIET)
    for draw in (pn.shares, pn.plot_counts):
        with pytest.raises(TypeError, match="the frame comes first, not a str"):
            draw("sentiment", df)
    with pytest.raises(TypeError, match="ax is a matplotlib Axes, not 'sentiment'"):
        df.parallel.plot_latency("sentiment")
    with pytest.raises(TypeError, match=r"pn\.plot_shares\(pn\.shares"):
        pn.plot_shares(df)
    for wrong in ("sentimnt", "Sentiment"):
        with pytest.raises(ValueError, match="did you mean 'sentiment'"):
            df.parallel.plot_counts(wrong)


def test_values_that_make_no_sense(predict: pn.Predict, signature: pn.Signature) -> None:
    with pytest.raises(TypeError, match="temperature is a number, got 'hot'"):
        pn.LM("m", api_key="k", temperature="hot")  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="a signature or a function"):
        pn.testing.FakeLM({"sentiment": "positive"})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="accept is a confidence"):
        pn.Cascade([predict, predict], on="sentiment", accept=90)
    with pytest.raises(ValueError, match="by name"):
        pn.compare([predict, predict], ["row-1"])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match=r"Predict\('review -> sentiment'\)"):
        pn.run_parallel("review -> sentiment", ["row-1"])
    with pytest.raises(TypeError, match=r"LM\(…, model=…\)"):
        pn.Predict(signature, model="fake")


def test_shares_say_what_is_left_out(predict: pn.Predict) -> None:
    df = pn.run_parallel(predict, [f"row-{i}" for i in range(40)], **QUIET)
    df["g"] = ["a", None] * 20
    df.loc[df.index[:4], "status"] = "failed"
    df["gold"] = df["sentiment"].astype(str).where(df.index < 10)
    words = pn.shares(df, "sentiment", truth="gold", by="g").in_words
    assert "4 rows without an answer are left out" in words
    assert "rows without a g are left out" in words
    assert "Only 10 rows are labelled by hand" in words
    assert "random sample" in words
    df["gold"] = ["posi"] * 5 + [None] * 35
    with pytest.warns(UserWarning, match="match no declared label: 'posi'"):
        pn.shares(df, "sentiment", truth="gold")
    df["tags"] = [["x"]] * 40
    with pytest.raises(ValueError, match="explode"):
        pn.shares(df, "tags")
    df["free"] = [f"text {i}" for i in range(40)]
    with pytest.raises(ValueError, match="40 different values"):
        pn.shares(df, "free")
    own = df["sentiment"].astype(str).tolist()
    assert pn.shares(df.assign(mine=own), "mine").frame["n_model"].iloc[0] == 40


def test_faults_of_a_rehearsal_stay_in_it() -> None:
    declines = pn.testing.FakeLM(latency=0, faults={"refusal": 1.0})
    pn.run_parallel(pn.Predict("review -> a", declines), ["x"], max_failures=None, progress="none")
    df = pn.run_parallel(pn.Predict("review -> a", pn.LM("fake")), ["x"], progress="none")
    assert df["status"].eq("ok").all()
