"""Reads any supported input as rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.options import Options
from ..signatures.fields import Field, Inputs
from .arrow import check_names
from .inputs import expand, is_table
from .readers import as_table
from .row_batch import RowBatch, Shape
from .until_decided import until_decided


def read_rows(
    data: Any, inputs: Inputs, outputs: Mapping[str, Field], options: Options
) -> RowBatch:
    """The rows of any supported input (see `run_parallel`); nothing runs yet.

    Args:
        data: what the user passed.
        inputs: the inputs that the module takes.
        outputs: the outputs that the module declares.

    Raises:
        ValueError, TypeError, FileNotFoundError: bad input.
    """
    rule = options.until_decided
    repeat = 1 if rule is not None else options.samples
    table = as_table(data, text_columns(inputs, options))
    if options.result != "pandas" and is_table(table):
        check_names(table)  # before anything is paid for
    batch = expand(table, inputs, shape_of(options, repeat))
    return batch if rule is None else until_decided(batch, rule, outputs)


def shape_of(options: Options, repeat: int) -> Shape:
    """How input is read as rows with these options."""
    return Shape(
        options.batch_key,
        repeat,
        dict(options.columns or {}),
        skips_blank=options.blank == "skip",
        image_sources=options.image_sources,
    )


def text_columns(inputs: Inputs, options: Options) -> list[Any]:
    """The columns of a file that feed inputs of type text."""
    columns = options.columns or {}
    return [columns.get(n, n) for n, f in inputs.fields.items() if f.value_type is str]
