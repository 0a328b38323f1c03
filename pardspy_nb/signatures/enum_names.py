"""Enums inside other types, known to the model by the names of their members (see
`core.labels.shows_names`)."""

from __future__ import annotations

import enum
from typing import Any, get_args, get_origin

from pydantic import BaseModel
from pydantic.json_schema import GenerateJsonSchema, JsonSchemaValue
from pydantic_core import core_schema, to_jsonable_python

from ..core.labels import plain_label, shows_names


class NamingSchema(GenerateJsonSchema):
    """JSON schemas that have the names of such members in place of their values."""

    def enum_schema(self, schema: core_schema.EnumSchema) -> JsonSchemaValue:
        """The schema of an Enum."""
        kind = schema["cls"]
        if not shows_names(kind):
            return super().enum_schema(schema)
        return {"type": "string", "enum": list(kind.__members__)}


def has_names(kind: Any, *, inside: frozenset[Any] = frozenset()) -> bool:
    """Whether a type is or holds such an Enum."""
    if isinstance(kind, type) and issubclass(kind, enum.Enum):
        return shows_names(kind)
    if kind in inside:
        return False
    inside |= {kind}
    return any(has_names(part, inside=inside) for part in _parts(kind))


def members_in(kind: Any, value: Any) -> Any:
    """A JSON value with members in place of their names, where the type has such an Enum."""
    if isinstance(value, str) and isinstance(kind, type) and issubclass(kind, enum.Enum):
        return kind.__members__.get(value, value) if shows_names(kind) else value
    if isinstance(value, dict) and _is_model(kind):
        fields = {info.alias or name: info for name, info in kind.model_fields.items()}
        return {
            k: members_in(fields[k].annotation, v) if k in fields else v for k, v in value.items()
        }
    parts = get_args(kind)
    if get_origin(kind) is dict and isinstance(value, dict):
        return {members_in(parts[0], k): members_in(parts[1], v) for k, v in value.items()}
    if get_origin(kind) in (list, set, frozenset, tuple) and isinstance(value, list):
        is_mixed = get_origin(kind) is tuple and Ellipsis not in parts
        kinds = parts if is_mixed else [parts[0]] * len(value)
        return [*map(members_in, kinds, value), *value[len(kinds) :]]
    for part in parts:  # of a union, or of `Annotated`
        changed = members_in(part, value)
        if changed is not value and changed != value:
            return changed
    return value


def names_in(value: Any) -> Any:
    """A value as JSON with the names of such members in it."""
    return to_jsonable_python(_named(value))


def _named(value: Any) -> Any:
    if isinstance(value, enum.Enum):
        return plain_label(value)
    if isinstance(value, BaseModel):
        return {
            info.alias or name: _named(getattr(value, name))
            for name, info in type(value).model_fields.items()
        }
    if isinstance(value, dict):
        return {_named(k): _named(v) for k, v in value.items()}
    return list(map(_named, value)) if isinstance(value, list | tuple | set) else value


def _is_model(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, BaseModel)


def _parts(kind: Any) -> list[Any]:
    if _is_model(kind):
        return [info.annotation for info in kind.model_fields.values()]
    return [part for part in get_args(kind) if isinstance(part, type) or get_origin(part)]
