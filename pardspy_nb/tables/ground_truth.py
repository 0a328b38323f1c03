"""The true labels of a run's rows, where the user knows them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..signatures.fields import Field
from .inputs import RowBatch


def truths_of(truth: Any, batch: RowBatch, outputs: Mapping[str, Field]) -> dict[str, list[Any]]:
    """The true labels by output and position, spelled as the labels are; None where there is none.

    Args:
        truth: see `Options`.
        outputs: those that the module declares.

    Raises:
        ValueError: no such column or output, not one label a row, or none that is one of the
            output's.
    """
    if truth is None:
        return {}
    if not isinstance(truth, Mapping):
        classes = [name for name, field in outputs.items() if field.labels is not None]
        if len(classes) != 1:
            raise ValueError(
                f"truth is of which output? The module has the class outputs {classes}"
                ": truth={'…': 'column'}"
            )
        truth = {classes[0]: truth}
    if outputs and (unknown := [name for name in truth if name not in outputs]):
        raise ValueError(f"truth names {unknown}; the module has {list(outputs)}")
    if batch.positions is None:
        raise ValueError("truth needs rows that are all at hand; pass a list or a table")
    rows = batch.positions
    return {name: _labels(of, batch, rows, outputs.get(name)) for name, of in truth.items()}


def by_index(labels: Any, index: Any) -> Any:
    """A Series in the order of the rows, where it names the same rows in another order; anything
    else as it is, by position."""
    own: Any = getattr(labels, "index", None)
    if index is None or not hasattr(labels, "reindex") or own.equals(index):
        return labels
    same = own.is_unique and index.is_unique and len(own) == len(index) and own.isin(index).all()
    return labels.reindex(index) if same else labels


def _labels(of: Any, batch: RowBatch, rows: int, field: Field | None) -> list[Any]:
    if isinstance(of, str):
        columns = list(getattr(batch.table, "columns", ()))
        if of not in columns:
            raise ValueError(f"truth names the column {of!r}; the input table has {columns}")
        of = batch.table[of]
    of = by_index(of, batch.index)
    labels = list(of.tolist() if hasattr(of, "tolist") else of)
    if len(labels) != rows:
        raise ValueError(f"truth has {len(labels)} labels for {rows} rows")
    spelled = [_spelled(label, field) for label in labels]
    known = {label for label in spelled if label is not None}
    if field is not None and field.labels is not None and known and not known & {*field.labels}:
        raise ValueError(
            f"the true labels {sorted(map(str, known))[:5]} and those of {field.name!r} "
            f"{list(field.labels)[:5]} have none in common; give one the names of the other: "
            "truth=df['…'].map({…: …})"
        )
    return spelled


def _spelled(label: Any, field: Field | None) -> Any:
    if label is None or label != label or type(label).__name__ == "NAType":
        return None
    label = getattr(label, "value", label)
    spellings = field.spellings if field is not None else {}
    return spellings.get(str(label).strip().casefold(), label)
