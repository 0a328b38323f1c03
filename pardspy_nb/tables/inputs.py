"""Any input shape in, an iterator of rows out. Bad input is refused before a call is made."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol

from ..core.events import Event, Row
from ..signatures.fields import Field, Inputs

_SHOWN = 5


class Listener(Protocol):
    """Receives the run's events, where later rows depend on the results of earlier rows.

    Attributes:
        least: the least possible number of rows; None if it is not known.
    """

    least: int | None

    def hear(self, event: Event) -> None:
        """Take an event. Called on the event loop's thread, so it must be quick."""

    def close(self) -> None:
        """The run is abandoned: wake every waiting thread. May be called from any thread."""


@dataclass(frozen=True)
class RowBatch:
    """Rows to run.

    Attributes:
        rows: the rows; each is pulled once.
        total: the number of rows times samples; None for a stream.
        names: the inputs, in order.
        table, index: the input's table and index, which are copied to the result.
        blocking: whether pulling a row may wait.
        repeat: samples per row.
        columns: the inputs' values by position, if all rows are in memory.
        in_chunks: whether the rows come in chunks, each dropped from memory once it is written;
            rows that were never pulled are not in the result.
        positions: the number of input rows; None if they are not all in memory.
        listener: receives the run's events and decides from them which rows follow.
    """

    rows: Iterator[Row]
    total: int | None
    names: list[str]
    table: Any = None
    index: Any = None
    blocking: bool = False
    repeat: int = 1
    columns: Mapping[str, Sequence[Any]] | None = None
    in_chunks: bool = False
    positions: int | None = None
    listener: Listener | None = None

    @property
    def names_rest(self) -> bool:
        """Whether rows that were never pulled are in the result."""
        return self.positions is not None and not self.in_chunks


def expand(
    data: Any,
    inputs: Inputs,
    *,
    batch_key: str = "_batch",
    repeat: int = 1,
    columns: Mapping[str, str] | None = None,
) -> RowBatch:
    """Rows from any supported shape (see `run_parallel`).

    Raises:
        ValueError: unequal lengths, missing or unknown inputs, missing or wrong values.
        TypeError: a shape that is not supported.
    """
    if columns and not _is_table(data):
        raise ValueError("columns= works only with a table; rename the inputs instead")
    if _is_table(data):
        return _from_table(data, inputs, repeat, columns or {})
    if isinstance(data, Mapping):
        if batch_key in data:
            return _from_explicit(data, inputs, batch_key, repeat)
        return _from_mapping(data, inputs, repeat)
    if isinstance(data, Iterator):
        return _from_stream(data, inputs, repeat)
    values = _as_list(data)
    if values is None:
        raise TypeError(
            f"cannot make rows of {type(data).__name__}; pass a dict of lists, a list, a Series, "
            "a DataFrame, a path, or an iterator of dicts"
        )
    index = getattr(data, "index", None) if hasattr(data, "iloc") else None  # of a Series
    if values and all(isinstance(v, Mapping) for v in values):
        return _from_dicts(values, inputs, repeat)
    if not values:
        return _from_columns({name: [] for name in inputs.fields}, 0, inputs, repeat, index=index)
    name = _only_input(inputs)
    return _from_columns({name: values}, len(values), inputs, repeat, index=index)


def again(
    table: Any,
    inputs: Inputs,
    numbers: Sequence[int],
    samples: Sequence[int],
    columns: Mapping[str, str] | None,
) -> RowBatch:
    """The rows of a table for another run. The i-th row gets the i-th number and sample number."""
    batch = _from_table(table, inputs, 1, columns or {})
    rows = (
        row._replace(number=number, sample=sample)
        for row, number, sample in zip(batch.rows, numbers, samples, strict=True)
    )
    return replace(batch, rows=rows)


def _is_table(data: Any) -> bool:
    return hasattr(data, "columns") and hasattr(data, "iloc")


def _as_list(value: Any) -> list[Any] | None:
    """A list, tuple, range, Series, array or pyarrow column as a list; None for a scalar."""
    if isinstance(value, str | bytes | Mapping):
        return None
    if isinstance(value, list | tuple | range):
        return list(value)
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


def feeding(names: Sequence[str], inputs: Inputs, columns: Mapping[str, str]) -> dict[str, str]:
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
    taken = list(inputs.fields) + [n for n in names if inputs.open and n not in inputs.fields]
    feeding = {n: columns.get(n, n) for n in taken if columns.get(n, n) in names}
    if missing := [n for n in inputs.required if n not in feeding]:
        raise ValueError(
            f"the table has no column for {missing}; it has {names}: name the column with "
            f"columns={{{missing[0]!r}: …}}"
        )
    return feeding


def _from_table(table: Any, inputs: Inputs, repeat: int, columns: Mapping[str, str]) -> RowBatch:
    names = [str(name) for name in table.columns]
    values = {n: table[c].tolist() for n, c in feeding(names, inputs, columns).items()}
    return _from_columns(values, len(table), inputs, repeat, index=table.index, table=table)


def rows_of_chunk(
    values: Mapping[str, list[Any]], length: int, inputs: Inputs, repeat: int, first: int
) -> Iterator[Row]:
    """The rows of a table's chunk that begins at position `first`. A ValueError names the rows
    that have a missing or a wrong value."""
    batch = _from_columns(values, length, inputs, 1, first=first)
    rows = (row.inputs for row in batch.rows)
    return _samples(rows, repeat, first)


def _from_explicit(data: Mapping[str, Any], inputs: Inputs, key: str, repeat: int) -> RowBatch:
    rows = data[key]
    if not isinstance(rows, Sequence) or not all(isinstance(r, Mapping) for r in rows):
        raise ValueError(f"{key!r} must hold a list of input dicts")
    shared = {name: value for name, value in data.items() if name != key}
    return _from_dicts([{**shared, **row} for row in rows], inputs, repeat)


def _from_mapping(data: Mapping[str, Any], inputs: Inputs, repeat: int) -> RowBatch:
    _check_names(data.keys(), inputs)
    listed: dict[str, list[Any]] = {}
    index = None
    for name, value in data.items():
        values = _as_list(value)
        if values is None or _is_one_value(values, inputs.fields.get(name)):
            continue
        listed[name] = values
        index = getattr(value, "index", None) if index is None and hasattr(value, "iloc") else index
    lengths = {name: len(values) for name, values in listed.items()}
    if len(set(lengths.values())) > 1:
        shown = ", ".join(f"{name}: {n}" for name, n in lengths.items())
        raise ValueError(f"the lists differ in length ({shown}); every list gives one value a row")
    length = next(iter(lengths.values()), 1)
    broadcast = {n: listed[n] if n in listed else [v] * length for n, v in data.items()}
    return _from_columns(broadcast, length, inputs, repeat, index=index)


def _is_one_value(values: list[Any], field: Field | None) -> bool:
    """Whether a list is one row's value: the field is a list, and no item is itself a list."""
    return bool(
        field and field.is_listlike and not any(isinstance(v, list | tuple) for v in values)
    )


def _from_dicts(rows: Sequence[Mapping[str, Any]], inputs: Inputs, repeat: int) -> RowBatch:
    names = [n for n in inputs.fields if any(n in row for row in rows)]
    for row in rows:
        names += [n for n in row if inputs.open and n not in names]
    for position, row in enumerate(rows):
        _check_names(row.keys(), inputs, f"row {position}")
    for name in names:
        _check_values(name, (row.get(name) for row in rows), inputs)
    return RowBatch(
        _samples(rows, repeat), len(rows) * repeat, names, repeat=repeat, positions=len(rows)
    )


def _from_stream(rows: Iterator[Any], inputs: Inputs, repeat: int) -> RowBatch:
    def checked() -> Iterator[Mapping[str, Any]]:
        for position, row in enumerate(rows):
            if not isinstance(row, Mapping):
                row = {_only_input(inputs): row}
            _check_names(row.keys(), inputs, f"row {position}")
            for name in row:
                _check_values(name, [row[name]], inputs, position)
            yield row

    names = list(inputs.fields)
    return RowBatch(_samples(checked(), repeat), None, names, blocking=True, repeat=repeat)


def _from_columns(
    columns: Mapping[str, list[Any]],
    length: int,
    inputs: Inputs,
    repeat: int,
    *,
    index: Any = None,
    table: Any = None,
    first: int = 0,
) -> RowBatch:
    _check_names(columns.keys(), inputs)
    columns = dict(columns)
    for name, values in columns.items():
        _check_values(name, values, inputs, first)
        if name in inputs.fields and inputs.fields[name].optional:
            columns[name] = [None if _is_missing(v) else v for v in values]
    names = [n for n in inputs.fields if n in columns]
    names += [n for n in columns if n not in names]
    tuples = zip(*(columns[n] for n in names), strict=True) if names else ((),) * length
    rows: Iterable[dict[str, Any]] = (dict(zip(names, values, strict=True)) for values in tuples)
    if len(names) == 1:
        name = names[0]
        rows = ({name: value} for value in columns[name])
    return RowBatch(
        _samples(rows, repeat),
        length * repeat,
        names,
        table,
        index,
        repeat=repeat,
        columns=columns,
        positions=length,
    )


def _samples(rows: Iterable[Mapping[str, Any]], repeat: int, first: int = 0) -> Iterator[Row]:
    if repeat == 1:
        for position, inputs in enumerate(rows, first):
            yield Row(position, position, 0, inputs)
        return
    for position, inputs in enumerate(rows, first):
        for sample in range(repeat):
            yield Row(position * repeat + sample, position, sample, inputs)


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


def _is_missing(value: Any) -> bool:
    return (
        value is None
        or (isinstance(value, float) and value != value)
        or type(value).__name__ in ("NAType", "NaTType")
    )


def _check_values(name: str, values: Iterable[Any], inputs: Inputs, first: int = 0) -> None:
    field = inputs.fields.get(name)
    if field is None or field.type is Any:
        return
    fits = _fits(field)
    missing, wrong = [], []
    for position, value in enumerate(values, first):
        if _is_missing(value):
            if not field.optional:
                missing.append(position)
        elif not fits(value):
            wrong.append((position, value))
    if missing:
        raise ValueError(
            f"input {name!r} is missing in {len(missing)} rows (row {_listed(missing)}); drop "
            f"them, or declare the field with optional=True"
        )
    if wrong:
        position, value = wrong[0]
        raise ValueError(
            f"input {name!r} must be {field.type_name}, but {len(wrong)} rows are not (row "
            f"{_listed([p for p, _ in wrong])}); row {position} is {type(value).__name__} "
            f"{str(value)[:60]!r}"
        )


def _fits(field: Field) -> Callable[[Any], bool]:
    if field.type is str:
        return lambda value: isinstance(value, str)

    def fits(value: Any) -> bool:
        try:
            field.adapter.validate_python(value)
        except ValueError:
            return False
        return True

    return fits


def _listed(positions: list[int]) -> str:
    shown = ", ".join(map(str, positions[:_SHOWN]))
    return shown + (", …" if len(positions) > _SHOWN else "")
