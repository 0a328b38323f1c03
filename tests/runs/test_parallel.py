"""`Parallel` and the options of a batch, over real HTTP."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn

QUIET: dict[str, Any] = {"progress": "none", "store": None}


def broken(marker: int, attempt: int) -> Reply:
    return Reply("status", code=400) if marker in (2, 3) else Reply()


def test_return_all_and_only_successful(
    predict: pn.Predict, server: ScriptedServer, reviews: list[str]
) -> None:
    server.script = lambda marker, attempt: broken(marker + 2, attempt)  # rows 0 and 1 fail
    options = {"max_failures": None, **QUIET}
    ok = pn.Parallel(predict, only_successful=True, **options)(review=reviews)
    assert len(ok.completions) == 10
    assert list(ok.to_frame().index) == list(range(2, 12))
    one = pn.Parallel(predict, return_all=False, **options)(review=reviews)
    assert one.completions == [{"sentiment": "negative", "reason": "row-2"}]
    assert one.outputs == {"sentiment": "negative", "reason": "row-2"}
    assert one.inputs == {"review": reviews[2]}
    assert len(one.to_frame()) == 1


def test_all_failed_has_no_primary_output(predict: pn.Predict, server: ScriptedServer) -> None:
    server.script = lambda marker, attempt: Reply("status", code=400)
    with pytest.raises(pn.AllFailed) as info:
        pn.Parallel(predict, max_failures=None, **QUIET)(review=["row-0", "row-1"])
    assert len(info.value.df) == 2
    df = pn.run_parallel(predict, ["row-0"], max_failures=None, **QUIET)
    assert list(df["status"]) == ["failed"]


def test_batch_key_repeat_and_columns(predict: pn.Predict) -> None:
    df = pn.run_parallel(predict, {"items": [{"review": "row-1"}]}, batch_key="items", **QUIET)
    assert list(df["reason"]) == ["row-1"]
    reviews = pd.DataFrame({"text": ["row-4", "row-5"], "id": [7, 8]}, index=["a", "b"])
    df = pn.run_parallel(predict, reviews, columns={"review": "text"}, repeat=2, **QUIET)
    assert list(df.index) == ["a", "a", "b", "b"]
    assert list(df["sample"]) == [0, 1, 0, 1]
    assert list(df["id"]) == [7, 7, 8, 8]
    assert list(df["reason"]) == ["row-4", "row-4", "row-5", "row-5"]


def test_max_attempts(predict: pn.Predict, server: ScriptedServer, fast_retries: None) -> None:
    server.script = lambda marker, attempt: Reply("status", code=500)
    df = pn.run_parallel(predict, ["row-0"], max_attempts=2, max_failures=1, **QUIET)
    assert server.attempts[0] == df["attempts"][0] == 2


def test_progress_takes_a_callable_that_sees_every_event(
    predict: pn.Predict, reviews: list[str]
) -> None:
    seen: list[Any] = []
    pn.run_parallel(predict, reviews, progress=seen.append)
    kinds = [type(event).__name__ for event in seen]
    assert (kinds[0], kinds[-1]) == ("RunStarted", "RunFinished")
    assert kinds.count("RowStarted") == kinds.count("RowFinished") == 12


def test_a_run_that_cannot_start_says_why_and_nothing_else(
    signature: pn.Signature, capsys: Any
) -> None:
    run = pn.start_parallel(pn.Predict(signature, pn.LM("gpt-4o-mini")), ["a"], **QUIET)
    with pytest.raises(pn.LMError, match="no API key") as info:
        run.result()
    assert len(info.traceback) < 6, "no frames of the engine's"
    summary = run._summary
    assert "no API key: set OPENAI_API_KEY" in summary._repr_html_()
    assert "again" not in summary._repr_html_() + repr(summary) + capsys.readouterr().err


def test_widgets_are_refused_where_there_is_no_notebook(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    with pytest.raises(ValueError, match="needs a notebook"):
        pn.run_parallel(predict, ["row-0"], progress="widget")
    assert not server.requests
