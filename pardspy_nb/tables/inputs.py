"""Any input shape in, an iterator of rows out. Bad input is refused before a call is made.

The rows are the run's own: values that can be changed are copied, so that a later change of the
user's objects is not seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from dataclasses import replace
from typing import Any

from ..core.events import Row
from ..core.image_sources import image_sources
from ..core.ownership import are_immutable, one_shot_in, own_column, own_row
from ..signatures.fields import Field, Inputs
from .by_index import common_index, index_of, same_length
from .names import ColumnNames
from .readers import own_table
from .row_batch import RowBatch, Shape
from .values import blank_rows, is_blank, is_missing

ONLY_BLANK = (
    "every row has a required input that is missing or blank, so there is nothing to ask; "
    "blank='ask' asks them all the same"
)


def expand(data: Any, inputs: Inputs, shape: Shape) -> RowBatch:
    """Rows from any supported shape (see `run_parallel`).

    Raises:
        ValueError: unequal lengths, missing or unknown inputs, wrong values, only blank rows.
        TypeError: a shape that is not supported.
    """
    if shape.columns and not is_table(data):
        raise ValueError("columns= works only with a table; rename the inputs instead")
    if is_table(data):
        return _from_table(data, inputs, shape)
    data = _example_inputs(data) or data
    if isinstance(data, Mapping):
        if shape.batch_key in data:
            return _from_explicit(data, inputs, shape)
        return _from_mapping(data, inputs, shape)
    if isinstance(data, Iterator):
        return _from_stream(data, inputs, shape)
    values = _as_list(data)
    if values is None:
        raise TypeError(
            f"cannot make rows of {type(data).__name__}; pass a dict of lists, a list, a Series, "
            "a DataFrame, a path, or an iterator of dicts"
        )
    values = [_example_inputs(v) or v for v in values]
    if values and all(isinstance(v, Mapping) for v in values):
        return _from_dicts(values, inputs, shape)
    index = index_of(data)
    if not values:
        return _from_columns({name: [] for name in inputs.fields}, 0, inputs, shape, index=index)
    name = _only_input(inputs)
    return _from_columns({name: values}, len(values), inputs, shape, index=index)


def again(
    table: Any, inputs: Inputs, numbers: Sequence[int], samples: Sequence[int], shape: Shape
) -> RowBatch:
    """The rows of a table for another run. The i-th row gets the i-th number and sample number."""
    batch = _from_table(table, inputs, shape, may_be_blank=True)
    rows = (
        row._replace(number=number, sample=sample)
        for row, number, sample in zip(batch.rows, numbers, samples, strict=True)
    )
    return replace(batch, rows=rows)


def is_table(data: Any) -> bool:
    """Whether this is a frame of pandas."""
    return hasattr(data, "columns") and hasattr(data, "iloc")


def _example_inputs(value: Any) -> Mapping[str, Any] | None:
    """The inputs of a `dspy.Example`: those that it declares, else all its values."""
    if type(value) is str or not callable(getattr(value, "toDict", None)):
        return None
    declares = getattr(value, "_input_keys", None) is not None
    return dict(value.inputs() if declares else value.toDict())


def _as_list(value: Any) -> list[Any] | None:
    """A list, tuple, range, Series, array or pyarrow column as a list; None for a scalar."""
    if isinstance(value, str | bytes | Mapping):
        return None
    if isinstance(value, Sequence):
        return list(value)
    if hasattr(value, "columns"):  # a table is no column
        return None
    for method in ("tolist", "to_pylist", "to_list"):
        if hasattr(value, method) and getattr(value, "ndim", True):
            listed = getattr(value, method)()
            return listed if isinstance(listed, list) else None
    return None


def _only_input(inputs: Inputs) -> str:
    required = inputs.required
    if len(required) == 1:
        return required[0]
    if not required and len(inputs.fields) == 1:
        return next(iter(inputs.fields))
    raise ValueError(
        f"a plain list fits a module with one input; this one takes {list(inputs.fields)}: pass "
        "a dict of lists, e.g. {" + ", ".join(f"{n!r}: […]" for n in inputs.fields) + "}"
    )


def feeding(names: Sequence[Any], inputs: Inputs, columns: Mapping[str, Any]) -> dict[str, Any]:
    """The table column of each input, by input. ValueError if a column is missing."""
    if len(set(names)) < len(names):
        raise ValueError("the DataFrame has columns of the same name")
    if unknown := [n for n in columns if n not in inputs.fields and not inputs.open]:
        raise ValueError(
            f"columns= names inputs the module does not take: {unknown}; it takes "
            f"{list(inputs.fields)}"
        )
    if absent := [c for c in columns.values() if c not in names]:
        raise ValueError(f"columns= names columns the DataFrame lacks: {absent}; it has {names}")
    taken = list(inputs.fields)
    if inputs.open:  # every other column, too, if its name can be a keyword's
        fed = set(columns.values())
        taken += [n for n in columns if n not in taken]
        taken += [n for n in names if isinstance(n, str) and n not in taken and n not in fed]
    feeding = {n: columns.get(n, n) for n in taken if columns.get(n, n) in names}
    if missing := [n for n in inputs.required if n not in feeding]:
        only = str(names[0]) if len(names) == 1 else ""
        if sign := next((sign for sign in ";\t|" if sign in only), ""):
            raise ValueError(
                f"the file's columns are separated by {sign!r}, not by commas: read it first, "
                f"pd.read_csv(path, sep={sign!r}, dtype=str)"
            )
        raise ValueError(
            f"the table has no column for {missing}; it has {list(names)}: name the column with "
            f"columns={{{missing[0]!r}: …}}"
        )
    return feeding


def _from_table(
    table: Any, inputs: Inputs, shape: Shape, *, may_be_blank: bool = False
) -> RowBatch:
    table = own_table(table)
    feeds = feeding(list(table.columns), inputs, shape.columns)
    batch = _from_columns(
        {name: table[column].tolist() for name, column in feeds.items()},
        len(table),
        inputs,
        shape,
        index=table.index,
        may_be_blank=may_be_blank,
    )
    other = {name: column for name, column in feeds.items() if name != column}
    names = ColumnNames([*table.columns, *table.index.names])
    return replace(batch, table=table, feeds=other, column_names=names)


def rows_of_chunk(
    values: Mapping[str, list[Any]], length: int, inputs: Inputs, shape: Shape, first: int
) -> Iterator[Row]:
    """The rows of a table's chunk that begins at position `first`. A ValueError names the rows
    that have a wrong value."""
    plain = replace(shape, repeat=1)
    batch = _from_columns(values, length, inputs, plain, first=first, may_be_blank=True)
    rows = list(batch.rows)
    blank = {row.position for row in rows if row.is_blank}
    return _samples((row.inputs for row in rows), shape.repeat, blank, first)


def _from_explicit(data: Mapping[str, Any], inputs: Inputs, shape: Shape) -> RowBatch:
    key = shape.batch_key
    rows = data[key]
    if isinstance(rows, Sequence) and not isinstance(rows, str):
        rows = [_example_inputs(row) or row for row in rows]
    if not isinstance(rows, list) or not all(isinstance(r, Mapping) for r in rows):
        raise ValueError(f"{key!r} must hold a list of input dicts")
    shared = {name: value for name, value in data.items() if name != key}
    return _from_dicts([{**shared, **row} for row in rows], inputs, shape)


def _from_mapping(data: Mapping[str, Any], inputs: Inputs, shape: Shape) -> RowBatch:
    _check_names(data.keys(), inputs)
    data, index = common_index(data)
    listed: dict[str, list[Any]] = {}
    for name, value in data.items():
        values = _as_list(value)
        if values is None:
            _refuse_unordered(name, value, inputs.fields.get(name))
        elif not _is_one_value(values, inputs.fields.get(name)):
            listed[name] = values
    length = same_length(listed)
    broadcast = {n: listed[n] if n in listed else [v] * length for n, v in data.items()}
    return _from_columns(broadcast, length, inputs, shape, index=index)


def _refuse_unordered(name: str, value: Any, declared: Field | None) -> None:
    """Refuse what is neither one value nor a list of values. TypeError."""
    is_set = isinstance(value, Set)  # also the keys and items of a dict
    is_value = is_set and declared is not None and declared.is_listlike
    is_view = type(value).__name__ == "dict_values" or hasattr(value, "columns")
    if (is_set and not is_value) or is_view or isinstance(value, Iterator):
        what = "has no order" if is_set else "is not a list"
        raise TypeError(
            f"input {name!r} is a {type(value).__name__}, which {what}: pass list(…) for one value "
            f"a row, or [{{…}}] for one row"
        )


def _is_one_value(values: list[Any], declared: Field | None) -> bool:
    """Whether a list is one row's value: the field is a list, and no item is itself a list."""
    return bool(
        declared and declared.is_listlike and not any(isinstance(v, list | tuple) for v in values)
    )


def _from_dicts(rows: Sequence[Mapping[str, Any]], inputs: Inputs, shape: Shape) -> RowBatch:
    names = [n for n in inputs.fields if any(n in row for row in rows)]
    for row in rows:
        names += [n for n in row if inputs.open and n not in names]
    for position, row in enumerate(rows):
        _check_names(row.keys(), inputs, f"row {position}")
    blank = _blank_in({n: [row.get(n) for row in rows] for n in names}, inputs, shape)
    if shape.skips_blank:
        blank |= {i for i, row in enumerate(rows) if _is_blank_for_its_module(row)}
    _refuse_only_blank(blank, len(rows))
    owned = [_without_missing(own_row(row), inputs) for row in rows]
    return RowBatch(
        _samples(owned, shape.repeat, blank),
        len(rows) * shape.repeat,
        names,
        column_names=ColumnNames(names),
        repeat=shape.repeat,
        positions=len(rows),
    )


def _is_blank_for_its_module(row: Mapping[str, Any]) -> bool:
    """Whether an input is blank that the row's own module requires (see `pairs.PairInputs`)."""
    return any(is_blank(row.get(name)) for name in getattr(row, "required", ()))


def _from_stream(rows: Iterator[Any], inputs: Inputs, shape: Shape) -> RowBatch:
    blank: set[int] = set()  # of the rows pulled last

    def checked() -> Iterator[Mapping[str, Any]]:
        for position, row in enumerate(rows):
            row = _example_inputs(row) or row
            if not isinstance(row, Mapping):
                row = {_only_input(inputs): row}
            _check_names(row.keys(), inputs, f"row {position}")
            blank.clear()
            blank.update(_blank_in({n: [row[n]] for n in row}, inputs, shape, position))
            yield _without_missing(own_row(row), inputs)

    names = list(inputs.fields)
    return RowBatch(
        _samples(checked(), shape.repeat, blank),
        None,
        names,
        column_names=ColumnNames(names),
        blocking=True,
        repeat=shape.repeat,
    )


def _from_columns(
    columns: Mapping[str, list[Any]],
    length: int,
    inputs: Inputs,
    shape: Shape,
    *,
    index: Any = None,
    first: int = 0,
    may_be_blank: bool = False,
) -> RowBatch:
    _check_names(columns.keys(), inputs)
    blank = _blank_in(columns, inputs, shape, first)
    if not may_be_blank:
        _refuse_only_blank(blank, length)
    columns = {name: own_column(values) for name, values in columns.items()}
    names = [n for n in inputs.fields if n in columns]
    names += [n for n in columns if n not in names]
    tuples = zip(*(columns[n] for n in names), strict=True) if names else ((),) * length
    rows: Iterable[dict[str, Any]] = (dict(zip(names, values, strict=True)) for values in tuples)
    if len(names) == 1:
        name = names[0]
        rows = ({name: value} for value in columns[name])
    may_lack = [n for n, f in inputs.fields.items() if f.optional or not shape.skips_blank]
    if any(any(map(is_missing, columns[n])) for n in may_lack if n in columns):
        rows = (_without_missing(row, inputs) for row in rows)
    return RowBatch(
        _samples(rows, shape.repeat, blank, first),
        length * shape.repeat,
        names,
        index=index,
        column_names=ColumnNames([*names, *(() if index is None else index.names)]),
        repeat=shape.repeat,
        columns=columns,
        positions=length,
    )


def _without_missing(row: dict[str, Any], inputs: Inputs) -> dict[str, Any]:
    """A row without its missing optional inputs, so that a function's own defaults hold. A missing
    required input (`blank="ask"`) is None."""
    values = dict(row)
    for name, value in row.items():
        declared = inputs.fields.get(name)
        if declared is not None and is_missing(value):
            if declared.optional:
                del values[name]
            else:
                values[name] = None
    return values


def _blank_in(
    columns: Mapping[str, list[Any]], inputs: Inputs, shape: Shape, first: int = 0
) -> set[int]:
    """The positions of the rows that are not asked, because a required input is blank."""
    found: set[int] = set()
    for name, values in columns.items():
        _refuse_one_shot(name, values, first)
        with image_sources(*shape.image_sources):
            found |= blank_rows(name, values, inputs, first)
    return found if shape.skips_blank else set()


def _refuse_one_shot(name: str, values: list[Any], first: int) -> None:
    """Refuse values that only the first attempt could read. TypeError."""
    if are_immutable(values):
        return
    for position, value in enumerate(values, first):
        if (found := one_shot_in(value)) is not None:
            raise TypeError(
                f"input {name!r} of row {position} holds a {type(found).__name__}, which can be "
                "read only once: pass list(…)"
            )


def _refuse_only_blank(blank: set[int], length: int) -> None:
    if length and len(blank) == length:
        raise ValueError(ONLY_BLANK)


def _samples(
    rows: Iterable[Mapping[str, Any]], repeat: int, blank: set[int], first: int = 0
) -> Iterator[Row]:
    if repeat == 1:
        for position, inputs in enumerate(rows, first):
            yield Row(position, position, 0, inputs, None, position in blank)
        return
    for position, inputs in enumerate(rows, first):
        is_blank = position in blank
        for sample in range(repeat):
            yield Row(position * repeat + sample, position, sample, inputs, None, is_blank)


def _check_names(names: Iterable[str], inputs: Inputs, where: str = "the input") -> None:
    given = set(names)
    missing = [n for n in inputs.required if n not in given]
    unknown = sorted(str(n) for n in given - inputs.fields.keys()) if not inputs.open else []
    if missing or unknown:
        problems = [f"lacks {missing}"] if missing else []
        problems += [f"has unknown {unknown}"] if unknown else []
        raise ValueError(
            f"{where} {' and '.join(problems)}; the module takes {list(inputs.fields)}"
        )
