"""Modules one after the other, as one module."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..core.usage import UsageScope, total
from ..signatures.fields import Field, Inputs
from .composite import Composite
from .parts import part
from .prediction import Prediction


class Program(Composite):
    """A chain: each module gets the inputs it takes, from the row and from what those before it
    put out. A later output replaces an earlier one of its name.

    Args:
        modules: `Predict` and its kin, functions, modules of other libraries, other programs.

    Raises:
        ValueError: no modules.
        TypeError: one of them is none.
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
        told = True  # whether all outputs so far are declared
        for of in described:
            for name, field in of.inputs.fields.items():
                if name not in made and (told or not field.optional):
                    fields.setdefault(name, field)
            made |= of.outputs
            told = told and bool(of.outputs)
        self._undeclared = not told
        if self._undeclared:  # what an earlier part puts out may be what a later one takes
            first = described[0].inputs.fields
            fields = {n: f if n in first else _optional(f) for n, f in fields.items()}
        self.inputs = Inputs(fields, described[0].inputs.open)
        self.outputs = made
        self.lms = list({id(lm): lm for of in described for lm in of.lms}.values())
        self.is_io_bound = any(of.is_io_bound for of in described)
        self.has_history = any(of.has_history for of in described)

    async def acall(self, **inputs: Any) -> Prediction:
        """Run the chain for one row.

        Raises:
            ValueError: a module lacks an input that nothing before it put out.
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
