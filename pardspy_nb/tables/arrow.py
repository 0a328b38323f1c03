"""Arrow tables to frames and back, without a change of values.

Whole numbers with missing values stay whole numbers, lists are Python lists and structs are dicts,
as `to_pylist` gives them. Layouts that rows cannot be taken from (views) are replaced at any depth.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pandas as pd

from .column_types import has_arrow_type, with_arrow_type

if TYPE_CHECKING:
    import pyarrow as pa

INDEX_COLUMN = "__index_level_0__"  # pandas' own name for an index without one


def plain(table: pa.Table) -> pa.Table:
    """The table with every type in a layout that rows can be taken from."""
    import pyarrow as pa

    fields = [pa.field(f.name, _plain_type(f.type), f.nullable, f.metadata) for f in table.schema]
    schema = pa.schema(fields, table.schema.metadata)
    if schema.equals(table.schema):
        return table
    columns = [
        column if field.type == column.type else _cast(column, field.type)
        for column, field in zip(table.columns, schema, strict=True)
    ]
    return pa.table(columns, schema=schema)


def _cast(column: pa.ChunkedArray, kind: pa.DataType) -> pa.ChunkedArray:
    import pyarrow as pa

    try:
        return column.cast(kind)
    except (pa.ArrowNotImplementedError, pa.ArrowInvalid):  # a view within a list or a struct
        return pa.chunked_array([pa.array(column.to_pylist(), kind)])


def _plain_type(kind: pa.DataType) -> pa.DataType:
    import pyarrow as pa

    if kind == pa.string_view():
        return pa.large_string()
    if kind == pa.binary_view():
        return pa.large_binary()
    if pa.types.is_run_end_encoded(kind):
        return _plain_type(kind.value_type)
    if pa.types.is_dictionary(kind):
        return pa.dictionary(kind.index_type, _plain_type(kind.value_type), kind.ordered)
    if pa.types.is_fixed_size_list(kind):
        return pa.list_(_plain_field(kind.value_field), kind.list_size)
    if pa.types.is_struct(kind):
        return pa.struct([_plain_field(kind.field(i)) for i in range(kind.num_fields)])
    if pa.types.is_map(kind):
        return pa.map_(_plain_type(kind.key_type), _plain_type(kind.item_type))
    if pa.types.is_large_list(kind) or pa.types.is_large_list_view(kind):
        return pa.large_list(_plain_field(kind.value_field))
    if pa.types.is_list(kind) or pa.types.is_list_view(kind):
        return pa.list_(_plain_field(kind.value_field))
    return kind


def _plain_field(field: pa.Field) -> pa.Field:
    return field.with_type(_plain_type(field.type))


def to_frame(table: pa.Table) -> pd.DataFrame:
    """The table as a frame, with the index that its metadata name. The types of its extension
    columns in pandas (`Int64`, `category`, …) come back, if the metadata name them."""
    import pyarrow as pa

    table = plain(table)
    if b"pandas" in (table.schema.metadata or {}):
        table = table.replace_schema_metadata(with_whole_numbers(table.schema).metadata)
    meta = json.loads((table.schema.metadata or {}).get(b"pandas", b"{}"))
    levels = [level for level in meta.get("index_columns", []) if isinstance(level, str)]
    apart = {
        f.name
        for f in table.schema
        if f.name not in levels and _is_apart(f.type, table.column(f.name).null_count)
    }
    bare = table
    for name in apart:  # a column of placeholders keeps the order
        at = bare.schema.get_field_index(name)
        bare = bare.set_column(at, name, pa.nulls(table.num_rows))
    if meta:
        for column in meta["columns"]:
            if column["field_name"] in apart:
                column |= {"pandas_type": "empty", "numpy_type": "object", "metadata": None}
        metadata = {**(table.schema.metadata or {}), b"pandas": json.dumps(meta).encode()}
        bare = bare.replace_schema_metadata(metadata)
    df: pd.DataFrame = bare.to_pandas(integer_object_nulls=True)
    names = dict(zip(map(str, df.columns), df.columns, strict=True))  # 0, where a file has "0"
    for name in apart & names.keys():
        df[names[name]] = _exact(table.column(name))
    return df


def _is_apart(kind: pa.DataType, missing: int) -> bool:
    """Whether pandas would change values of this type: it makes arrays of lists, and floats or
    objects of whole numbers with missing values."""
    import pyarrow as pa

    exact = pa.types.is_integer(kind) or pa.types.is_boolean(kind)
    return bool(pa.types.is_nested(kind) or (missing and exact))


def _exact(column: pa.ChunkedArray) -> Any:
    import pyarrow as pa

    values = column.to_pylist()
    if pa.types.is_integer(column.type) or pa.types.is_boolean(column.type):
        dtype: Any = _nullable(str(column.type))
        return pd.array(values, dtype=dtype)
    if pa.types.is_map(column.type):
        maps = [None if value is None else dict(value) for value in values]
        is_same = all(map(lambda a, b: a is None or len(a) == len(b), maps, values))
        values = maps if is_same else values  # a key may come twice
    return pd.Series(values, dtype=object).array


def to_arrow(df: pd.DataFrame, *, index: bool = False) -> pa.Table:
    """A frame as a table; with `index=True` its index is a column, too, unless it only counts.

    Values keep their type if Arrow has one for all of a column, else the column is text (see
    `column_types`).

    Raises:
        ValueError: two columns have the same name as text, or the index has labels that no file
            can hold.
    """
    import pyarrow as pa

    check_names(df)
    df = df.copy(deep=False)
    df.attrs = {}
    for place in range(df.shape[1]):
        df.isetitem(place, with_arrow_type(df.iloc[:, place]))
    keeps = index and not only_counts(df.index)
    levels = [df.index.get_level_values(i) for i in range(df.index.nlevels)] if keeps else []
    if odd := [level.name for level in levels if not has_arrow_type(level)]:
        raise ValueError(
            f"the index {odd[0] or ''} has labels of several types, which no file can hold: make "
            "text of them, df.set_axis(df.index.map(str)), or a column, df.reset_index()"
        )
    table = pa.Table.from_pandas(df, preserve_index=keeps)
    return table.replace_schema_metadata(with_whole_numbers(table.schema).metadata)


def check_names(df: pd.DataFrame) -> None:
    """Refuse a frame in which two columns have the same name as text. ValueError."""
    counts = Counter(str(name) for name in df.columns)
    if twice := [name for name in df.columns if counts[str(name)] > 1]:
        raise ValueError(
            f"the columns {twice} have the same name as text, and files name columns by text: "
            "rename one of them"
        )


def with_whole_numbers(schema: pa.Schema) -> pa.Schema:
    """The schema, with metadata by which pandas reads whole numbers and truth values with missing
    ones as such, and not as floats, and without names of types that it cannot read."""
    import pyarrow as pa

    empty = b'{"index_columns": [], "column_indexes": [], "columns": []}'
    meta = json.loads((schema.metadata or {}).get(b"pandas", empty))
    known = {column["field_name"]: column for column in meta["columns"]}
    for field in schema:
        about = known.get(field.name)
        if about is None:
            about = {"name": field.name, "field_name": field.name, "metadata": None}
            about |= {"pandas_type": "object", "numpy_type": "object"}
        is_exact = pa.types.is_integer(field.type) or pa.types.is_boolean(field.type)
        if is_exact and about["numpy_type"] == "object":
            kind = str(field.type)
            about |= {"pandas_type": kind, "numpy_type": _nullable(kind)}
            if field.name not in known:
                meta["columns"].append(about)
        elif not _is_known(about["numpy_type"]):
            about["numpy_type"] = "object"
    return schema.with_metadata({**(schema.metadata or {}), b"pandas": json.dumps(meta).encode()})


def _nullable(kind: str) -> str:
    """pandas' type with missing values for Arrow's `int64`, `uint8`, `bool`, …"""
    return "boolean" if kind == "bool" else kind.replace("i", "I").replace("u", "U")


def _is_known(dtype: str) -> bool:
    try:
        pd.api.types.pandas_dtype(dtype)
    except (TypeError, ValueError, NotImplementedError):
        return False
    return True


def with_index_columns(table: pa.Table, names: Sequence[Any]) -> pa.Table:
    """The table, with metadata by which pandas makes its first columns the index again."""
    meta = json.loads(table.schema.metadata[b"pandas"])
    meta["index_columns"] = table.column_names[: len(names)]
    for column in meta["columns"]:
        if column["field_name"] in meta["index_columns"]:
            name = names[meta["index_columns"].index(column["field_name"])]
            column["name"] = None if name is None else str(name)
    metadata = {**table.schema.metadata, b"pandas": json.dumps(meta).encode()}
    return table.replace_schema_metadata(metadata)


def only_counts(index: pd.Index) -> bool:
    """Whether an index is 0, 1, 2, … without a name, and so says nothing about its rows."""
    facts: Any = index
    is_range = isinstance(index, pd.RangeIndex)
    return is_range and (facts.start, facts.step, facts.name) == (0, 1, None)


def with_range_index(table: pa.Table, position: int, rows: int) -> pa.Table:
    """A part of a file of so many rows, which begins at this row, with the file's index as a
    column where the file's metadata hold it as a range. Other tables stay as they are."""
    import pyarrow as pa

    about = (table.schema.metadata or {}).get(b"pandas")
    meta = json.loads(about) if about else {}
    ranges = [i for i in meta.get("index_columns", []) if isinstance(i, dict)]
    if len(ranges) != 1 or ranges[0].get("kind") != "range":
        return table
    start, step, name = ranges[0]["start"], ranges[0]["step"], ranges[0]["name"]
    if (start, step, name) == (0, 1, None) or len(range(start, ranges[0]["stop"], step)) != rows:
        return table  # it only counts, or it is that of another table
    numbers = range(start + position * step, start + (position + table.num_rows) * step, step)
    column = INDEX_COLUMN if name is None or str(name) in table.column_names else str(name)
    table = table.append_column(column, pa.array(numbers, pa.int64()))
    kinds = {"pandas_type": "int64", "numpy_type": "int64", "metadata": None}
    meta["index_columns"] = [column]
    meta["columns"] = [*meta["columns"], {"name": name, "field_name": column, **kinds}]
    metadata = {**(table.schema.metadata or {}), b"pandas": json.dumps(meta).encode()}
    return table.replace_schema_metadata(metadata)
