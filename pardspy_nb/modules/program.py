"""Modules that run one after the other, as one module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..core.usage import UsageScope, total
from ..signatures.fields import Field, Inputs
from .composite import Composite
from .parts import part
from .prediction import Prediction


class Program(Composite):
    """A chain of modules.

    Each module gets its inputs from the row and from the outputs of the modules before it. A later
    output replaces an earlier output of the same name.

    Args:
        modules: `Predict` and its subclasses, functions, modules of other libraries, programs.

    Raises:
        ValueError: there are no modules.
        TypeError: one of the objects is not a module.
    """

    def __init__(self, modules: Sequence[Any]) -> None:
        if not isinstance(modules, Sequence) or isinstance(modules, str):
            raise TypeError("a program takes a list of modules: Program([first, second])")
        if not modules:
            raise ValueError("a program needs at least one module: Program([first, second])")
        self.modules = list(modules)
        self._parts = [part(module) for module in modules]
        described = [of for of, _ in self._parts]
        fields: dict[str, Field] = {}
        made: dict[str, Field] = {}
        all_declared = True  # whether all outputs so far are declared
        for of in described:
            for name, field in of.inputs.fields.items():
                if name not in made and (all_declared or not field.optional):
                    fields.setdefault(name, field)
            made |= of.outputs
            all_declared = all_declared and bool(of.outputs)
        self._undeclared = not all_declared
        if self._undeclared:  # an unknown output of one part may be an input of a later one
            first = described[0].inputs.fields
            fields = {n: f if n in first else _optional(f) for n, f in fields.items()}
        self.inputs = Inputs(fields, described[0].inputs.open)
        self.outputs = made
        self.lms = list({id(lm): lm for of in described for lm in of.lms}.values())
        self.is_io_bound = any(of.is_io_bound for of in described)
        self.has_history = any(of.has_history for of in described)

    @property
    def decisive(self) -> Sequence[Any]:
        """See `Composite`."""
        return self.modules

    async def acall(self, **inputs: Any) -> Prediction:
        """Run the chain for one row.

        Raises:
            ValueError: a module lacks an input that neither the row nor an earlier module gives.
        """
        values, outputs = dict(inputs), dict[str, Any]()
        with UsageScope() as calls:
            for of, call in self._parts:
                answer = await call(_taken(of.name, of.inputs, values))
                outputs |= answer.outputs
                values |= answer.outputs
        return Prediction(outputs, inputs=inputs, usage=total(calls), module_name="Program")

    def __repr__(self) -> str:
        return f"Program([{', '.join(of.name for of, _ in self._parts)}])"


def _optional(field: Field) -> Field:
    return Field(field.name, field.type, field.description, True, field.aliases)


def _taken(name: str, inputs: Inputs, values: Mapping[str, Any]) -> dict[str, Any]:
    if missing := [n for n in inputs.required if n not in values]:
        raise ValueError(
            f"{name} needs {missing}; the row and the modules before it give {list(values)}"
        )
    return {n: v for n, v in values.items() if inputs.open or n in inputs.fields}
