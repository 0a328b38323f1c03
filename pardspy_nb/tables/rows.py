"""Reads any supported input as rows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..core.options import Options
from ..signatures.fields import Field, Inputs
from .inputs import RowBatch, expand
from .readers import as_table, check_columns
from .until_decided import until_decided


def read_rows(
    data: Any, inputs: Inputs, outputs: Mapping[str, Field], options: Options
) -> RowBatch:
    """The rows of any supported input (see `run_parallel`); nothing runs yet.

    Args:
        data: what the user passed.
        inputs: the inputs that the module takes.
        outputs: the columns that the run will write.

    Raises:
        ValueError, TypeError, FileNotFoundError: bad input.
    """
    table = as_table(data)
    check_columns(table, outputs)
    rule = options.until_decided
    repeat = 1 if rule is not None else options.samples
    batch = expand(
        table, inputs, batch_key=options.batch_key, repeat=repeat, columns=options.columns
    )
    return batch if rule is None else until_decided(batch, rule, outputs)
