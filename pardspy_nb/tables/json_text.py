"""Values as JSON, whole: for columns and files that have no type for them.

Arrays are lists of their values, bytes are URL-safe base64 (RFC 4648, 5), dates ISO 8601, sets
lists; numbers that JSON does not have are the texts `NaN`, `Infinity` and `-Infinity`. An object of
any other class is its `str`.
"""

from __future__ import annotations

import json
from typing import Any


def to_json(value: Any) -> bytes:
    """A value as JSON."""
    from pydantic_core import to_json as write

    try:
        return write(value, fallback=_simpler, bytes_mode="base64", inf_nan_mode="strings")
    except (ValueError, RecursionError):  # it contains itself
        return json.dumps(repr(value)).encode()


def _simpler(value: Any) -> Any:
    if hasattr(value, "columns") and hasattr(value, "to_dict"):  # a frame
        return value.to_dict(orient="records")
    for method in ("tolist", "item", "to_pylist"):  # numpy, pandas, pyarrow
        if callable(getattr(value, method, None)):
            return getattr(value, method)()
    return str(value)


def to_text(value: Any) -> str | None:
    """A value as text: None is missing, text stays as it is, all else is JSON (without the quotes
    where the JSON is a string, such as a date)."""
    if value is None or isinstance(value, str):
        return value
    written = to_json(value).decode()
    if not written.startswith('"'):
        return written
    text: str = json.loads(written)
    return text
