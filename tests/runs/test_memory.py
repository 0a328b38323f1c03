"""What a run keeps in memory is bounded by its rows, not by their failures' texts."""

from __future__ import annotations

import gc
import os
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import pardspy_nb as pn

pytestmark = pytest.mark.slow
QUIET: dict[str, Any] = {"progress": "none", "store": None}


def resident_mb() -> float:
    gc.collect()
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Babbles:
    """An LM whose answers are 20 kB that fit nothing."""

    async def complete(self, messages: Any, **more: Any) -> pn.Completion:
        text = f"{messages[-1]['content']} " + "blah " * 4000
        return pn.Completion(text, pn.Usage(1, 1, 2, 0.0, 1.0), "m")


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells it so")
def test_failed_rows_keep_only_the_ends_of_their_answers() -> None:
    predict = pn.Predict("text -> label: int", Babbles())
    options = QUIET | {"max_failures": None, "max_attempts": 2, "max_workers": 32}
    pn.run_parallel(predict, [f"warm {i}" for i in range(200)], **options)
    before = resident_mb()
    run = pn.start_parallel(predict, [f"row {i}" for i in range(20_000)], **options)
    df = run.result()
    kept = resident_mb() - before
    assert df["status"].eq("failed").all()
    texts = [r.error.text for r in run.results if r.error is not None]
    assert len(texts) == 20_000
    assert all(len(text) < 4_100 and text.startswith("text: row ") for text in texts)
    assert kept < 400, f"{kept:.0f} MB for 20,000 failed rows of 20 kB (once 1,115 MB)"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells it so")
def test_a_file_is_put_together_a_few_megabytes_at_a_time(tmp_path: Path) -> None:
    import resource

    def long(i: int) -> dict[str, Any]:
        return {"text": f"{i} " + "x" * 20_000 + str(i * 7919)}

    rows = pd.DataFrame({"i": range(6_000)})
    pn.run_to_parquet(long, rows.head(200), tmp_path / "warm.parquet", **QUIET)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3
    target = tmp_path / "out.parquet"
    pn.run_to_parquet(long, rows, target, **QUIET)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3 - before
    assert len(pd.read_parquet(target, columns=["i"])) == 6_000
    assert grown < 700, f"{grown:.0f} MB above the start for a table of 120 MB"
