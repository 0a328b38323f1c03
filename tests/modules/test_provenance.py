"""What made each answer."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.scripted_server import ScriptedServer

import pardspy_nb as pn
from pardspy_nb.tables.merge import places, spans

QUIET: dict[str, Any] = {"progress": "none"}


def test_the_frame_says_what_made_each_row_and_parquet_keeps_it(
    predict: pn.Predict, server: ScriptedServer, reviews: list[str], tmp_path: Path
) -> None:
    pn.run_parallel(predict, reviews[:5], **QUIET)
    df = pn.run_parallel(predict, reviews, **QUIET)
    about = df.attrs["pardspy"]
    (source, made) = next(iter(about["sources"].items()))
    assert about["rows_by_source"] == {source: "0-11"}
    assert made["model"] == "gpt-4o-mini"
    assert made["endpoint"] == server.url
    assert made["prompt_sha256"] == predict.prompt_sha256
    assert made["prices"] == {
        "table": made["prices"]["table"],
        "usd_per_1m_prompt": 0.15,
        "usd_per_1m_completion": 0.6,
    }
    assert made["prices"]["table"].startswith("genai-prices 0.")
    assert made["packages"].keys() == {"pardspy_nb", "openai", "pandas", "pydantic", "python"}
    assert made["signature"]["outputs"]["sentiment"] == "one of: positive, neutral, negative"
    assert about["started_at"] < about["finished_at"]
    assert "sk-test" not in json.dumps(about)
    df.to_parquet(tmp_path / "df.parquet")
    read = pd.read_parquet(tmp_path / "df.parquet")
    assert read.attrs == df.attrs
    assert read.dtypes.equals(df.dtypes)
    assert repr(read.parallel.summary()) == repr(df.parallel.summary())


def test_rows_made_by_an_earlier_version_keep_their_origin(
    predict: pn.Predict, reviews: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pardspy_nb.modules import provenance

    versions = provenance.packages() | {"pardspy_nb": "0.0.9"}
    with monkeypatch.context() as earlier:
        earlier.setattr(provenance, "packages", lambda: versions)
        pn.run_parallel(predict, reviews[:5], **QUIET)
    about = pn.run_parallel(predict, reviews, **QUIET).attrs["pardspy"]
    rows = {
        about["sources"][source]["packages"]["pardspy_nb"]: of
        for source, of in about["rows_by_source"].items()
    }
    assert rows == {"0.0.9": "0-4", pn.__version__: "5-11"}


def test_credentials_in_a_url_are_not_told(signature: pn.Signature) -> None:
    from pardspy_nb.modules.module import from_module
    from pardspy_nb.modules.provenance import Sources

    lm = pn.LM("m", base_url="http://user:hush@127.0.0.1:9/v1")
    known = Sources(from_module(pn.Predict(signature, lm)), None).known
    assert "hush" not in json.dumps(known)
    assert "http://127.0.0.1:9/v1" in json.dumps(known)


def test_spans_and_places_are_each_others_inverse() -> None:
    assert spans([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"
    for seed in range(20):
        numbers = sorted(random.Random(seed).sample(range(60), 25))
        assert places(spans(numbers)) == numbers
    assert places(spans([])) == []
