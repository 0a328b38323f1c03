"""A run is checked before it is started, and holds nothing until then."""

from __future__ import annotations

from pathlib import Path

import pytest

import pardspy_nb as pn
from pardspy_nb.core.options import Options
from pardspy_nb.modules.module import from_module
from pardspy_nb.runs.plan import plan_run
from pardspy_nb.runs.run import Run


def test_a_run_that_is_never_started_opens_nothing(predict: pn.Predict, tmp_path: Path) -> None:
    store = tmp_path / "answers.sqlite"
    plan = plan_run(from_module(predict), ["row-1"], Options(store=store, progress="none"))
    run = Run(plan)
    assert not store.exists()
    df = run.start().result()
    assert store.exists()
    assert df["status"].tolist() == ["ok"]


def test_a_store_that_cannot_be_used_is_told_at_the_start(
    predict: pn.Predict, tmp_path: Path
) -> None:
    """Also by a call that returns at once; the run before stays the last one."""
    pn.run_parallel(predict, ["row-1"], progress="none", store=None)
    before = pn.last_run()
    with pytest.raises(pn.StoreError):
        pn.start_parallel(predict, ["row-1"], progress="none", store=tmp_path)
    assert pn.last_run() is before
