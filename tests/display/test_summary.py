"""The static summary of a run."""

from __future__ import annotations

from typing import Any

import matplotlib as mpl
import pandas as pd
import pytest

from pardspy_nb.display import html

mpl.use("Agg")


QUIET: dict[str, Any] = {"progress": "none", "store": None}


def test_the_summary_groups_errors_and_escapes_them(mixed: pd.DataFrame) -> None:
    summary = mixed.parallel.summary()
    html = summary._repr_html_()
    assert "1 × BadRequestError" in html
    assert "<script" not in html
    assert "&lt;script" in html
    assert len(html) < 20_000
    assert "e.g. row 2" in repr(summary)
    assert list(mixed.parallel.failures["review"]) == ["row-2 is a review"]


def test_an_input_frame_is_no_result(reviews: list[str]) -> None:
    with pytest.raises(ValueError, match=r"df\.parallel\.run"):
        _ = pd.DataFrame({"review": reviews}).parallel.metrics


def test_the_largest_summary_stays_small(mixed: pd.DataFrame) -> None:
    labels = pd.Categorical([f"label {i} " + "x" * 40 for i in range(8)] * 125)
    many = pd.concat([mixed] * 125, ignore_index=True).iloc[:1000]
    many["sentiment"] = labels
    many["status"] = "failed"
    many["error_type"] = [f"Error{i}" for i in range(1000)]
    many["error"] = "<b>" + "y" * 5000
    html = many.parallel.summary()._repr_html_()
    assert "Error0" in html
    assert len(html.encode()) < 20_000


def test_the_summary_shows_counts_histogram_and_settings(mixed: pd.DataFrame) -> None:
    html = mixed.parallel.summary()._repr_html_()
    assert "Latency histogram of 8 calls" in html
    assert "4 (50%)" in html
    assert "model gpt-4o-mini" in html
    assert "max_attempts 4" in html
    text = repr(mixed.parallel.summary())
    assert "positive 4, neutral 4, negative 0" in text
    merged = mixed.copy()
    merged.attrs.clear()  # as merge and csv do
    assert "positive 4, neutral 4, negative 0" in repr(merged.parallel.summary())


def test_the_summary_of_frames_that_went_through_other_hands(
    mixed: pd.DataFrame, tmp_path: Any
) -> None:
    """csv, an outer merge, a reindex, a latency that is missing, names without end."""
    mixed.to_csv(tmp_path / "a.csv")
    other = pd.DataFrame({"review": ["row-0 is a review", "unknown"], "x": [1, 2]})
    frames = {
        "csv": pd.read_csv(tmp_path / "a.csv", index_col=0),
        "merge": mixed.merge(other, on="review", how="outer"),
        "reindex": mixed.reindex(range(20)),
        "missing": mixed.assign(latency_ms=float("nan")),
    }
    for name, df in frames.items():
        summary = df.parallel.summary()
        assert summary.metrics.successes == 8, name
        assert "1 × BadRequestError" in summary._repr_html_(), name
    many = mixed.rename(index={2: "x" * 50_000})
    assert len(many.parallel.summary()._repr_html_()) < 20_000


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (None, "–"),
        (0.42, "420 ms"),
        (3.5, "3.5 s"),
        (12, "12 s"),
        (200, "3 min 20 s"),
        (7500, "2 h 5 min"),
    ],
)
def test_durations_are_for_people(seconds: float | None, words: str) -> None:
    assert html.duration(seconds) == words


@pytest.mark.parametrize(
    ("ms", "words"),
    [
        (None, "–"),
        (0.523, "0.52 ms"),
        (87.4, "87 ms"),
        (6412, "6.41 s"),
        (999.9, "1000 ms"),
        (125_000, "2 min 5 s"),
    ],
)
def test_latencies_are_for_people(ms: float | None, words: str) -> None:
    assert html.milliseconds(ms) == words
