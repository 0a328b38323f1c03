"""The share of each label, corrected by human labels, with an interval."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import pandas as pd

from ..core.intervals import wilson
from ..core.labels import label_key, label_text, plain_label, unknown_labels
from ..display import html
from ..tables.by_index import index_of, is_name
from ..tables.frame import class_outputs
from ..tables.names import column_of, has_samples, no_column
from .ppi import share_of
from .review import Review

_FEW_BY_HAND = 20
_MOST_LABELS = 30  # of a column that declares none
_WITHOUT_TRUTH = (
    "The intervals hold if the model is always right: its errors are not in them. Label some rows "
    "by hand (df.parallel.review) and pass truth=."
)
_WITH_TRUTH = (
    "The intervals hold although the model errs: prediction-powered inference (PPI++), corrected "
    "by the rows that a human labelled."
)


class _Row(NamedTuple):
    label: Any
    group: Any
    naive: float
    share: float
    low: float
    high: float
    n_model: int
    n_human: int
    method: str


class Shares:
    """The result of `shares`; a notebook shows it as HTML.

    Attributes:
        frame: one row for each group and label: `label`, `group` (missing without `by`), `naive`
            (the share as the model counted it), `share` (corrected, if there are human labels),
            `low`, `high`, `n_model` (rows with an answer), `n_human` (rows of these with a human's
            label that count), `method` (`wilson`: the model's count alone; `ppi++`, `ppi++ (few)`:
            see `ppi`; `human sample`: the human's labels alone).
        level: the confidence of the intervals.
        in_words: what the intervals mean.
    """

    def __init__(self, frame: pd.DataFrame, output: str, level: float, in_words: str) -> None:
        self.frame, self.output, self.level, self.in_words = frame, output, level, in_words

    def __repr__(self) -> str:
        return f"{self.frame.to_string(index=False)}\n{self.in_words}"

    def _repr_html_(self) -> str:
        has_groups = bool(self.frame["group"].notna().any())
        head = [*(["group"] if has_groups else []), self.output, "share", "model's count", "rows"]
        rows = [
            [
                *([str(row.group)] if has_groups else []),
                str(row.label),
                "–" if np.isnan(row.share) else html.share(row.low, row.share, row.high),
                "–" if np.isnan(row.naive) else f"{row.naive:.1%}",
                f"{row.n_model:,}" + (f", {row.n_human:,} by hand" if row.n_human else ""),
            ]
            for row in (_Row(*values) for values in self.frame.itertuples(index=False))
        ]
        words = f"{self.in_words} Confidence {self.level:.0%}."
        return html.box([html.table(head, rows), html.faint(words)], html.BLUE)


def shares(
    df: pd.DataFrame,
    output: str | None = None,
    truth: Any = None,
    by: str | None = None,
    level: float = 0.95,
) -> Shares:
    """How large the share of each label is.

    Without `truth` it is the model's count, with Wilson's interval (1927), which knows nothing of
    the model's errors. With human labels of some rows it is corrected by them, and the interval
    holds although the model errs (prediction-powered inference, see `ppi`). Rows without an answer
    do not count.

    Args:
        df: a result.
        output: the class output; None for the only one.
        truth: human labels: a `Review`, whose picks may have unequal probabilities; the name of a
            column, or a Series, which goes by its index. A missing label is a row that no human has
            labelled; the labelled rows must be a random sample.
        by: a column; shares for each of its values.
        level: the confidence of the intervals, in (0, 1).

    Raises:
        ValueError: no such column, no rows with an answer, or a Series that does not fit the index.
    """
    if not 0 < level < 1:
        raise ValueError(f"level must be between 0 and 1, got {level!r}")
    if not isinstance(df, pd.DataFrame):
        raise TypeError(f"the frame comes first, not a {type(df).__name__}: pn.shares(df, …)")
    if has_samples(df):
        raise ValueError(
            "this frame has several samples of each row, which are not rows of their own: take the "
            "votes, df.parallel.vote('…')"
        )
    output = _only_class(df) if output is None else output
    for name in [output, *([] if by is None else [by])]:
        if name not in df.columns:
            raise ValueError(no_column(df, name))
    status = column_of(df, "status")
    answered = df[output].notna().to_numpy().copy()
    is_own = "pardspy" not in df.attrs or output in df.attrs["pardspy"].get("outputs", [output])
    if status in df.columns and is_own:  # a column of the user's counts in every row
        answered &= df[status].eq("ok").to_numpy()
    if not answered.any():
        raise ValueError("no row has an answer")
    declared = class_outputs(df).get(output, []) if "pardspy" in df.attrs else []
    _refuse_no_labels(df[output][answered], output, declared)
    key = _key_for(declared)
    human, weights = _human_labels(df, output, truth, key)
    said = np.array([key(v) if ok else "" for v, ok in zip(df[output], answered, strict=True)])
    counted = df[output][answered].astype(object).value_counts().index
    names = {key(plain_label(v)): plain_label(v) for v in [*declared, *counted]}
    for found in human.values():
        names.setdefault(found, found)
    groups = [(None, np.ones(len(df), dtype=bool))]
    if by is not None:
        values = df[by].astype(object)
        groups = [(v, values.eq(v).to_numpy()) for v in pd.unique(values[values.notna()])]
    rows = [
        _row(name, group, key, said, human, weights, answered & inside, level, truth is not None)
        for group, inside in groups
        for key, name in names.items()
        if (answered & inside).any()
    ]
    if unknown := [v for v in human.values() if declared and v not in map(key, declared)]:
        warnings.warn(unknown_labels(unknown, declared), UserWarning, stacklevel=2)
    words = [_WITHOUT_TRUTH] if truth is None else _words_with(truth, len(human))
    if n_open := int((~answered).sum()):
        words.append(f"{n_open:,} rows without an answer are left out.")
    if by is not None and (n_apart := int((answered & df[by].isna().to_numpy()).sum())):
        words.append(f"{n_apart:,} rows without a {by} are left out.")
    return Shares(pd.DataFrame(rows, columns=list(_Row._fields)), output, level, " ".join(words))


def _words_with(truth: Any, n_human: int) -> list[str]:
    """What intervals mean that human labels have corrected."""
    words = [_WITH_TRUTH]
    if not isinstance(truth, Review):
        words.append("That needs labelled rows that are a random sample of all.")
    if n_human < _FEW_BY_HAND:
        words.append(f"Only {n_human} rows are labelled by hand.")
    return words


def _row(
    name: Any,
    group: Any,
    key: str,
    said: Any,
    human: dict[int, str],
    weights: dict[int, float] | None,
    counts: Any,
    level: float,
    has_truth: bool,
) -> _Row:
    is_label = (said == key) & counts
    n = int(counts.sum())
    naive = float(is_label.sum() / n)
    known = [place for place in human if counts[place]]
    if not has_truth:
        found = wilson(int(is_label.sum()), n, level)
        return _Row(name, group, naive, naive, found.low, found.high, n, 0, "wilson")
    is_rest = counts.copy()
    if weights is None:
        is_rest[known] = False
    w = None if weights is None else np.array([weights[place] for place in known])
    by_human = np.array([float(human[place] == key) for place in known])
    corrected = share_of(
        by_human, is_label[known].astype(float), is_label[is_rest].astype(float), w, level
    )
    return _Row(name, group, naive, *corrected[:3], n, len(known), corrected.method)


def _refuse_no_labels(values: pd.Series, output: Any, declared: Sequence[Any]) -> None:
    """Refuse a column of lists, or of nearly as many values as rows. ValueError."""
    if values.map(lambda v: isinstance(v, list | tuple | dict | np.ndarray)).any():
        raise ValueError(
            f"column {output!r} holds lists or records; make one row an item first, "
            f"df.parallel.explode({output!r})"
        )
    if not declared and (n := values.nunique()) > _MOST_LABELS and n > len(values) / 2:
        raise ValueError(
            f"column {output!r} has {n:,} different values in {len(values):,} rows: "
            "shares are of labels"
        )


def _only_class(df: pd.DataFrame) -> Any:
    classes = list(class_outputs(df)) if "pardspy" in df.attrs else []
    if len(classes) != 1:
        raise ValueError(f"name the output whose labels count, one of {list(df.columns)}")
    return classes[0]


def _human_labels(
    df: pd.DataFrame, output: str, truth: Any, key: Callable[[Any], str]
) -> tuple[dict[int, str], dict[int, float] | None]:
    """The human labels by position, and the weights of these rows; None if all weigh the same."""
    if truth is None:
        return {}, None
    if isinstance(truth, Review):
        if truth.output != output:
            raise ValueError(f"the review is of {truth.output!r}, not of {output!r}")
        own = truth.on(df)
        places, inverse = own.sample()
        labels = own.labels_at()[0]
        weights = None if inverse is None else dict(zip(places, inverse, strict=True))
        return {place: key(labels[place]) for place in places}, weights
    if is_name(truth):
        if truth not in df.columns:
            raise ValueError(no_column(df, truth))
        truth = df[truth]
    index = index_of(truth)
    if index is None:
        raise TypeError(
            f"truth is a {type(truth).__name__}: pass a Review, a column's name, or a Series, "
            "which goes by its index"
        )
    if not index.equals(df.index):
        if not (index.is_unique and df.index.is_unique):
            raise ValueError("truth goes by its index, whose labels, or the frame's, repeat")
        if not index.isin(df.index).any():
            raise ValueError("truth goes by its index, which has no row in common with the frame")
        truth = truth.reindex(df.index)
    is_known = truth.notna().to_numpy()
    return {
        int(place): key(plain_label(truth.iloc[place])) for place in np.flatnonzero(is_known)
    }, None


def _key_for(declared: Sequence[Any]) -> Callable[[Any], str]:
    """What equal labels have in common: case and space do not count, unless labels differ in them
    only."""
    folds_alike = len({label_key(label) for label in declared}) < len(declared)
    return label_text if folds_alike else label_key
