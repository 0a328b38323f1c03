"""The vote of several samples of a row."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd


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
        ValueError: the frame has no samples, or no such column.
    """
    if "sample" not in df.columns:
        raise ValueError("a vote needs samples: run_parallel(…, repeat=5)")
    if column not in df.columns:
        raise ValueError(f"the frame has no column {column!r}; it has {list(df.columns)}")
    rows = _rows(df)
    firsts = np.flatnonzero(~pd.Series(rows).duplicated().to_numpy())
    labels = df[column].astype(object).where(df["status"].eq("ok") & df[column].notna(), None)
    order = _order(df[column])
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
    names = list(order)
    chosen = [names[w] if voted_on else None for w, voted_on in zip(winners, given, strict=True)]
    carried = df.attrs.get("pardspy", {}).get("outputs", [column])
    front = [n for n in df.columns[: df.columns.get_loc("sample")] if n not in {*carried, column}]
    voted = df.iloc[firsts][front].copy()
    kind: Any = df[column].dtype
    voted[column] = pd.array(chosen, dtype=kind)
    voted["votes"] = votes
    voted["agreement"] = pd.array(np.where(given, most / np.maximum(votes, 1), np.nan), "Float64")
    voted["entropy"] = pd.array(
        np.where(given, np.abs(-(shares * logs).sum(axis=1)), np.nan), "Float64"
    )
    tied = (counts.to_numpy() == most[:, None]).sum(axis=1) > 1
    voted["tied"] = given & tied
    return voted


def _rows(df: pd.DataFrame) -> Any:
    """The number of each sample's input row, by order of appearance. Samples with the same index
    value belong to one input row. If that would give a row the same sample number twice, a new row
    begins where the index changes or the sample number does not increase."""
    names, samples = pd.factorize(df.index)[0], df["sample"].to_numpy()
    if not pd.MultiIndex.from_arrays([names, samples]).has_duplicates:
        return pd.factorize(names)[0]
    begins = (names[1:] != names[:-1]) | (samples[1:] <= samples[:-1])
    return np.concatenate([[0], np.cumsum(begins)])


def _order(values: pd.Series) -> dict[Any, int]:
    """The labels in declared order, or in order of appearance if none are declared."""
    declared = isinstance(values.dtype, pd.CategoricalDtype)
    names = values.cat.categories if declared else values.dropna().unique()
    return {name: i for i, name in enumerate(names)}
