"""The vote of several samples of a row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from ..tables.frame import checksums, class_outputs
from ..tables.names import ColumnNames, column_of, no_column


def vote(df: pd.DataFrame, column: str) -> pd.DataFrame:
    """The samples' vote on an output: one row for each input row.

    Args:
        df: a result with samples (`repeat=`).
        column: the output; samples without an answer have no vote.

    Returns:
        A frame with the input's index, in its order: the columns before the outputs, then `column`
        (the label with most votes; in a tie the label declared first, or seen first if none is
        declared), `votes` (the number of samples with an answer), `agreement` (the share of those
        samples in [0, 1] that have this label), `entropy` (of the labels' shares, in bits) and
        `tied` (whether another label has as many votes). Without any vote, `column`, `agreement`
        and `entropy` are missing.

    Raises:
        ValueError: the frame has no samples, or no such column; or the index does not tell the
            rows apart, and the frame is not as the run made it.
    """
    sample = column_of(df, "sample")
    if sample not in df.columns:
        raise ValueError("a vote needs samples: run_parallel(…, repeat=5)")
    if column not in df.columns:
        raise ValueError(no_column(df, column))
    rows = _rows(df, df[sample].to_numpy())
    firsts = np.flatnonzero(~pd.Series(rows).duplicated().to_numpy())
    if df[column].map(lambda v: isinstance(v, list | dict | set)).any():
        raise ValueError(f"the values of {column!r} are lists or dicts, and a vote needs labels")
    has_vote = df[column_of(df, "status")].eq("ok") & df[column].notna()
    labels = df[column].astype(object).where(has_vote, None)
    order = _order(df, column)
    table = pd.crosstab(rows, labels.map(order.__getitem__, na_action="ignore").to_numpy())
    counts = table.reindex(range(len(firsts)), fill_value=0).reindex(
        columns=range(len(order)), fill_value=0
    )
    votes = counts.sum(axis=1).to_numpy()
    given = votes > 0
    most = counts.max(axis=1).to_numpy() if len(order) else np.zeros(len(firsts))
    shares = counts.to_numpy() / np.maximum(votes, 1)[:, None]
    logs = np.log2(shares, where=shares > 0, out=np.zeros_like(shares))
    winners = counts.to_numpy().argmax(axis=1) if len(order) else np.zeros(len(firsts), int)
    known = list(order)
    chosen = [known[w] if voted_on else None for w, voted_on in zip(winners, given, strict=True)]
    outputs = df.attrs.get("pardspy", {}).get("outputs", [column])
    end = df.columns.get_loc(sample)
    front = [name for name in df.columns[:end] if name not in {*outputs, column}]
    voted = df.iloc[firsts][front].copy()
    kind: Any = df[column].dtype
    tied = (counts.to_numpy() == most[:, None]).sum(axis=1) > 1
    made = {
        "votes": votes,
        "agreement": pd.array(np.where(given, most / np.maximum(votes, 1), np.nan), "Float64"),
        "entropy": pd.array(
            np.where(given, np.abs(-(shares * logs).sum(axis=1)), np.nan), "Float64"
        ),
        "tied": given & tied,
    }
    voted[column] = pd.array(chosen, dtype=kind)
    names = ColumnNames(voted.columns)
    for name, values in made.items():
        voted[names.of(name)] = values
    return voted


def _rows(df: pd.DataFrame, samples: Any) -> Any:
    """The number of each sample's input row, by order of appearance. Samples with the same index
    value belong to one input row, unless the input's index had values more than once."""
    about = df.attrs.get("pardspy", {})
    counts = about.get("samples")
    if counts is not None and about.get("order") == checksums(df).order:
        return np.repeat(np.arange(len(counts)), counts)
    names = pd.factorize(df.index)[0]
    has_repeats = pd.MultiIndex.from_arrays([names, samples]).has_duplicates
    if counts is None and not has_repeats:
        return pd.factorize(names)[0]
    # rows as a run makes them: the samples of a row follow each other, from 0
    begins = samples == 0
    follows = (names[1:] == names[:-1]) & (samples[1:] == samples[:-1] + 1)
    if counts is None and begins[0] and (begins[1:] | follows).all():
        return np.cumsum(begins) - 1
    raise ValueError(
        "two input rows have the same index value, so the samples of one cannot be told from "
        "those of the other: run the rows with an index without repeats (df.reset_index()), or "
        "vote before the result is changed"
    )


def _order(df: pd.DataFrame, column: Any) -> dict[Any, int]:
    """The labels in declared order, or in order of appearance if none are declared."""
    values = df[column]
    names = class_outputs(df).get(column)
    if names is None:
        declared = isinstance(values.dtype, pd.CategoricalDtype)
        names = list(values.cat.categories if declared else values.dropna().unique())
    return {name: i for i, name in enumerate(names)}
