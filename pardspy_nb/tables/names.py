"""The names of a result's columns. A column of the user's keeps its name; if the run has a column
of the same name, the run's column gets a prefix: `run_`, or `run2_`, `run3_`, … if that is taken,
too, because the table is itself the result of a run."""

from __future__ import annotations

import difflib
import itertools
from collections.abc import Hashable, Iterable, Mapping
from typing import Any

from ..core.events import STATUSES
from ..signatures.fields import RESERVED

_MOST_NAMED = 30  # columns in a message
_MOST_STEPS = 50  # runs whose columns one frame may hold


class ColumnNames:
    """Gives each column of a run a name that is free.

    Args:
        taken: the names of the user's columns and index.

    Attributes:
        renamed: the names given to columns whose own name was taken, by their own name.
    """

    def __init__(self, taken: Iterable[Hashable]) -> None:
        self._first = {name for name in taken if name is not None}
        self._taken = set(self._first)
        self._given: set[str] = set()  # names of their own that columns of the run have
        self.renamed: dict[str, str] = {}

    def afresh(self) -> ColumnNames:
        """The same, with no name given yet: for a frame of all rows, however many frames of some
        rows were made before."""
        return ColumnNames(self._first)

    def of_inputs(self, names: Iterable[str]) -> list[str]:
        """The names of inputs of a stream, whose later rows may have further ones. An input whose
        name a column of the run has by now gets the prefix `input_`."""
        found = [f"input_{name}" if name in self._given else name for name in names]
        self._taken.update(found)
        return found

    def of(self, name: str) -> str:
        """The name of a column of the run."""
        if name not in self._taken and name not in self.renamed.values():
            self._given.add(name)
            return name
        if name not in self.renamed:
            self.renamed[name] = next(
                free
                for n in itertools.count(1)
                if (free := f"run{n if n > 1 else ''}_{name}") not in self._taken
                and free not in self.renamed.values()
            )
        return self.renamed[name]


def renamed_in(df: Any) -> Mapping[str, str]:
    """The names of the run's columns in a result that do not have their own names.

    They are in the frame's `attrs`. If these were lost (merge, csv), the run's columns are those
    with the last of the prefixes `run_`, `run2_`, … that a status column has.
    """
    about = df.attrs.get("pardspy")
    if about is not None:
        known: Mapping[str, str] = about.get("renamed", {})
        return known
    prefix = last_prefix(df)
    if not prefix:
        return {}
    found = {str(name)[len(prefix) :]: name for name in df.columns if str(name).startswith(prefix)}
    return {name: column for name, column in found.items() if name in df.columns}


def renamed_outputs(renamed: Mapping[str, str]) -> dict[str, str]:
    """Those of the renamed columns that are outputs."""
    return {name: new for name, new in renamed.items() if name not in RESERVED}


def last_prefix(df: Any) -> str:
    """The last prefix that a status column has; empty if there is none with a prefix."""
    prefixes = [f"run{n if n > 1 else ''}_" for n in range(1, _MOST_STEPS)]
    last = ""
    for prefix in prefixes:
        status = df.get(f"{prefix}status")
        if status is not None and status.dropna().astype(object).isin(STATUSES).all():
            last = prefix
    return last


def column_of(df: Any, name: str) -> Any:
    """The name, in this result, of a column of the run."""
    return renamed_in(df).get(name, name)


def own_names(df: Any) -> Any:
    """The result with the run's columns under their own names, without columns of the user's that
    have these names. The frame itself where nothing was renamed."""
    renamed = renamed_in(df)
    if not renamed:
        return df
    hidden = [name for name in renamed if name in df.columns]
    plain = df.drop(columns=hidden).rename(columns={new: name for name, new in renamed.items()})
    if (about := df.attrs.get("pardspy")) is not None:
        plain.attrs = {**df.attrs, "pardspy": {**about, "renamed": {}}}
    return plain


def no_column(df: Any, name: Any) -> str:
    """The words for a column that a frame does not have, with the nearest one that it has."""
    known = [str(column) for column in df.columns]
    near = difflib.get_close_matches(str(name), known, 1, 0.6)
    if not near:
        near = [column for column in known if column.lower() == str(name).lower()]
    hint = f"; did you mean {near[0]!r}?" if near else f"; it has {known[:_MOST_NAMED]}"
    return f"the frame has no column {name!r}{hint}"


def has_samples(df: Any) -> bool:
    """Whether a result has several samples of a row, which are not rows of their own."""
    column = column_of(df, "sample")
    return "pardspy" in df.attrs and column in df.columns and df[column].nunique() > 1
