"""Makes the JSON schema for a signature's outputs, and reads the outputs in an answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any, NamedTuple

from ..core.errors import (
    EmptyOutputError,
    InvalidOutputError,
    OutOfVocabularyError,
    RefusedOutputError,
    TruncatedOutputError,
)
from .lenient_json import Found, find
from .signature import Signature


class Reading(NamedTuple):
    """The outputs that were read in an answer's text.

    Attributes:
        outputs: by field name, of their declared types.
        repaired: how the text was repaired, None if it was as requested.
        start: where the JSON object begins in the text; None if the text does not hold it
            literally.
    """

    outputs: dict[str, Any]
    repaired: str | None = None
    start: int | None = None


class AnswerParser:
    """The prepared schema and validator of one signature's outputs."""

    def __init__(self, signature: Signature) -> None:
        from pydantic import ConfigDict, ValidationError, create_model
        from pydantic import Field as PydanticField

        self._invalid, self._signature = ValidationError, signature
        self._fields = signature.outputs
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

    def __reduce__(self) -> Any:
        """The class of the answers is made here and has no name that a pickle could refer to."""
        return AnswerParser, (self._signature,)

    def parse(self, text: str | None, finish_reason: str | None, usage: Any) -> Reading:
        """The outputs in an answer's text.

        A text that is not exactly the requested JSON is searched for the answer (see
        `lenient_json`).

        Raises:
            TruncatedOutputError, RefusedOutputError, EmptyOutputError, OutOfVocabularyError,
                InvalidOutputError: each carries `usage`, because the answer was billed.
        """
        if finish_reason == "length":
            raise TruncatedOutputError(
                "the answer was cut at max_tokens; raise LM(max_tokens=…) or ask for less",
                usage=usage,
                text=text,
            )
        if finish_reason == "content_filter":
            raise RefusedOutputError(
                "the endpoint's content filter stopped the answer", usage=usage
            )
        if not text or not text.strip():
            raise EmptyOutputError("the answer is empty", usage=usage)
        try:
            return Reading(self._outputs(text), start=_first(text))
        except self._invalid as error:
            problem = error
        reported = problem
        for found in self._found(text):
            try:
                outputs = self._outputs(json.dumps(found.values))
                return Reading(outputs, found.how, found.start)
            except self._invalid as error:
                reported = error if reported is problem else reported  # of the likeliest
        first = reported.errors(include_url=False, include_input=False)[0]
        kind = OutOfVocabularyError if self._is_label(first) else InvalidOutputError
        raise kind(_explain(first, text), usage=usage, text=text) from None

    def _found(self, text: str) -> Iterator[Found]:
        try:
            yield from find(text, self._fields)
        except (ValueError, RecursionError):  # nested too deeply for a parser
            return

    def _outputs(self, text: str) -> dict[str, Any]:
        answer = self._model.model_validate_json(text)
        return {name: getattr(answer, attribute) for attribute, name in self._names}

    def _is_label(self, error: Any) -> bool:
        """Whether the error is a value that is not a label."""
        where = error["loc"][0] if error["loc"] else None
        return error["type"] in ("literal_error", "enum") and where in self._fields


def _first(text: str) -> int:
    return len(text) - len(text.lstrip())


def _explain(first: Any, text: str) -> str:
    where = ".".join(str(part) for part in first["loc"])
    return f"{where + ': ' if where else ''}{first['msg']}; the answer began {text[:80]!r}"


def _make_strict(schema: dict[str, Any]) -> bool:
    """Convert a schema to OpenAI's strict form, in place; return False if it has none.

    Strict schemas list every property as required, forbid others and have no defaults; an
    object with free keys (`dict`) has no strict form (OpenAI guide "Structured outputs",
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
