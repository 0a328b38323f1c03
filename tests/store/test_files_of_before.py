"""Files that version 0.1 wrote before its modules moved: they stay readable."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import pardspy_nb as pn

DATA = Path(__file__).parents[1] / "data"


class Constant:
    """The model that the files were made with; it must not be asked again."""

    timeout_s = 10.0
    cache_identity = {"model": "constant"}  # noqa: RUF012 - a constant

    async def complete(self, messages: Any, **more: Any) -> pn.Completion:
        raise AssertionError("a remembered row was asked again")


@pytest.fixture
def signature() -> pn.Signature:
    return (
        pn.Signature("Judge a review")
        .add_input("review", str, "A review")
        .add_class_output("sentiment", ["positive", "negative"])
        .add_output("reason", str)
    )


def test_a_store_of_before_answers_its_rows(signature: pn.Signature, tmp_path: Path) -> None:
    store = Path(shutil.copy(DATA / "store-0.1.sqlite", tmp_path / "store.sqlite"))
    assert pn.store.info(store).answers == 3
    rows = ["good one", "bad one", "so good"]
    df = pn.run_parallel(pn.Predict(signature, Constant()), rows, store=store, progress="none")
    assert df["cached"].all()
    assert df["sentiment"].tolist() == ["positive", "negative", "positive"]


@pytest.mark.parametrize("name", ["answers", "file"])
def test_a_parquet_file_of_before_is_a_result(name: str) -> None:
    df = pd.read_parquet(DATA / f"{name}-0.1.parquet")
    assert df.index.tolist() == ["a", "b", "c"]
    assert df.parallel.metrics.successes == 3
    assert df.parallel.summary().metrics.total == 3
    assert df.attrs["pardspy"]["signature"]["outputs"]
