"""The true labels of a run's rows, if the user gives them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..signatures.fields import Field
from .inputs import RowBatch


def truths_of(truth: Any, batch: RowBatch, outputs: Mapping[str, Field]) -> dict[str, list[Any]]:
    """The true labels by output and position, in the spelling of the output's labels; None for a
    row without a true label.

    Args:
        truth: see `Options`.
        outputs: the outputs that the module declares.

    Raises:
        ValueError: there is no such column or output, the number of labels is not the number of
            rows, or no true label is a label of the output.
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


def by_index(labels: Any, index: Any) -> Any:
    """A Series with the same index values in another order is put in the order of the rows.
    Anything else is returned unchanged and is matched by position."""
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
            f"{list(field.labels)[:5]} have none in common; translate the true labels: "
            "truth=df['…'].map({…: …})"
        )
    return spelled


def _spelled(label: Any, field: Field | None) -> Any:
    if label is None or label != label or type(label).__name__ == "NAType":
        return None
    label = getattr(label, "value", label)
    spellings = field.spellings if field is not None else {}
    return spellings.get(str(label).strip().casefold(), label)
