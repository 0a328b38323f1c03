"""What an endpoint understands of a request's form, found out by use and remembered.

An answer's form is asked for by JSON schema where the endpoint takes one, else by its JSON mode
with the schema in words, else in words alone. Endpoints refuse what they do not know with a 400
before anything is generated, so nothing is billed; each refusal is met once, not once a row.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal

Form = Literal["json_schema", "json_object", "text"]
_FORMS: tuple[Form, ...] = ("json_schema", "json_object", "text")
_MOST_LOGPROBS = (20, 5, 0)  # alternatives a token: OpenAI's limit, a lower one, none at all
_OF_FORM = re.compile(
    r"response.?format|json.?schema|json.?object|json.?mode|structured.?output|grammar|guided"
    r"|invalid schema",
    re.IGNORECASE,
)
_OF_LOGPROBS = re.compile(r"log.?prob", re.IGNORECASE)
_known: dict[tuple[str, str], Forms] = {}


class Forms:
    """What one model at one endpoint understands.

    Attributes:
        is_known: whether an answer has come in the form that is used.
        logprobs: alternatives for each token that may be asked for; 0 if none.
    """

    def __init__(self) -> None:
        self._form: Form = "json_schema"
        self._of_schema: dict[str, Form] = {}  # schemas that it refused, though it takes others
        self.is_known = False
        self.logprobs = _MOST_LOGPROBS[0]

    def of(self, schema: Mapping[str, Any]) -> Form:
        """The form in which to ask for an answer that fits a schema."""
        return self._of_schema.get(_key(schema), self._form) if self._of_schema else self._form

    def worked(self) -> None:
        """An answer has come."""
        self.is_known = True

    def refused(
        self, message: str, schema: Mapping[str, Any] | None, form: Form | None, logprobs: int
    ) -> bool:
        """Learn from an endpoint's refusal; whether the request should be sent again, in another
        form. `form` and `logprobs` are those of the request."""
        if logprobs and _OF_LOGPROBS.search(message):
            self.logprobs = min(self.logprobs, next(n for n in _MOST_LOGPROBS if n < logprobs))
            return True
        if schema is None or form in (None, "text") or not _OF_FORM.search(message):
            return False
        assert form is not None
        lower = _FORMS[_FORMS.index(form) + 1]
        if self.is_known and self._form == form:
            self._of_schema[_key(schema)] = lower
        elif self.of(schema) == form:  # else another request has learnt it meanwhile
            self._form = lower
            self._of_schema.pop(_key(schema), None)
        return True


def forms_of(url: str, model: str) -> Forms:
    """What is known, in this process, of a model at an endpoint."""
    return _known.setdefault((url.rstrip("/"), model), Forms())


def in_words(schema: Mapping[str, Any]) -> str:
    """A schema as part of a prompt."""
    return (
        "The JSON object must fit this JSON schema, and nothing may stand before or after it:\n"
        + json.dumps(schema, ensure_ascii=False)
    )


def _key(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema, sort_keys=True)
