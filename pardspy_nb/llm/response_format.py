"""The response formats that an endpoint accepts, learnt by use and kept for the process.

A request asks for its answer by JSON schema if the endpoint accepts one. Else the request uses JSON
mode with the schema in words, else words alone. Endpoints refuse an unknown format with a 400
before they generate anything, so nothing is billed. Each refusal happens once, not once for each
row. Only a format that worked is learnt: a refusal for another reason changes nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple

Form = Literal["json_schema", "json_object", "text"]
FORMS: tuple[Form, ...] = ("json_schema", "json_object", "text")
_LOGPROBS = (20, 5, 0)  # alternatives a token: OpenAI's limit, a lower one, none at all
MOST_TRIES = len(FORMS) + len(_LOGPROBS) + 2
_OF_FORM = re.compile(
    r"response.?(format|schema)|json.?schema|json.?object|json.?mode|structured.?output|grammar"
    r"|guided|invalid schema|too many states|\$defs|additionalProperties|TYPE_(STRING|OBJECT)",
    re.IGNORECASE,
)
_OF_MAX_TOKENS = re.compile(r"use '?max_completion_tokens", re.IGNORECASE)
_OF_SYSTEM = re.compile(
    r"system.{0,12}(role|prompt|message|instruction)s?.{0,40}(not|un)\s?(be )?"
    r"(supported|enabled|allowed)|developer instruction is not enabled|roles must alternate",
    re.IGNORECASE,
)
_OF_ONE_ANSWER = re.compile(r"json_validate_failed|does not match the expected schema", re.I)
_OF_LENGTH = re.compile(r"context.?length|maximum context|too (long|many tokens)", re.IGNORECASE)
_OF_LOGPROBS = re.compile(r"log.?prob", re.IGNORECASE)
_known: dict[tuple[str, str, Form | None], ResponseFormats] = {}


class ResponseFormat(NamedTuple):
    """How a request is written: what an endpoint takes of what others take.

    Attributes:
        form: how the schema of the answer is sent.
        logprobs: how many alternatives of a token may be asked for.
        is_fixed: whether the form is the user's.
        renames_max_tokens: whether `max_tokens` is called `max_completion_tokens`.
        merges_system: whether the system's message is put before the user's first one.
    """

    form: Form
    logprobs: int
    is_fixed: bool = False
    renames_max_tokens: bool = False
    merges_system: bool = False

    def lower(self, refusal: str, *, has_schema: bool, has_logprobs: bool) -> ResponseFormat | None:
        """The format to try after a refusal; None if the refusal has another reason."""
        if not self.renames_max_tokens and _OF_MAX_TOKENS.search(refusal):
            return self._replace(renames_max_tokens=True)
        if not self.merges_system and _OF_SYSTEM.search(refusal):
            return self._replace(merges_system=True)
        if has_logprobs and self.logprobs and _OF_LOGPROBS.search(refusal):
            return self._replace(logprobs=next(n for n in _LOGPROBS if n < self.logprobs))
        is_other = _OF_LENGTH.search(refusal) or _OF_ONE_ANSWER.search(refusal)
        of_form = _OF_FORM.search(refusal) and not is_other
        if self.is_fixed or not has_schema or self.form == "text" or not of_form:
            return None
        return self._replace(form=FORMS[FORMS.index(self.form) + 1])


class ResponseFormats:
    """The response formats that one model at one endpoint accepts.

    Attributes:
        is_known: whether an answer has arrived, so that an accepted format is known.
    """

    def __init__(self, form: Form | None = None) -> None:
        self._best = ResponseFormat(form or "json_schema", _LOGPROBS[0], is_fixed=form is not None)
        self._worked: set[Form] = set()
        self._of_schema: dict[str, Form] = {}  # for schemas refused in a better format
        self.is_known = False

    def best(self, schema: Mapping[str, Any] | None) -> ResponseFormat:
        """The best format for an answer that fits a schema."""
        if schema is None or not self._of_schema:
            return self._best
        return self._best._replace(form=self._of_schema.get(_key(schema), self._best.form))

    def worked(
        self, schema: Mapping[str, Any] | None, asked: ResponseFormat, *, fell: bool
    ) -> None:
        """Learn that a request in the format `asked` was answered.

        `fell` is whether the request was refused in a better format before.
        """
        self.is_known = True
        self._best = self._best._replace(
            renames_max_tokens=asked.renames_max_tokens, merges_system=asked.merges_system
        )
        if schema is None:
            return
        if fell:
            self._of_schema[_key(schema)] = asked.form
            self._best = self._best._replace(logprobs=min(self._best.logprobs, asked.logprobs))
        self._worked.add(asked.form)
        best = next(form for form in FORMS if form in self._worked)
        if best != self._best.form:
            self._best = self._best._replace(form=best)


def forget_formats() -> None:
    """Forget all formats that this process has learnt, for example after a server's upgrade."""
    _known.clear()


def formats_of(url: str, model: str, form: Form | None = None) -> ResponseFormats:
    """The formats that this process has learnt for a model at an endpoint. A `form` that the user
    has set is the only one."""
    return _known.setdefault((url.rstrip("/"), model, form), ResponseFormats(form))


def in_words(schema: Mapping[str, Any]) -> str:
    """A schema as part of a prompt."""
    return (
        "The JSON object must fit this JSON schema, and nothing may stand before or after it:\n"
        + json.dumps(schema, ensure_ascii=False)
    )


def _key(schema: Mapping[str, Any]) -> str:
    return json.dumps(schema, sort_keys=True)
