"""What is remembered, forgetting it, taking it elsewhere."""

from __future__ import annotations

import csv
import json
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.scripted_server import ScriptedServer

import pardspy_nb as pn

QUIET: dict[str, Any] = {"progress": "none"}


def test_info_tells_what_there_is_and_makes_no_file(
    predict: pn.Predict, store_path: Path, reviews: list[str]
) -> None:
    assert pn.store.info().answers == 0
    assert not store_path.exists()
    pn.run_parallel(predict, reviews, **QUIET)
    info = pn.store.info()
    assert (info.path, info.answers, info.tokens) == (store_path, 12, 12 * 18)
    assert info.cost_usd == pytest.approx(12 * (11 * 0.15 + 7 * 0.6) / 1e6)
    assert info.by_model == {"gpt-4o-mini": 12}
    assert info.bytes > 1000
    assert info.oldest is not None
    assert info.newest is not None
    assert timedelta(0) <= datetime.now(UTC) - info.newest < timedelta(minutes=1)
    assert "12 answers" in repr(info)


def test_clear_forgets_all_or_some(
    signature: pn.Signature, server: ScriptedServer, reviews: list[str], tmp_path: Path
) -> None:
    assert pn.store.clear() == 0
    for model in ("a", "b"):
        pn.run_parallel(pn.Predict(signature, pn.LM(model, base_url=server.url)), reviews, **QUIET)
    assert pn.store.clear(older_than_days=1) == 0
    assert pn.store.clear(model="a") == 12
    assert pn.store.info().by_model == {"b": 12}
    b = pn.Predict(signature, pn.LM("b", base_url=server.url))
    assert pn.run_parallel(b, reviews, **QUIET)["cached"].all()
    time.sleep(0.01)
    assert pn.store.clear(older_than_days=0) == 12
    assert not pn.run_parallel(b, reviews, **QUIET)["cached"].any()
    other = tmp_path / "other.sqlite"
    pn.run_parallel(b, reviews, store=other, **QUIET)
    assert pn.store.clear(other) == 12
    assert pn.store.info().answers == 12


@pytest.mark.parametrize("ending", [".jsonl", ".csv", ".parquet"])
def test_an_export_says_what_was_asked_answered_and_by_what(
    predict: pn.Predict, reviews: list[str], tmp_path: Path, ending: str
) -> None:
    path = tmp_path / f"answers{ending}"
    assert pn.store.export(path) == 0
    df = pn.run_parallel(predict, reviews, max_workers=1, **QUIET)
    assert pn.store.export(path) == 12
    if ending == ".jsonl":
        results = [json.loads(line) for line in path.read_text().splitlines()]
    elif ending == ".csv":
        results = list(csv.DictReader(path.open()))
    else:
        results = pd.read_parquet(path).to_dict("records")
    first = results[0]
    assert len(results) == 12
    assert first["input"] == "review: row-0 is a review"
    assert json.loads(first["answer"]) == {"sentiment": "positive", "reason": "row-0"}
    assert float(first["cost_usd"]) == pytest.approx(df["cost_usd"][0])
    assert int(first["total_tokens"]) == 18
    assert first["requested_model"] == "gpt-4o-mini"
    assert first["prompt_sha256"] == predict.prompt_sha256
    nested = first["packages"]
    packages = nested if isinstance(nested, dict) else json.loads(nested)
    assert packages["pardspy_nb"] == pn.__version__
    at = first["answered_at"]
    at = datetime.fromisoformat(at) if isinstance(at, str) else at
    assert abs(at - df["started_at"][0]) < timedelta(minutes=1)


def test_an_export_to_something_else_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"\.parquet, \.jsonl, \.csv"):
        pn.store.export(tmp_path / "answers.xlsx")


def test_cached_rows_say_what_they_saved(predict: pn.Predict, reviews: list[str]) -> None:
    first = pn.run_parallel(predict, reviews, **QUIET)
    again = pn.run_parallel(predict, [*reviews, "row-77"], **QUIET)
    saved = again.parallel.metrics.saved
    assert saved is not None
    assert saved.total_tokens == 12 * 18
    assert saved.cost_usd == pytest.approx(first.parallel.cost)
    assert ("saved", "$7.02e-05") in again.parallel.summary().figures
    assert first.parallel.metrics.saved is None
    assert "saved" not in dict(first.parallel.summary().figures)


def test_clearing_the_store_of_a_run_under_way_keeps_what_comes_after_whole(
    predict: pn.Predict, server: ScriptedServer, tmp_path: Path
) -> None:
    server.latency_s = lambda marker: 0.01
    run = pn.start_parallel(predict, [f"row-{i}" for i in range(60)], max_workers=2, **QUIET)
    for done, _ in enumerate(run.iter(), 1):
        if done == 20:
            pn.store.clear()
    assert (run.result()["status"] == "ok").all()
    assert pn.store.export(tmp_path / "a.jsonl") >= 30
    results = map(json.loads, (tmp_path / "a.jsonl").read_text().splitlines())
    assert {record["requested_model"] for record in results} == {"gpt-4o-mini"}
