"""A list of (module, inputs): one module a row."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from ..signatures.fields import Field, Inputs
from .module import Module, agreed, describe


def from_pairs(pairs: Any, samples: int = 1) -> tuple[Module, list[Mapping[str, Any]]]:
    """A list of (module, inputs) as a module that uses one module a row, and as the rows.

    Args:
        pairs: the list.
        samples: the number of samples of each row.

    Raises:
        TypeError: the value is not a list of pairs.
        ValueError: the list is empty, inputs do not fit their module, or a module with a history
            would serve two rows.
    """
    listed = list(pairs) if isinstance(pairs, Sequence) and not isinstance(pairs, str) else None
    if listed is None or not all(isinstance(p, tuple | list) and len(p) == 2 for p in listed):
        raise TypeError(
            "pass the rows: run_parallel(module, inputs); without inputs the module must be "
            "a list of pairs, [(module, inputs), …]"
        )
    if not listed:
        raise ValueError("the list of pairs is empty")
    described = {id(m): describe(m, m) for m, _ in listed}
    each = [described[id(m)] for m, _ in listed]
    rows = [
        _inputs_of_pair(i, of, given)
        for i, (of, (_, given)) in enumerate(zip(each, listed, strict=True))
    ]
    has_history = [id(m) for m, _ in listed if described[id(m)].has_history]
    if len(set(has_history)) < len(has_history) or (has_history and samples > 1):
        raise ValueError(
            "a module with a history would serve two rows at once: give each pair its own module"
        )
    fields: dict[str, Field] = {}
    for of in each:
        for name, taken in of.inputs.fields.items():
            everywhere = all(name in other.inputs.required for other in described.values())
            fields.setdefault(name, replace(taken, optional=not everywhere))
    modules = [m for m, _ in listed for _ in range(samples)]
    module = Module(
        each[0].name if len(described) == 1 else "pairs",
        Inputs(fields, any(of.inputs.open for of in each)),
        agreed(described.values()),
        tuple(modules),
        is_io_bound=any(of.is_io_bound for of in each),
        timeout_s=max((of.timeout_s for of in each if of.timeout_s is not None), default=None),
        lms=list({id(lm): lm for of in each for lm in of.lms}.values()),
        instances=tuple(modules),
    )
    return module, rows


class PairInputs(dict[str, Any]):
    """The inputs of a pair, and the names of those that its module requires."""

    required: Sequence[str] = ()


def _inputs_of_pair(place: int, module: Module, given: Any) -> Mapping[str, Any]:
    inputs = given.inputs() if callable(getattr(given, "inputs", None)) else given  # dspy.Example
    inputs = dict(inputs) if hasattr(inputs, "keys") else None
    if inputs is None:
        raise TypeError(f"pair {place}: the inputs must be a dict, not {given!r}")
    missing = [n for n in module.inputs.required if n not in inputs]
    unknown = [n for n in inputs if n not in module.inputs.fields and not module.inputs.open]
    if missing or unknown:
        raise ValueError(
            f"pair {place}: {module.name} takes {list(module.inputs.fields)}; missing "
            f"{missing}, unknown {unknown}"
        )
    row = PairInputs(inputs)
    row.required = module.inputs.required
    return row
