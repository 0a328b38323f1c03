"""A result with human labels in the places of the model's."""

from __future__ import annotations

import pandas as pd

from .review import Review


def corrected(df: pd.DataFrame, output: str) -> pd.DataFrame:
    """The frame with the labels that humans decided in the places of the model's.

    Returns:
        A copy. The column `<output>_by` says who decided: the reviewers' names, `model`, or `in
        conflict` where reviewers differ and the model's answer stays.

    Raises:
        ValueError: as `review`.
    """
    looked = Review(df, output, n=1)
    values, who = looked.labels_at()
    fixed = df.copy()
    known = df[output].astype(object).tolist()
    merged = [old if new is None else new for old, new in zip(known, values, strict=True)]
    column = pd.Series(merged, index=df.index, dtype=object)
    if isinstance(df[output].dtype, pd.CategoricalDtype):
        categories = list(df[output].cat.categories)
        more = [v for v in dict.fromkeys(v for v in values if v is not None) if v not in categories]
        kind = pd.CategoricalDtype([*categories, *more], df[output].cat.ordered)
        fixed[output] = column.astype(kind)
    else:
        fixed[output] = column.astype(df[output].dtype)
    name = f"{output}_by"
    place = list(fixed.columns).index(output) + 1
    by = ["model" if w is None else w for w in who]
    if name in fixed.columns:
        fixed[name] = by
    else:
        fixed.insert(place, name, by)
    return fixed
