"""The response formats that an endpoint accepts, learnt by use and kept for the process.

A request asks for its answer by JSON schema if the endpoint accepts one. Else the request uses JSON
mode with the schema in words, else words alone. Endpoints refuse an unknown format before they
generate anything, so nothing is billed. Each refusal happens once, not once for each row. Only a
format that worked is learnt: a refusal for another reason changes nothing.

Not all refusals say that they are about the format. As long as a format has not worked, any
refusal is followed by a trial of a lower one: at once after a bad request, in the row's third
attempt after two errors of the server, which usually pass. What a single row meets is not the
format's fault: it takes two different rows that get their answer in the lower format only.

Some endpoints accept a schema and ignore it. If answers fit only once the schema was sent in words,
it is sent in words from then on.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

Form = Literal["json_schema", "json_object", "text"]
FORMS: tuple[Form, ...] = ("json_schema", "json_object", "text")
_LOGPROBS = (20, 5, 0)  # alternatives a token: OpenAI's limit, a lower one, none at all
MOST_TRIES = len(FORMS) + len(_LOGPROBS) + 3
_OF_FORM = re.compile(
    r"response.?(format|schema)|json.?schema|json.?object|json.?mode|structured.?output|grammar"
    r"|guided|invalid schema|no endpoints found that|too many states|\$defs|additionalProperties"
    r"|TYPE_(STRING|OBJECT)",
    re.IGNORECASE,
)
_OF_MAX_TOKENS = re.compile(r"use '?max_completion_tokens", re.IGNORECASE)
_OF_STREAM = re.compile(
    r"(only|must|requires?|enable).{0,40}\bstream|\bstream.{0,30}(must|only|required|set to true)"
    r"|non-?stream",
    re.IGNORECASE,
)
_OF_SYSTEM = re.compile(
    r"system.{0,12}(role|prompt|message|instruction)s?.{0,40}(not|un)\s?(be )?"
    r"(supported|enabled|allowed)|developer instruction is not enabled|roles must alternate",
    re.IGNORECASE,
)
_OF_ONE_ANSWER = re.compile(r"json_validate_failed|does not match the expected schema", re.I)
_OF_LENGTH = re.compile(r"context.?length|maximum context|too (long|many tokens)", re.IGNORECASE)
_OF_LOGPROBS = re.compile(r"log.?prob", re.IGNORECASE)
# refusals that may be about the format though they do not say so
_OF_ANYTHING = frozenset({400, 415, 422})
_OF_ANYTHING_LATER = frozenset({500, 501})
_PASSING = 1  # so many of the server's errors in a row are taken to pass
_ROWS_TO_LEARN = 2  # so many different rows show what is not said
_known: dict[tuple[str, str, Form | None], ResponseFormats] = {}


class ResponseFormat(NamedTuple):
    """How a request is written: what an endpoint takes of what others take.

    Attributes:
        form: how the schema of the answer is sent.
        logprobs: how many alternatives of a token may be asked for.
        is_fixed: whether the form is the user's.
        renames_max_tokens: whether `max_tokens` is called `max_completion_tokens`.
        merges_system: whether the system's message is put before the user's first one.
        streams: whether the answer is streamed, because the endpoint does nothing else.
        says_schema: whether the schema is in words, too, because the endpoint ignores it.
    """

    form: Form
    logprobs: int
    is_fixed: bool = False
    renames_max_tokens: bool = False
    merges_system: bool = False
    streams: bool = False
    says_schema: bool = False

    def lower(self, refusal: str, *, has_schema: bool, has_logprobs: bool) -> ResponseFormat | None:
        """The format to try after a refusal; None if the refusal has another reason."""
        if not self.renames_max_tokens and _OF_MAX_TOKENS.search(refusal):
            return self._replace(renames_max_tokens=True)
        if not self.streams and _OF_STREAM.search(refusal):
            return self._replace(streams=True)
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
        self._of_schema: dict[str, _OfSchema] = {}
        self._found: dict[int, tuple[Mapping[str, Any], _OfSchema]] = {}  # by the schema's id
        self._futile: set[int] = set()  # rows for which no format worked
        self._broke: dict[int, int] = {}  # errors of the server, by row
        self.is_known = False

    def best(self, schema: Mapping[str, Any] | None) -> ResponseFormat:
        """The best format for an answer that fits a schema."""
        if schema is None or not self._of_schema:
            return self._best
        known = self._known_of(schema)
        if known.form is None and not known.is_ignored:
            return self._best
        return self._best._replace(form=known.form or self._best.form, says_schema=known.is_ignored)

    def first(self, schema: Mapping[str, Any] | None, row: int) -> ResponseFormat:
        """The format to try first for a row: a lower one than the best if the server met several
        errors of its own with that."""
        best = self.best(schema)
        steps = self._broke.get(row, 0) - _PASSING
        if steps <= 0 or schema is None or best.is_fixed or self._worked:
            return best
        return best._replace(form=FORMS[min(FORMS.index(best.form) + steps, len(FORMS) - 1)])

    @property
    def ignores_schemas(self) -> bool:
        """Whether the endpoint ignores a schema, so that it has to be in words."""
        return any(known.is_ignored for known in self._of_schema.values())

    def next(
        self,
        asked: ResponseFormat,
        refusal: Exception,
        *,
        schema: Mapping[str, Any] | None,
        has_logprobs: bool,
        row: int,
    ) -> tuple[ResponseFormat, bool] | None:
        """The format to try after a refusal, and whether the refusal names the format; None if the
        refusal has another reason."""
        has_schema = schema is not None
        told = asked.lower(str(refusal), has_schema=has_schema, has_logprobs=has_logprobs)
        if told is not None:
            return told, True
        status = getattr(refusal, "status_code", None)
        if schema is None or asked.is_fixed or asked.form == "text" or self._is_futile:
            return None
        has_reason = getattr(refusal, "hopeless", False) or getattr(refusal, "fatal", False)
        if has_reason or self._known_of(schema).works == asked.form:
            return None
        if _OF_ONE_ANSWER.search(str(refusal)) or _OF_LENGTH.search(str(refusal)):
            return None
        if status in _OF_ANYTHING_LATER:
            self._broke[row] = self._broke.get(row, 0) + 1
        if status not in _OF_ANYTHING:
            return None
        return asked._replace(form=FORMS[FORMS.index(asked.form) + 1]), False

    @property
    def _is_futile(self) -> bool:
        return len(self._futile) >= _ROWS_TO_LEARN and not self._worked

    def refused(self, row: int) -> None:
        """Learn that no format worked for this row."""
        self._futile.add(row)

    def worked(
        self,
        schema: Mapping[str, Any] | None,
        asked: ResponseFormat,
        *,
        better: ResponseFormat,
        is_told: bool,
        row: int,
    ) -> None:
        """Learn that a request in the format `asked` was answered.

        Args:
            better: the format that was tried first; it was refused if it is another.
            is_told: whether all refusals said that they were about the format.
            row: identifies the row.
        """
        self.is_known = True
        if asked is not self._best:
            self._best = self._best._replace(
                renames_max_tokens=asked.renames_max_tokens,
                merges_system=asked.merges_system,
                streams=asked.streams,
            )
        if schema is None:
            return
        if asked.logprobs < better.logprobs:
            self._best = self._best._replace(logprobs=min(self._best.logprobs, asked.logprobs))
        known = self._known_of(schema)
        if asked.form == better.form:
            known.works = asked.form
            known.doubted_by.clear()
            self._broke.clear()
        elif not known.may_fall(is_told, better.form, row):
            return
        else:
            known.form = known.works = asked.form
        self._worked.add(asked.form)
        best = next(form for form in FORMS if form in self._worked)
        if best != self._best.form:
            self._best = self._best._replace(form=best)

    def fitted(self, schema: Mapping[str, Any], *, in_words: bool, row: int) -> None:
        """Learn that an answer fitted a schema, which was sent in words if the first answer did not
        fit."""
        known = self._known_of(schema)
        if not in_words:
            known.fitted += 1
        elif not known.is_ignored:
            known.unfitting.add(row)
            known.is_ignored = len(known.unfitting) >= max(_ROWS_TO_LEARN, known.fitted + 1)

    def _known_of(self, schema: Mapping[str, Any]) -> _OfSchema:
        found = self._found.get(id(schema))
        if found is None or found[0] is not schema:  # to write the key takes longer than to look
            known = self._of_schema.setdefault(_key(schema), _OfSchema())
            found = self._found[id(schema)] = schema, known
        return found[1]


@dataclass
class _OfSchema:
    """What is known of one schema.

    Attributes:
        form: the form in which it is sent; None for the endpoint's best one.
        works: the form in which it was answered last.
        doubted_by: the rows for which `works`, or the best form, was refused.
        fitted: answers that fitted at once.
        unfitting: rows whose answers fitted once the schema was in words.
        is_ignored: whether the endpoint ignores it, so that it has to be in words.
    """

    form: Form | None = None
    works: Form | None = None
    doubted_by: set[int] = field(default_factory=set)
    fitted: int = 0
    unfitting: set[int] = field(default_factory=set)
    is_ignored: bool = False

    def may_fall(self, is_told: bool, better: Form, row: int) -> bool:
        """Whether a lower form is to be used from now on."""
        if is_told and self.works != better:
            return True
        self.doubted_by.add(row)
        return len(self.doubted_by) >= _ROWS_TO_LEARN


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
