"""How far two sides agree on labels."""

from __future__ import annotations

from typing import Any

import pandas as pd

from ..core.labels import label_key


def agreement_of(a: pd.Series, b: pd.Series) -> dict[str, Any]:
    """Of the rows that both sides have: `rows`, the `agreement` (a share), and Cohen's `kappa`
    (1960), None where chance alone makes them agree."""
    both = a.index.intersection(b.index)
    pairs = [(label_key(x), label_key(y)) for x, y in zip(a[both], b[both], strict=True)]
    n = len(pairs)
    alike = sum(x == y for x, y in pairs) / n
    shares_a = pd.Series([x for x, _ in pairs]).value_counts(normalize=True)
    shares_b = pd.Series([y for _, y in pairs]).value_counts(normalize=True)
    by_chance = float(shares_a.mul(shares_b, fill_value=0.0).sum())
    kappa = None if by_chance >= 1 else (alike - by_chance) / (1 - by_chance)
    return {"rows": n, "agreement": alike, "kappa": kappa}
