"""Values as JSON that tells apart what JSON alone confuses."""

from __future__ import annotations

from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any
from uuid import UUID


def tagged(value: Any) -> Any:
    """A value as JSON, the same in every process, and different for different values.

    Raises:
        TypeError: the value has no such form.
    """
    if value is None or isinstance(value, str | bool | int | float):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, list):
        return [tagged(v) for v in value]
    if isinstance(value, dict) and all(isinstance(k, str) for k in value):
        return {k: tagged(v) for k, v in value.items()}
    kind = type(value).__name__
    if isinstance(value, dict):
        return {f"\0{kind}": [[tagged(k), tagged(v)] for k, v in value.items()]}
    if isinstance(value, tuple):
        return {f"\0{kind}": [tagged(v) for v in value]}
    if isinstance(value, Enum):
        return {f"\0{kind}": value.name}
    if isinstance(value, datetime) and (value.tzinfo is not None or value.fold):
        # equal instants in two zones, and the two of one time when clocks are put back
        return {f"\0{kind}": [str(value), str(value.tzinfo), value.fold]}
    if isinstance(value, date | datetime | Decimal | PurePath | UUID | bytes):
        return {f"\0{kind}": value.hex() if isinstance(value, bytes) else str(value)}
    if hasattr(value, "iloc") and hasattr(value, "tolist"):  # a Series
        return {f"\0{kind}": [tagged(value.index.tolist()), tagged(value.tolist())]}
    for method in ("model_dump", "tolist", "item"):  # pydantic, numpy
        if hasattr(value, method):
            return {f"\0{kind}": tagged(getattr(value, method)())}
    raise TypeError(f"a {kind} cannot be part of a cache key")
