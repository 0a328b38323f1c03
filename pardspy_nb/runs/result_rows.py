"""The rows of a result as inputs again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.options import Options
from ..modules.module import Module
from ..tables.names import own_names
from ..tables.row_batch import Shape


def named_columns(module: Module, about: Mapping[str, Any], options: Options) -> dict[str, Any]:
    """The column of each input that has another name: as given, or as in the run before."""
    known = options.columns or about.get("options", {}).get("columns") or {}
    columns = {n: tuple(c) if isinstance(c, list) else c for n, c in known.items()}
    return {n: c for n, c in columns.items() if n in module.inputs.fields or module.inputs.open}


def input_columns(df: Any, module: Module, about: Mapping[str, Any], shape: Shape) -> list[Any]:
    """The columns of the rows' inputs: those that the module names, and for a module that takes
    any name those of the run before."""
    names = [shape.columns.get(name, name) for name in module.inputs.fields]
    if module.inputs.open:
        names += [tuple(n) if isinstance(n, list) else n for n in about.get("inputs", [])]
        names += shape.columns.values()
    return [name for name in dict.fromkeys(names) if name in df.columns]


def samples_of(df: Any, at: list[int]) -> list[int]:
    """The sample numbers of the rows at these places."""
    plain = own_names(df)
    if "sample" not in plain.columns:
        return [0] * len(at)
    return [int(k) for k in plain["sample"].iloc[at].fillna(0)]
