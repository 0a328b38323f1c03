"""Values that carry an index go by it. Values without one (a list, an array) go by position."""

from __future__ import annotations

from collections.abc import Mapping, Sequence, Set
from typing import Any

_SHOWN = 5


def is_name(labels: Any) -> bool:
    """Whether this is the name of a column, and not the labels themselves."""
    return isinstance(labels, str | int)


def index_of(values: Any) -> Any:
    """The index of a Series or frame of pandas; None for anything else."""
    return getattr(values, "index", None) if hasattr(values, "iloc") else None


def by_index(values: Any, index: Any, what: str) -> Any:
    """A Series with its values in the order of `index`. It may have more labels than the index.

    Args:
        values: a Series; anything without an index is given back as it is.
        index: the labels of the rows; labels may repeat.
        what: the name of the values in an error.

    Raises:
        ValueError: the Series has no value for some of the labels, or two for one of them.
    """
    own = index_of(values)
    if own is None or own.equals(index):
        return values
    if not own.is_unique:
        raise ValueError(
            f"{what} goes by its index, which has labels more than once "
            f"({_listed(own[own.duplicated()].unique())}) and is not the index of the rows; pass "
            "the values by position with .tolist(), or an index without repeats"
        )
    known = index.isin(own)
    if not known.all():
        raise ValueError(
            f"{what} goes by its index, which lacks {int((~known).sum())} of the {len(index)} rows "
            f"({_listed(index[~known])}); pass the values by position with .tolist(), or give the "
            "Series the index of the rows"
        )
    return values.loc[index]


def _listed(labels: Any) -> str:
    shown = ", ".join(repr(label) for label in labels[:_SHOWN].tolist())
    return shown + (", …" if len(labels) > _SHOWN else "")


def refuse_unordered(labels: Any, what: str) -> None:
    """Refuse labels of no order, and tables. TypeError."""
    if isinstance(labels, Mapping | Set) or hasattr(labels, "columns"):
        raise TypeError(
            f"{what} is a {type(labels).__name__}: pass the name of a column, a Series, which goes "
            "by its index, or a list"
        )


def common_index(columns: Mapping[str, Any]) -> tuple[Mapping[str, Any], Any]:
    """Columns in one order, and the index of their rows.

    Series go by their index: the rows are those of the Series with the fewest rows, and the others
    must have all of its labels. All other columns stay as they are.

    Raises:
        ValueError: two Series have different rows.
    """
    indexed = {name: index for name, of in columns.items() if (index := index_of(of)) is not None}
    if not indexed:
        return columns, None
    index = min(indexed.values(), key=len)
    aligned = {
        name: by_index(of, index, f"the Series of {name!r}") if name in indexed else of
        for name, of in columns.items()
    }
    return aligned, index


def same_length(columns: Mapping[str, Sequence[Any]]) -> int:
    """The length that all columns have; 1 without a column.

    Raises:
        ValueError: they differ in length.
    """
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name}: {n}" for name, n in lengths.items())
        raise ValueError(f"the lists differ in length ({shown}); every list gives one value a row")
    return next(iter(lengths.values()), 1)
