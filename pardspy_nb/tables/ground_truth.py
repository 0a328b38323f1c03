"""The true labels of a run's rows, if the user gives them."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import Any

import pandas as pd

from ..core.labels import keys_of, label_key, plain_label, unknown_labels
from ..signatures.fields import Field
from .by_index import by_index, is_name, refuse_unordered
from .row_batch import RowBatch
from .values import is_missing


def truths_of(truth: Any, batch: RowBatch, outputs: Mapping[str, Field]) -> dict[str, list[Any]]:
    """The true labels by output and position, in the spelling of the output's labels; None for a
    row without a true label.

    Args:
        truth: see `Options`.
        outputs: the outputs that the module declares.

    Raises:
        ValueError: there is no such column or output, the number of labels is not the number of
            rows, a Series lacks rows, or no true label is a label of the output.
    """
    if truth is None:
        return {}
    if not isinstance(truth, Mapping):
        classes = [name for name, field in outputs.items() if field.labels is not None]
        if len(classes) != 1:
            raise ValueError(
                "truth does not name its output, and the module has the class outputs "
                f"{classes}: pass truth={{'…': 'column'}}"
            )
        truth = {classes[0]: truth}
    if outputs and (unknown := [name for name in truth if name not in outputs]):
        raise ValueError(f"truth names {unknown}; the module has {list(outputs)}")
    if batch.positions is None:
        raise ValueError("truth needs rows that are all at hand: pass a list or a table")
    rows = batch.positions
    return {name: _labels(of, batch, rows, outputs.get(name)) for name, of in truth.items()}


def _labels(of: Any, batch: RowBatch, rows: int, field: Field | None) -> list[Any]:
    columns = list(getattr(batch.table, "columns", ()))
    if is_name(of):
        if batch.table is None:
            raise ValueError(
                f"truth names the column {of!r}, and the rows are no table: pass a DataFrame, or "
                "the labels themselves"
            )
        if of not in columns:
            raise ValueError(f"truth names the column {of!r}; the input table has {columns}")
        of = batch.table[of]
    refuse_unordered(of, "truth")
    index = pd.RangeIndex(rows) if batch.index is None else batch.index
    of = by_index(of, index, "truth")
    labels = list(of.tolist() if hasattr(of, "tolist") else of)
    if len(labels) != rows:
        raise ValueError(f"truth has {len(labels)} labels for {rows} rows")
    known = [label for label in labels if not is_missing(label)]
    if field is None or field.labels is None:
        return [None if is_missing(label) else plain_label(label) for label in labels]
    keys = keys_of(field.labels, field.aliases)
    unknown = [label for label in known if label_key(label) not in keys]
    if known and len(unknown) == len(known):
        raise ValueError(
            f"the true labels {sorted(set(map(str, known)))[:5]} and those of {field.name!r} "
            f"{list(field.labels)[:5]} have none in common; translate the true labels: "
            "truth=df['…'].map({…: …})"
        )
    if unknown:
        warnings.warn(unknown_labels(unknown, field.labels), UserWarning, stacklevel=2)
    return [None if is_missing(label) else keys.get(label_key(label), label) for label in labels]
