"""Intervals of shares are those of `ppi-python`, the reference, where both are exact.

It is installed beside DSPy, because its wheel brings a package `tests` that hides ours.
"""

from __future__ import annotations

import numpy as np
import ppi_py
import pytest

from pardspy_nb.analysis.ppi import share_of


@pytest.mark.parametrize("n", [100, 200, 1000])
@pytest.mark.parametrize("level", [0.8, 0.95])
def test_equal_weights_agree_with_ppi_python(n: int, level: float) -> None:
    for seed in range(5):
        random = np.random.default_rng(seed)
        truth = (random.random(4000) < 0.4).astype(float)
        said = np.where(random.random(4000) < 0.2, 1 - truth, truth)
        found = share_of(truth[:n], said[:n], said[n:], None, level)
        of = truth[:n], said[:n], said[n:]
        low, high = ppi_py.ppi_mean_ci(*of, alpha=1 - level)
        assert found.method == "ppi++"
        assert found.share == pytest.approx(ppi_py.ppi_mean_pointestimate(*of).item(), abs=1e-9)
        assert (found.low, found.high) == pytest.approx((low.item(), high.item()), abs=1e-9)
