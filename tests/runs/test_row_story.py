"""One row's story: for rows that succeeded, failed, were remembered, or are under way."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn

QUIET: dict[str, Any] = {"progress": "none"}


def test_it_tells_what_was_asked_what_came_back_and_what_was_wrong(
    predict: pn.Predict, server: ScriptedServer, store_path: Path
) -> None:
    def script(row: int, attempt: int) -> Reply:
        if row == 2 and attempt == 1:
            return Reply("wrong_label")
        if row == 2 and attempt == 2:
            return Reply("status", code=500, message="out of order")
        return Reply("status", code=400, message="no") if row == 3 else Reply()

    server.script = script
    rows = pd.DataFrame({"review": [f"row-{i}" for i in range(5)]}, index=list("abcde"))
    df = pn.run_parallel(predict, rows, max_failures=None, **QUIET)
    story = df.parallel.row("c")
    assert story.inputs == {"review": "row-2"}
    assert story.messages == predict.request({"review": "row-2"})["messages"]
    assert [a.number for a in story.failed] == [1, 2]
    assert story.failed[0].error_type == "OutOfVocabularyError"
    assert "sentiment" in (story.failed[0].came_back or "")
    assert "out of order" in story.failed[1].error
    assert story.failed[1].waited_s is not None
    assert '"sentiment"' in (story.answer or "")
    assert story.outputs["sentiment"] == df.loc["c", "sentiment"]
    assert story.figures["attempts"] == 3
    assert story.remembered_since is not None
    told = story.to_dict()
    assert told["failed_attempts"][0]["number"] == 1
    assert told["total_tokens"] == df.loc["c", "total_tokens"]

    failed = df.parallel.row("d")
    assert (failed.status, failed.answer) == ("failed", None)
    assert [a.error_type for a in failed.failed] == ["BadRequestError"]
    assert df.parallel.row("a").failed == []
    with pytest.raises(KeyError, match="no row has the label 'x'"):
        df.parallel.row("x")


def test_html_is_escaped_and_text_reaches_no_terminal_raw(
    predict: pn.Predict, store_path: Path
) -> None:
    df = pn.run_parallel(predict, ["<script>row-1</script> \x1b[31m"], **QUIET)
    story = df.parallel.row(0)
    assert "<script>" not in story._repr_html_()
    assert "\x1b" not in repr(story)
    assert "row-1" in repr(story)


def test_a_frame_read_back_needs_the_module_for_what_the_store_knows(
    predict: pn.Predict, store_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pardspy_nb.runs import registry

    df = pn.run_parallel(predict, ["row-1", "row-2"], **QUIET)
    read = pd.read_parquet(df.parallel.to_parquet(tmp_path / "a.parquet"))
    monkeypatch.setattr(registry, "_modules", {})  # as in another kernel
    monkeypatch.setattr(registry, "_attempts", {})
    alone = read.parallel.row(1)
    assert (alone.messages, alone.answer) == (None, None)
    assert "pass the module" in repr(alone)
    known = read.parallel.row(1, predict)
    assert known.answer is not None
    assert known.messages == predict.request({"review": "row-2"})["messages"]


def test_rows_of_a_run_under_way_and_of_samples(
    predict: pn.Predict, server: ScriptedServer, store_path: Path
) -> None:
    run = pn.start_parallel(predict, ["row-1", "row-2"], repeat=2, **QUIET)
    run.result()
    assert run.row(0, sample=1).status == "ok"
    with pytest.raises(KeyError, match="pass sample="):
        run.row(0)


def test_what_is_kept_is_bounded_and_can_be_nothing(
    predict: pn.Predict, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pardspy_nb.runs import attempts

    monkeypatch.setattr(attempts, "MOST_KEPT", 3_000)
    server.script = lambda row, attempt: Reply("status", code=400, message="x" * 50_000)
    rows = [f"row-{i}" for i in range(8)]
    df = pn.run_parallel(predict, rows, max_failures=None, store=None, **QUIET)
    kept = [df.parallel.row(i).failed for i in range(8)]
    assert 1 <= sum(bool(of) for of in kept) < 8
    assert all(len(a.error) < 4_100 for of in kept for a in of)
    df = pn.run_parallel(predict, rows, max_failures=None, store=None, keep="nothing", **QUIET)
    assert not any(df.parallel.row(i).failed for i in range(8))


def test_a_function_has_a_story_without_messages() -> None:
    def shout(text: str) -> dict[str, str]:
        if text == "b":
            raise ValueError("not b")
        return {"loud": text.upper()}

    df = pn.run_parallel(shout, ["a", "b"], max_failures=1, store=None, **QUIET)
    assert df.parallel.row(0).outputs == {"loud": "A"}
    assert df.parallel.row(0).messages is None
    assert df.parallel.row(1).failed[0].error == "not b"


def test_preview_takes_a_row_of_a_result(predict: pn.Predict) -> None:
    df = pn.run_parallel(predict, ["row-1", "row-2"], store=None, **QUIET)
    [request] = pn.preview(predict, df.loc[1]).requests
    assert "row-2" in request["messages"][-1]["content"]


def test_small_costs_and_odd_values_are_shown_as_they_are(
    predict: pn.Predict, store_path: Path
) -> None:
    df = pn.run_parallel(predict, ["row-1"], **QUIET)
    assert df.parallel.row(0).figures["cost_usd"] == pytest.approx(df.loc[0, "cost_usd"])

    def entities(text: str) -> dict[str, Any]:
        return {"entities": [{"type": "PERSON", "name": text}]}

    found = pn.run_parallel(entities, ["ann"], store=None, **QUIET)
    assert "PERSON" in repr(found.parallel.row(0))
    strange = df.set_axis(pd.Index(["a"], dtype="string"), axis=0)
    assert strange.parallel.row("a").status == "ok"


def test_rows_of_several_modules_and_repeated_rows_tell_no_other_rows_story(
    predict: pn.Predict, signature: pn.Signature, lm: pn.LM, store_path: Path
) -> None:
    pairs = [(predict, {"review": "row-1"}), (pn.Predict(signature, lm), {"review": "row-1"})]
    assert pn.run_parallel(pairs, **QUIET).parallel.row(1).messages is None
    repeated = pn.run_parallel(predict, ["row-5"] * 2, dedupe=False, **QUIET)
    assert repeated.parallel.row(1).answer is None


def test_a_retry_adds_to_the_story(
    predict: pn.Predict, server: ScriptedServer, store_path: Path
) -> None:
    server.script = lambda row, attempt: Reply("status", code=400, message="first")
    df = pn.run_parallel(predict, ["row-1"], max_failures=None, **QUIET)
    server.script = lambda row, attempt: Reply("status", code=400, message="second")
    df.parallel.retry_failed(max_failures=None, **QUIET)
    assert ["first" in a.error or "second" in a.error for a in df.parallel.row(0).failed] == [
        True,
        True,
    ]
