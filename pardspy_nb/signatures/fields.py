"""One field of a signature: its type, its labels, its description."""

from __future__ import annotations

import dataclasses
import enum
import types
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import TYPE_CHECKING, Annotated, Any, Literal, Union, get_args, get_origin

from ..core.labels import plain_label
from .spelling import NO_LABEL, Spellings
from .type_words import type_words

if TYPE_CHECKING:
    from pydantic import TypeAdapter  # imported when a field is made: the import takes 45 ms

# The columns `run_parallel` writes beside inputs and outputs, in their order.
RESERVED = (
    "sample",
    "status",
    "error_type",
    "error",
    "repaired",
    "attempts",
    "cached",
    "latency_ms",
    "queued_ms",
    "waited_ms",
    "started_at",
    "prompt_tokens",
    "completion_tokens",
    "total_tokens",
    "cost_usd",
    "model",
    "finish_reason",
)


@dataclass(frozen=True)
class FieldInfo:
    """What `InputField` or `OutputField` declares, kept until the class is made."""

    kind: Literal["input", "output"]
    description: str
    optional: bool
    aliases: Mapping[str, str]
    ordered: bool = False


def InputField(description: str = "", *, optional: bool = False) -> Any:  # noqa: N802 - as in DSPy
    """Declare an input of a `Signature` class."""
    return FieldInfo("input", description, optional, {})


def OutputField(  # noqa: N802 - the field's usual name, as in DSPy
    description: str = "",
    *,
    optional: bool = False,
    aliases: Mapping[str, str] | None = None,
    ordered: bool = False,
) -> Any:
    """Declare an output of a `Signature` class; `aliases` maps other spellings to a label, and
    `ordered` labels can be compared (`<`, `max`) in the order in which they are declared."""
    return FieldInfo("output", description, optional, dict(aliases or {}), ordered)


@dataclass(frozen=True)
class Field:
    """A named, typed input or output. Raises ValueError or TypeError if it is unusable."""

    name: str
    type: Any = str
    description: str = ""
    optional: bool = False
    aliases: Mapping[str, str] = field(default_factory=dict)
    ordered: bool = False

    def __post_init__(self) -> None:
        from pydantic import PydanticSchemaGenerationError

        if not self.name.isidentifier():
            raise ValueError(f"field name {self.name!r} is not a Python identifier")
        try:
            self.adapter  # noqa: B018 - built now so that a bad type is refused here
        except PydanticSchemaGenerationError:
            raise TypeError(
                f"field {self.name!r} has type {self.type!r}, which is not a data type; "
                "use str, int, float, bool, datetime, Literal, Enum, list, dict or a "
                "pydantic model"
            ) from None
        labels = self.labels or ()
        if None in labels or len(set(labels)) < len(labels):
            raise ValueError(
                f"the labels of field {self.name!r} must differ and none may be None: "
                f"{list(labels)}; use optional=True for no label"
            )
        for alias, label in self.aliases.items():
            if label not in (self.labels or ()):
                raise ValueError(
                    f"alias {alias!r} of field {self.name!r} names {label!r}, which is not one of "
                    f"its labels {list(self.labels or ())}"
                )

    def __getstate__(self) -> dict[str, Any]:
        """The declared values only: cached values refer back to the field, and are made again."""
        return {f.name: self.__dict__[f.name] for f in dataclasses.fields(self)}

    @cached_property
    def labels(self) -> tuple[Any, ...] | None:
        """The declared values of a class field in order, None for any other type."""
        kind = self._bare_type
        if get_origin(kind) is Literal:
            return get_args(kind)
        if isinstance(kind, type) and issubclass(kind, enum.Enum):
            return tuple(plain_label(member) for member in kind)
        return None

    @cached_property
    def _bare_type(self) -> Any:
        """The type without `| None`."""
        if get_origin(self.type) in (Union, types.UnionType):
            rest = [a for a in get_args(self.type) if a is not type(None)]
            if len(rest) == 1:
                return rest[0]
        return self.type

    @property
    def value_type(self) -> Any:
        """The declared type without `| None`."""
        return self._bare_type

    @cached_property
    def annotation(self) -> Any:
        """The type for pydantic: ignores case and space of labels, allows None if optional."""
        from pydantic import BeforeValidator, PlainSerializer

        from .enum_names import has_names, members_in, names_in

        kind = self._bare_type
        if has_names(kind):
            named = partial(members_in, kind)
            named_json = PlainSerializer(names_in, when_used="json")
            kind = Annotated[kind, BeforeValidator(named), named_json]
        if self.labels is not None:
            kind = Annotated[kind, BeforeValidator(self._to_label)]
        nullable = self.optional or self._bare_type is not self.type
        return kind | None if nullable else kind

    @cached_property
    def adapter(self) -> TypeAdapter[Any]:
        """Validates one value of this field."""
        from pydantic import TypeAdapter

        return TypeAdapter(self.annotation)

    @cached_property
    def is_listlike(self) -> bool:
        """Whether one value is itself a list."""
        return get_origin(self._bare_type) in (list, tuple, set) or self._bare_type in (list, tuple)

    @cached_property
    def type_name(self) -> str:
        """The type as a prompt describes it."""
        if self.labels is not None:
            return "one of: " + ", ".join(str(label) for label in self.labels)
        return type_words(self._bare_type)

    @property
    def nested_schema(self) -> dict[str, Any] | None:
        """The JSON schema of a nested type, under Python's names; None for other types."""
        is_nested = get_origin(self._bare_type) is not None or hasattr(
            self._bare_type, "model_fields"
        )
        if self.labels is not None or not is_nested:
            return None
        try:
            return self.adapter.json_schema(by_alias=False)
        except Exception:  # a type that JSON schema has no words for
            return None

    @cached_property
    def spellings(self) -> Spellings:
        """Which texts spell which label."""
        return Spellings(self.labels or (), self.aliases)

    def _to_label(self, value: Any) -> Any:
        if not isinstance(value, str):
            return value
        label = self.spellings.label_of(value)
        return value if label is NO_LABEL else label

    def render(self, value: Any) -> str:
        """An input value as the text of a prompt."""
        if isinstance(value, str):
            return value
        dumped = self.adapter.dump_python(self.adapter.validate_python(value), mode="json")
        if isinstance(dumped, str):
            return dumped
        import json

        return json.dumps(dumped, ensure_ascii=False)


def refuse_reserved(name: str) -> None:
    """Refuse a field with the name of one of the result's columns. ValueError."""
    if name in RESERVED:
        raise ValueError(
            f"field name {name!r} is the name of a result column; choose another, "
            f"e.g. {name + '_text'!r} (reserved: {', '.join(RESERVED)})"
        )


@dataclass(frozen=True)
class Inputs:
    """A module's inputs: fields by name; `open` if the module takes any other name too."""

    fields: Mapping[str, Field]
    open: bool = False

    @property
    def required(self) -> list[str]:
        """Names without which a row is refused."""
        return [name for name, field in self.fields.items() if not field.optional]
