"""A nested output as a long table: one row an item."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd

from ..signatures.fields import RESERVED
from .frame import infer, typed_by_schema
from .names import column_of, no_column
from .values import is_missing

_KEPT = ("sample", "status")  # of the run's own columns: its figures would count once an item


def explode(df: pd.DataFrame, output: str, *, keep_empty: bool = True) -> pd.DataFrame:
    """One row for each item of a nested column, with the item's fields as columns of their own.

    The other columns and the index are repeated; of the run's own columns only `status` and
    `sample` stay, because tokens and costs would count once an item. Fields have the types that the
    signature declares (also in a frame read back from parquet), else those of their values. A field
    whose name another column has gets the prefix `<output>_`. Items that are no records (a list of
    texts) are one column, `<output>`.

    Args:
        df: a result, or any frame with a column of lists of dicts, of dicts, or of such JSON.
        output: the column.
        keep_empty: whether rows without items keep one row, without values.

    Raises:
        ValueError: there is no such column, or a value is neither a list nor a record.
    """
    if output not in df.columns:
        raise ValueError(no_column(df, output))
    each = [_items(value, output, label) for value, label in zip(df[output], df.index, strict=True)]
    sizes = np.array([len(items) or int(keep_empty) for items in each], dtype=np.int64)
    at = np.repeat(np.arange(len(df)), sizes)
    items = [item for row in each for item in (row or ([None] if keep_empty else []))]
    is_record = [isinstance(item, Mapping) for item in items if item is not None]
    if any(is_record) and not all(is_record):
        raise ValueError(f"column {output!r} holds records as well as other values")
    figures = _figures(df)
    kept = [name for name in df.columns if name == output or name not in figures]
    schema = _item_schema(df, output)
    fields = _fields(items, output, schema)
    columns: dict[Any, Any] = {}
    taken = set(kept) - {output}
    for name in kept:
        if name != output:
            columns[name] = df[name].iloc[at].array
            continue
        for field, values in fields.items():
            columns[f"{output}_{field}" if field in taken else field] = values
    return pd.DataFrame(columns, index=df.index.take(at), copy=False)


def _figures(df: pd.DataFrame) -> set[Any]:
    """The run's own columns that are dropped; none of a frame that is no result."""
    if column_of(df, "status") not in df.columns or column_of(df, "error_type") not in df.columns:
        return set()
    return {column_of(df, name) for name in RESERVED if name not in _KEPT}


def _items(value: Any, output: str, label: Any) -> list[Any]:
    if is_missing(value):
        return []
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError:
            raise ValueError(
                f"column {output!r} holds neither lists nor records: row {label!r} is text"
            ) from None
        if value is None:
            return []
    if hasattr(value, "model_dump"):
        value = value.model_dump()
    if isinstance(value, Mapping):
        return [value]
    if isinstance(value, list | tuple | set | np.ndarray):
        return [v.model_dump() if hasattr(v, "model_dump") else v for v in value]
    raise ValueError(
        f"column {output!r} holds neither lists nor records: row {label!r} is "
        f"{type(value).__name__}"
    )


def _fields(items: list[Any], output: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """The columns of items, by field."""
    declared = schema.get("properties", {})
    names = dict.fromkeys([*declared, *(n for i in items if isinstance(i, Mapping) for n in i)])
    if not names:
        return {output: _column(items, schema)}
    return {
        name: _column([None if i is None else i.get(name) for i in items], declared.get(name, {}))
        for name in names
    }


def _column(values: list[Any], schema: Mapping[str, Any]) -> Any:
    values = [None if is_missing(v) else v for v in values]
    made = typed_by_schema(values, schema)
    return infer(values) if made is None else made


def _item_schema(df: pd.DataFrame, output: str) -> dict[str, Any]:
    """The JSON schema of one item, references resolved; empty if it is not known."""
    own = {column: name for name, column in _renamed(df).items()}.get(output, output)
    schema = df.attrs.get("pardspy", {}).get("signature", {}).get("schemas", {}).get(own, {})
    definitions = schema.get("$defs", {})
    found = _resolved(schema, definitions)
    if found.get("type") == "array":
        found = _resolved(found.get("items", {}), definitions)
    properties = found.get("properties", {})
    return {
        **found,
        "properties": {name: _resolved(of, definitions) for name, of in properties.items()},
    }


def _renamed(df: pd.DataFrame) -> Mapping[str, str]:
    renamed: Mapping[str, str] = df.attrs.get("pardspy", {}).get("renamed", {})
    return renamed


def _resolved(schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> dict[str, Any]:
    """A schema without a reference at its top, and without the alternative `null`."""
    for _ in range(len(definitions) + 2):
        choices = [c for c in schema.get("anyOf", []) if c.get("type") != "null"]
        if len(choices) == 1:
            schema = choices[0]
        elif "$ref" in schema:
            schema = definitions.get(str(schema["$ref"]).rpartition("/")[2], {})
        else:
            break
    return dict(schema)
