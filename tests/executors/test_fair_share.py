"""How rows in flight are shared out among workers."""

from __future__ import annotations

import random
from collections import Counter
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from pardspy_nb.executors.cluster.fair_share import FairShare, apportioned

SITES = st.dictionaries(st.sampled_from("abcdefg"), st.integers(0, 40), max_size=7)


@given(st.integers(0, 100), SITES)
def test_shares_are_even_and_nothing_is_left_over(workers: int, wanted: dict[str, int]) -> None:
    shares = apportioned(workers, wanted)
    assert sum(shares.values()) == min(workers, sum(wanted.values()))
    assert all(share <= wanted[worker] for worker, share in shares.items())
    short = [shares[worker] for worker in wanted if shares[worker] < wanted[worker]]
    # who has less than it wants has at most one less than anybody
    assert not short or min(short) >= max(shares.values()) - 1


@given(
    st.integers(1, 60),
    st.lists(st.tuples(SITES, st.sets(st.sampled_from("abcdefg"))), max_size=12),
    st.randoms(use_true_random=False),
)
def test_shares_never_add_up_to_more_than_there_is(
    workers: int, steps: Any, luck: random.Random
) -> None:
    """Whatever workers want, how slowly they follow, and whichever leave."""
    shares, follows = FairShare(), Counter[str]()
    for wanted, gone in steps:
        for worker in gone:
            shares.leave(worker)
            follows.pop(worker, None)
        for worker, share in shares.split(workers, wanted).items():
            follows[worker] = max(follows[worker], share)  # more is taken at once
        for worker in list(follows):
            if luck.random() < 0.5:  # less once rows in flight have finished
                follows[worker] = shares.of(worker)
                shares.confirm(worker, shares.of(worker))
        assert sum(follows.values()) <= workers
