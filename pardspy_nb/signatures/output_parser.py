"""Makes the JSON schema for a signature's outputs, and reads the outputs in an answer."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..core.errors import (
    BrokenOutputError,
    EmptyOutputError,
    InvalidOutputError,
    OutOfVocabularyError,
    RefusedOutputError,
    TruncatedOutputError,
)
from ..core.finish_reasons import ending_of
from .faithful import is_faithful, misnamed_in
from .fields import Field
from .lenient_json import Found, find, single
from .signature import Signature

_HALF = re.compile("[\ud800-\udfff]")
_HALF_ESCAPED = re.compile(
    r"(?<!\\)\\u[dD][89abAB][0-9a-fA-F]{2}(?!\\u[dD][c-fC-F])"
    r"|(?<!\\u[dD][89abAB][0-9a-fA-F]{2})(?<!\\)\\u[dD][c-fC-F][0-9a-fA-F]{2}"
)
_MOST_LABELS = 20  # of more, an error names the nearest


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

        from .enum_names import NamingSchema

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
        schema = self._model.model_json_schema(mode="validation", schema_generator=NamingSchema)
        written = json.dumps(schema)
        # types for which pydantic reads other values than those that are written
        of_such = ('"number"', '"integer"', '"format": "date', '"format": "time', '"duration"')
        self._is_read_freely = any(kind in written for kind in of_such)
        self._is_nested = '"$defs"' in written or written.count('"object"') > 1
        self._quoted = [json.dumps(name) for name in self._fields]
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
                BrokenOutputError, InvalidOutputError: each carries `usage`, because the answer was
                billed.
        """
        ending = ending_of(finish_reason)
        if ending == "filtered":
            raise RefusedOutputError(
                f"the endpoint's content filter stopped the answer ({finish_reason})", usage=usage
            )
        if ending in ("broken", "unknown"):
            raise BrokenOutputError(
                f"the endpoint ended the answer with finish_reason {str(finish_reason)!r}, so it "
                "may not be whole",
                usage=usage,
                text=text,
            )
        if ending == "cut":
            return self._before_the_cut(text or "", usage)
        if not text or not text.strip():
            raise EmptyOutputError("the answer is empty", usage=usage)
        cleaned = _without_half_pairs(text)
        try:
            outputs = self._outputs(cleaned)
            how, start = (None, _first(text)) if cleaned is text else ("mended", None)
            return Reading(outputs, how, start)
        except (self._invalid, InvalidOutputError) as error:
            problem: Exception = error
        reported = problem
        try:
            for readings in find(cleaned, self._fields):
                fitting, error_of_first = self._fitting(readings)
                if fitting:
                    return self._agreed(fitting, text, usage)
                reported = error_of_first if error_of_first and reported is problem else reported
        except (ValueError, RecursionError) as error:  # unclosed thoughts; nested too deeply
            if "thoughts" in str(error):
                raise InvalidOutputError(str(error), usage=usage, text=text) from None
        raise self._explained(reported, text, usage) from None

    def _before_the_cut(self, text: str, usage: Any) -> Reading:
        """The object that a text begins with, if the text goes on after it up to the limit: in
        blanks, or in an invented next turn."""
        try:
            _, end = json.JSONDecoder().raw_decode(text, _first(text))
            first = next(find(text, self._fields), []) if end < len(text) else []
        except (ValueError, RecursionError):
            first = []
        fitting, _ = self._fitting(first[:1])
        if not fitting or text[: fitting[0][1].at].strip():
            raise TruncatedOutputError(
                "the answer was cut at max_tokens; raise LM(max_tokens=…) or ask for less",
                usage=usage,
                text=text,
            )
        outputs, found = fitting[0]
        return Reading(outputs, None if found.how == "renamed" else found.how, found.start)

    def _fitting(
        self, readings: Sequence[Found]
    ) -> tuple[list[tuple[dict[str, Any], Found]], Exception | None]:
        """The readings that fit the signature, and why the first other one does not."""
        fitting, first = [], None
        for found in readings:
            try:
                fitting.append((self._outputs(json.dumps(found.values)), found))
            except (self._invalid, InvalidOutputError) as error:
                first = first or error
        return fitting, first

    def _agreed(
        self, fitting: Sequence[tuple[dict[str, Any], Found]], text: str, usage: Any
    ) -> Reading:
        outputs, found = fitting[-1]
        if any(other != outputs for other, _ in fitting):
            raise InvalidOutputError(
                "the answer holds several different objects; write one only", usage=usage, text=text
            )
        # of an object that comes twice it is not known which one the model meant
        return Reading(outputs, found.how, found.start if len(fitting) == 1 else None)

    def _explained(self, error: Exception, text: str, usage: Any) -> InvalidOutputError:
        if not isinstance(error, self._invalid):
            return InvalidOutputError(f"{error}; it began {text[:80]!r}", usage=usage, text=text)
        first = error.errors(include_url=False)[0]
        if self._is_label(first):
            name = str(first["loc"][0])
            is_long = len(self._fields[name].labels or ()) > _MOST_LABELS
            said = _far_from(name, first["input"], self._fields) if is_long else ""
            return OutOfVocabularyError(said or _explain(first, text), usage=usage, text=text)
        return InvalidOutputError(_explain(first, text), usage=usage, text=text)

    def _outputs(self, text: str) -> dict[str, Any]:
        """The outputs in a JSON text. Raises pydantic's error, or an `InvalidOutputError`."""
        answer = self._model.model_validate_json(text)
        outputs = {name: getattr(answer, attribute) for attribute, name in self._names}
        is_odd = len(answer.model_fields_set) < len(self._names)
        is_double = any(text.count(name) > 1 for name in self._quoted)
        if is_odd or is_double or self._is_nested or self._is_read_freely:
            raw = _loaded(text)
            if misnamed := misnamed_in(raw, self._fields):
                raise InvalidOutputError(f"the answer has {misnamed} instead of the named fields")
            for name, value in outputs.items():
                if name in raw and not is_faithful(raw[name], value):
                    raise InvalidOutputError(f"{name}: {raw[name]!r} is not of the declared type")
        return outputs

    def _is_label(self, error: Any) -> bool:
        """Whether the error is a value that is not a label."""
        where = error["loc"][0] if error["loc"] else None
        return error["type"] in ("literal_error", "enum") and where in self._fields


def _without_half_pairs(text: str) -> str:
    """The text with a mark in place of each half of a surrogate pair, which no JSON may hold."""
    if "\\u" not in text and not _HALF.search(text):
        return text
    return _HALF_ESCAPED.sub("\ufffd", _HALF.sub("\ufffd", text))


def _loaded(text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=single)
    except ValueError as error:  # the text is JSON, so it is the hook's
        raise InvalidOutputError(str(error)) from None


def _first(text: str) -> int:
    return len(text) - len(text.lstrip())


def _far_from(name: str, value: Any, fields: Mapping[str, Field]) -> str:
    """A sentence about a value that is none of many labels; it names the nearest."""
    labels = [str(label) for label in fields[name].labels or ()]
    near = difflib.get_close_matches(str(value)[:200], labels, 5, 0.0)
    return (
        f"{name}: {str(value)[:200]!r} is none of the {len(labels):,} labels; the nearest are "
        f"{', '.join(map(repr, near))}"
    )


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
    for name in ("title", "default", "uniqueItems"):
        schema.pop(name, None)
    if "$ref" in schema and len(schema) > 1:  # a reference stands alone
        schema["anyOf"] = [{"$ref": schema.pop("$ref")}]
    if "prefixItems" in schema:  # a tuple: so many items, each of one of its types
        schema["items"] = {"anyOf": schema.pop("prefixItems")}
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
    for child in schema.get("anyOf", []):
        strict = _make_strict(child) and strict
    if isinstance(schema.get("items"), dict):
        strict = _make_strict(schema["items"]) and strict
    return strict
