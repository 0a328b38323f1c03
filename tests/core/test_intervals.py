"""Intervals and quantiles."""

from __future__ import annotations

import pytest

from pardspy_nb.core.intervals import wilson
from pardspy_nb.runs.estimate import _t


@pytest.mark.parametrize(
    ("freedom", "t"), [(3, 3.182), (4, 2.776), (9, 2.262), (19, 2.093), (100, 1.984)]
)
def test_students_t_is_that_of_the_tables(freedom: int, t: float) -> None:
    assert _t(freedom) == pytest.approx(t, rel=0.005)


def test_wilsons_interval_is_that_of_the_textbook() -> None:
    low, share, high = wilson(1, 20)
    assert (low, share, high) == pytest.approx((0.00888, 0.05, 0.23613), abs=1e-4)
    assert wilson(0, 20).low == 0
