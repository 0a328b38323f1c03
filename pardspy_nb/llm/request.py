"""Builds requests to a model: parameters, response format, limits of prompt and answer."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from .response_format import ResponseFormat, in_words

Message = Mapping[str, Any]
# for the upper bound of a prompt's tokens: no tokenizer makes more tokens than bytes, and a chat
# template adds a few tokens for each message
_TEMPLATE_TOKENS, _MESSAGE_TOKENS = 64, 16
_CAPS = ("max_completion_tokens", "max_tokens")  # the parameters that limit an answer


def request_body(
    model: str,
    messages: Sequence[Message],
    params: Mapping[str, Any],
    *,
    schema: Mapping[str, Any] | None,
    strict: bool,
    form: ResponseFormat,
    renames_max_tokens: bool,
) -> dict[str, Any]:
    """The body of a chat completion.

    Args:
        params: sent unchanged, except for log probabilities beyond what `form` allows.
        schema: the JSON schema that the answer must fit, None for any text.
        strict: whether the schema is in OpenAI's strict form.
        form: the response format, which decides how the schema is sent.
        renames_max_tokens: whether the endpoint calls `max_tokens` `max_completion_tokens`.
    """
    body = {"model": model, "messages": list(messages), **params}
    if (renames_max_tokens or form.renames_max_tokens) and "max_tokens" in body:
        body["max_completion_tokens"] = body.pop("max_tokens")
    if body.get("top_logprobs", 0) > form.logprobs:
        body["top_logprobs"] = form.logprobs
        if not form.logprobs:
            body = {k: v for k, v in body.items() if "logprobs" not in k}
    if schema is not None:
        _require(body, form, schema, strict)
    if form.streams:
        body |= {"stream": True, "stream_options": {"include_usage": True}}
    if form.merges_system:
        body["messages"] = _without_system(body["messages"])
    return body


def _without_system(messages: Sequence[Message]) -> list[Message]:
    """The messages with the system's put before the user's first one."""
    system = "\n".join(str(m["content"]) for m in messages if m["role"] == "system")
    rest = [dict(m) for m in messages if m["role"] != "system"]
    first = next((m for m in rest if m["role"] == "user"), None)
    if not system or first is None:
        return list(rest)
    content = first["content"]
    if isinstance(content, list):  # text and images
        first["content"] = [{"type": "text", "text": system}, *content]
    else:
        first["content"] = f"{system}\n\n{content}"
    return list(rest)


def _require(
    body: dict[str, Any], form: ResponseFormat, schema: Mapping[str, Any], strict: bool
) -> None:
    """Add to the body that the answer must fit a schema, in this response format."""
    if form.form == "json_schema":
        described = {"name": "answer", "strict": strict, "schema": schema}
        body["response_format"] = {"type": form.form, "json_schema": described}
        if not form.says_schema:
            return
    else:
        body.pop("response_format", None)
        if form.form == "json_object":
            body["response_format"] = {"type": form.form}
    first, *rest = body["messages"]
    body["messages"] = [{**first, "content": f"{first['content']}\n{in_words(schema)}"}, *rest]


def row_of(messages: Sequence[Message]) -> int:
    """A number that tells the rows of one process apart: the last message is a row's own."""
    return hash(str(messages[-1]["content"])) if messages else 0


def answer_bounds(body: Mapping[str, Any]) -> list[int]:
    """The values of the parameters that limit an answer's tokens; -1 and the like set no limit."""
    given = (body.get(name) for name in _CAPS)
    return [n for n in given if isinstance(n, int) and n > 0]


def prompt_bound(body: Mapping[str, Any]) -> int:
    """The most tokens that the prompt of a request can have.

    The bound also holds if a schema has to be sent in words.
    """
    n_bytes = len(json.dumps(body, ensure_ascii=False).encode("utf-8", "replace"))
    return n_bytes + _TEMPLATE_TOKENS + _MESSAGE_TOKENS * len(body["messages"])
