"""The vote of a row's samples."""

from __future__ import annotations

import math
from collections import Counter
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

LABELS = ["positive", "neutral", "negative"]


def leaders(votes: list[str]) -> set[str]:
    counts = Counter(votes)
    return {label for label, n in counts.items() if n == max(counts.values())}


def table(samples: list[list[str | None]], **more: Any) -> pd.DataFrame:
    """A result whose i-th row has these samples; None failed."""
    flat = [(i, k, label) for i, row in enumerate(samples) for k, label in enumerate(row)]
    return pd.DataFrame(
        {
            "review": [f"r{i}" for i, _, _ in flat],
            "sentiment": pd.Categorical([x for *_, x in flat], LABELS, ordered=True),
            "sample": [k for _, k, _ in flat],
            "status": ["failed" if x is None else "ok" for *_, x in flat],
        },
        index=[f"i{i}" for i, _, _ in flat],
    )


@pytest.mark.slow
@given(
    st.lists(
        st.lists(st.sampled_from([*LABELS, None]), min_size=1, max_size=5), min_size=1, max_size=6
    )
)
def test_a_vote_is_that_of_counting_by_hand(samples: list[list[str | None]]) -> None:
    voted = table(samples).parallel.vote("sentiment")
    assert list(voted.index) == [f"i{i}" for i in range(len(samples))]
    assert list(voted.columns) == ["review", "sentiment", "votes", "agreement", "entropy", "tied"]
    for row, given_ in zip(voted.itertuples(), samples, strict=True):
        votes = [v for v in given_ if v]
        assert row.votes == len(votes)
        if not votes:
            assert pd.isna(row.sentiment)
            assert pd.isna(row.agreement)
            assert pd.isna(row.entropy)
            continue
        best = leaders(votes)
        assert row.sentiment == next(label for label in LABELS if label in best)
        assert row.tied == (len(best) > 1)
        shares = [n / len(votes) for n in Counter(votes).values()]
        assert row.agreement == pytest.approx(max(shares))
        assert row.entropy == pytest.approx(-sum(p * math.log2(p) for p in shares), abs=1e-12)


def test_rows_of_one_name_and_rows_out_of_order_vote_for_themselves() -> None:
    df = table([["positive"] * 3, ["negative"] * 3])
    df.index = ["a"] * 6
    assert list(df.parallel.vote("sentiment")["sentiment"]) == ["positive", "negative"]
    mixed = table([["positive", "positive"], ["negative", "negative"]]).iloc[[3, 0, 2, 1]]
    assert mixed.parallel.vote("sentiment")["sentiment"].to_dict() == {
        "i1": "negative",
        "i0": "positive",
    }


def test_votes_need_samples_and_a_column() -> None:
    df = table([["positive"]])
    with pytest.raises(ValueError, match="mood"):
        df.parallel.vote("mood")
    with pytest.raises(ValueError, match="repeat="):
        df.drop(columns="sample").parallel.vote("sentiment")


def test_rows_of_one_name_with_different_numbers_of_samples_do_not_mix() -> None:
    df = table([["positive"] * 3, ["positive"] + ["negative"] * 3])
    df.index = [7] * 7
    voted = df.parallel.vote("sentiment")
    assert voted["votes"].tolist() == [3, 4]
    assert voted["agreement"].tolist() == [1.0, 0.75]
