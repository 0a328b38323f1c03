"""Whether a value that was read is the one that is written."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from typing import Any

from .fields import Field


def is_faithful(raw: Any, value: Any) -> bool:
    """Whether JSON (`raw`) says what was read from it: times are written as times and not as a
    number of seconds, and numbers are finite."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        return math.isfinite(value) and not isinstance(raw, bool)
    if isinstance(value, dt.date | dt.time | dt.timedelta):  # a datetime is a date
        return isinstance(raw, str) and not raw.strip().lstrip("+-").replace(".", "").isdigit()
    if isinstance(value, list | tuple) and isinstance(raw, list):
        return len(raw) == len(value) and all(map(is_faithful, raw, value))
    fields = getattr(type(value), "model_fields", None)
    if fields is not None and isinstance(raw, dict):
        read = {info.alias or name: getattr(value, name) for name, info in fields.items()}
        return all(is_faithful(raw[name], v) for name, v in read.items() if name in raw)
    if isinstance(value, dict) and isinstance(raw, dict):
        return all(is_faithful(raw[name], v) for name, v in value.items() if name in raw)
    return True


def misnamed_in(raw: Any, fields: Mapping[str, Field]) -> list[str]:
    """The names in an object that are not those of the fields, if the object names no field, or if
    one of them is a field's in another spelling."""
    if not isinstance(raw, Mapping):
        return []
    other = [str(name) for name in raw if name not in fields]
    if not fields.keys() & raw.keys():
        return other or ["nothing"]
    absent = {name.casefold() for name in fields if name not in raw}
    return [name for name in other if name.strip().casefold().replace(" ", "_") in absent]
