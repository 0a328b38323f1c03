"""Signatures: inputs and outputs of a row. Built, declared as a class, or read from a string."""

from __future__ import annotations

import ast
import datetime as dt
import inspect
import typing
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, ClassVar, Literal

from .fields import Field, FieldInfo, refuse_reserved

_STRING_TYPES: dict[str, Any] = {
    "str": str,
    "int": int,
    "float": float,
    "bool": bool,
    "list": list,
    "dict": dict,
    "datetime": dt.datetime,
    "Literal": Literal,
    "Any": Any,
    "None": None,
}


class Signature:
    """Typed inputs, typed outputs and an instruction. Immutable: every `add_*` returns a new one.

    Build it (`Signature("…").add_input(…)`), declare it (`class Review(Signature)`), or read it
    (`Signature.from_string("review -> sentiment: Literal['good','bad']")`).
    """

    _declared: ClassVar[tuple[tuple[Field, ...], tuple[Field, ...]]] = ((), ())

    def __init__(
        self,
        instructions: str = "",
        inputs: Iterable[Field] | None = None,
        outputs: Iterable[Field] | None = None,
    ) -> None:
        declared_in, declared_out = self._declared
        doc = type(self).__doc__ if type(self) is not Signature else ""
        self._instructions = instructions or inspect.cleandoc(doc or "")
        self._inputs = {f.name: f for f in (declared_in if inputs is None else inputs)}
        self._outputs = {f.name: f for f in (declared_out if outputs is None else outputs)}
        for name in (*self._inputs, *self._outputs):
            refuse_reserved(name)

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        inputs = {f.name: f for f in cls._declared[0]}
        outputs = {f.name: f for f in cls._declared[1]}
        hints = typing.get_type_hints(cls)
        for name, info in list(vars(cls).items()):
            if isinstance(info, FieldInfo):
                refuse_reserved(name)
                place = inputs if info.kind == "input" else outputs
                place[name] = Field(
                    name,
                    hints.get(name, str),
                    info.description,
                    info.optional,
                    info.aliases,
                    info.ordered,
                )
                delattr(cls, name)
        if both := inputs.keys() & outputs.keys():
            raise ValueError(f"field {sorted(both)} is both an input and an output")
        cls._declared = (tuple(inputs.values()), tuple(outputs.values()))

    @classmethod
    def from_string(cls, text: str, instructions: str = "") -> Signature:
        """Read `"a, b: int -> c: Literal['x','y'], d"`; a field without a type is `str`.

        Raises:
            ValueError: the text has no `->`, or a field or type that cannot be read.
        """
        left, arrow, right = text.partition("->")
        if not arrow or "->" in right:
            raise ValueError(f"a signature string needs one '->': {text!r}")
        signature = cls(instructions)
        for field in _parse_fields(left):
            signature = signature._with(field, output=False)
        for field in _parse_fields(right):
            signature = signature._with(field, output=True)
        return signature

    @property
    def instructions(self) -> str:
        """The task for the model; made from the field names if no instructions were given."""
        if self._instructions:
            return self._instructions
        given = f"Given {', '.join(self._inputs)}, produce" if self._inputs else "Produce"
        return f"{given} {', '.join(self._outputs)}."

    @property
    def inputs(self) -> Mapping[str, Field]:
        """Input fields by name, in order."""
        return dict(self._inputs)

    @property
    def outputs(self) -> Mapping[str, Field]:
        """Output fields by name, in order."""
        return dict(self._outputs)

    def add_input(
        self, name: str, type: Any = str, description: str = "", *, optional: bool = False
    ) -> Signature:
        """A new signature with one more input; a text in the place of the type describes it."""
        kind, words = _described(name, type, description)
        return self._with(Field(name, kind, words, optional), output=False)

    def add_output(
        self, name: str, type: Any = str, description: str = "", *, optional: bool = False
    ) -> Signature:
        """A new signature with one more output; a text in the place of the type describes it."""
        kind, words = _described(name, type, description)
        return self._with(Field(name, kind, words, optional), output=True)

    def add_class_output(
        self,
        name: str,
        labels: Sequence[str],
        description: str = "",
        *,
        optional: bool = False,
        aliases: Mapping[str, str] | None = None,
        ordered: bool = False,
    ) -> Signature:
        """A new signature with an output that takes one of `labels`.

        The labels are categories without an order, unless they are `ordered`; labels that are
        numbers are numbers in the result. An answer counts as a label if it differs only in case
        or surrounding white space, or if it is one of `aliases`.
        """
        if isinstance(labels, str) or not labels:
            raise ValueError(f"labels of {name!r} must be a non-empty list of strings")
        if len(set(labels)) != len(labels):
            raise ValueError(f"labels of {name!r} repeat: {list(labels)}")
        kind: Any = Literal.__getitem__(tuple(labels))
        return self._with(
            Field(name, kind, description, optional, dict(aliases or {}), ordered), output=True
        )

    def with_instructions(self, instructions: str) -> Signature:
        """The same fields with other instructions."""
        return Signature(instructions, self._inputs.values(), self._outputs.values())

    def with_output_first(self, field: Field) -> Signature:
        """A new signature whose first output is `field`."""
        extended = self._with(field, output=True)
        outputs = [field, *self._outputs.values()]
        return Signature(extended._instructions, self._inputs.values(), outputs)

    def _with(self, field: Field, *, output: bool) -> Signature:
        if field.name in self._inputs or field.name in self._outputs:
            raise ValueError(f"the signature already has a field {field.name!r}")
        inputs, outputs = list(self._inputs.values()), list(self._outputs.values())
        (outputs if output else inputs).append(field)
        return Signature(self._instructions, inputs, outputs)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Signature) and (
            (self.instructions, self._inputs, self._outputs)
            == (other.instructions, other._inputs, other._outputs)
        )

    def __hash__(self) -> int:
        return hash((self.instructions, tuple(self._inputs), tuple(self._outputs)))

    def __repr__(self) -> str:
        def side(fields: Iterable[Field]) -> str:
            return ", ".join(f"{f.name}: {f.type_name}" for f in fields)

        return f"Signature({side(self._inputs.values())} -> {side(self._outputs.values())})"


def _described(name: str, kind: Any, description: str) -> tuple[Any, str]:
    """The type and the description, where the type may have been left out."""
    if not isinstance(kind, str):
        return kind, description
    if description or kind in _STRING_TYPES:
        raise TypeError(
            f"the type of {name!r} is a text, {kind!r}: give the type itself, {name!r}, {kind}"
            if kind in _STRING_TYPES
            else f"{name!r} has two descriptions, {kind!r} and {description!r}; a type comes second"
        )
    return str, kind


def as_signature(signature: Any) -> Signature:
    """A `Signature` from an instance, a declared class or a string; TypeError otherwise."""
    if isinstance(signature, str):
        return Signature.from_string(signature)
    if isinstance(signature, type) and issubclass(signature, Signature):
        signature = signature()
    if not isinstance(signature, Signature):
        swapped = callable(getattr(signature, "complete", None))
        hint = ": the signature comes first, Predict(signature, lm)" if swapped else ""
        raise TypeError(f"expected a Signature, got {type(signature).__name__}{hint}")
    if not signature.outputs:
        raise ValueError("a signature needs at least one output (add_output, add_class_output)")
    return signature


def _parse_fields(text: str) -> list[Field]:
    """Fields of one side, read as the parameters of a function (Python's own grammar)."""
    try:
        node = ast.parse(f"def f({text.strip()}): ...").body[0]
    except SyntaxError:
        raise ValueError(f"cannot read the fields {text.strip()!r}") from None
    assert isinstance(node, ast.FunctionDef)
    return [Field(a.arg, _parse_type(a.annotation)) for a in node.args.args]


def _parse_type(node: ast.expr | None) -> Any:
    """The type that an annotation names. Walks the syntax tree, because a string is data: it is
    never evaluated."""
    if node is None:
        return str
    if isinstance(node, ast.Name) and node.id in _STRING_TYPES:
        return _STRING_TYPES[node.id]
    if isinstance(node, ast.Constant):
        return node.value
    if isinstance(node, ast.Subscript):
        outer = _parse_type(node.value)
        bare = [n.id for n in ast.walk(node.slice) if isinstance(n, ast.Name)]
        if outer is Literal and bare:
            quoted = ", ".join(map(repr, bare))
            raise ValueError(f"the labels of Literal need quotes: Literal[{quoted}]")
        inner = node.slice.elts if isinstance(node.slice, ast.Tuple) else [node.slice]
        return outer[tuple(_parse_type(n) for n in inner)]
    if isinstance(node, ast.BinOp) and isinstance(node.op, ast.BitOr):
        return _parse_type(node.left) | _parse_type(node.right)
    raise ValueError(
        f"unknown type {ast.unparse(node)!r}; a signature string knows {', '.join(_STRING_TYPES)}"
    )
