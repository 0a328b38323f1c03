"""From a signature to the JSON schema an endpoint gets, and from its answer to outputs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from .errors import EmptyOutputError, InvalidOutputError, RefusedOutputError, TruncatedOutputError
from .signature import Signature

if TYPE_CHECKING:
    from pydantic import ValidationError


class AnswerParser:
    """The prepared schema and validator of one signature's outputs."""

    def __init__(self, signature: Signature) -> None:
        from pydantic import ConfigDict, ValidationError, create_model
        from pydantic import Field as PydanticField

        self._invalid = ValidationError

        definitions: dict[str, Any] = {}
        for name, field in signature.outputs.items():
            default = None if field.optional else ...
            description = field.description or None
            # the alias keeps names such as `schema` or `copy` off pydantic's own attributes
            info = PydanticField(default, alias=name, description=description)
            definitions[f"f_{name}"] = (field.annotation, info)
        config = ConfigDict(extra="ignore", protected_namespaces=())
        self._model = create_model("Answer", __config__=config, **definitions)
        self._names = [(f"f_{name}", name) for name in signature.outputs]
        schema = self._model.model_json_schema(mode="validation")
        self.strict = _make_strict(schema)
        self.schema: dict[str, Any] = schema

    def parse(self, text: str | None, finish_reason: str | None, usage: Any) -> dict[str, Any]:
        """The outputs in an answer's text.

        Raises:
            TruncatedOutputError, RefusedOutputError, EmptyOutputError, InvalidOutputError:
                each carries `usage`, because the answer was billed.
        """
        if finish_reason == "length":
            raise TruncatedOutputError(
                "the answer was cut at max_tokens; raise LM(max_tokens=…) or ask for less",
                usage=usage,
            )
        if finish_reason == "content_filter":
            raise RefusedOutputError(
                "the endpoint's content filter stopped the answer", usage=usage
            )
        if not text or not text.strip():
            raise EmptyOutputError("the answer is empty", usage=usage)
        try:
            answer = self._model.model_validate_json(text)
        except self._invalid as error:
            raise InvalidOutputError(_explain(error, text), usage=usage) from None
        return {name: getattr(answer, attribute) for attribute, name in self._names}


def _explain(error: ValidationError, text: str) -> str:
    first = error.errors(include_url=False, include_input=False)[0]
    where = ".".join(str(part) for part in first["loc"])
    return f"{where + ': ' if where else ''}{first['msg']}; the answer began {text[:80]!r}"


def _make_strict(schema: dict[str, Any]) -> bool:
    """Bring a schema into OpenAI's strict form, in place; False where it has none.

    Strict schemas list every property as required, forbid others and have no defaults; an
    object with free keys (`dict`) cannot be written so (OpenAI guide "Structured outputs",
    section "Supported schemas").
    """
    strict = True
    schema.pop("title", None)
    schema.pop("default", None)
    if "properties" in schema:
        schema["required"] = list(schema["properties"])
        schema["additionalProperties"] = False
    elif schema.get("type") == "object":
        strict = False
    elif "type" not in schema and not schema.keys() & {"anyOf", "$ref", "enum", "const", "allOf"}:
        strict = False  # an untyped value (Any)
    for key in ("properties", "$defs"):
        for child in schema.get(key, {}).values():
            strict = _make_strict(child) and strict
    for child in [*schema.get("anyOf", []), *schema.get("prefixItems", [])]:
        strict = _make_strict(child) and strict
    if isinstance(schema.get("items"), dict):
        strict = _make_strict(schema["items"]) and strict
    return strict
