"""Reads the body of a chat completion: text, refusal, log probabilities, usage."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..core.errors import ServerError
from ..core.usage import Usage, record
from .prices import Rate


class Completion(NamedTuple):
    """One answer of a model: its text and what it used."""

    text: str | None
    usage: Usage
    model: str
    finish_reason: str | None = None
    refusal: str | None = None
    logprobs: Sequence[Mapping[str, Any]] | None = None  # one a token, as in OpenAI's API


def read_completion(
    body: Mapping[str, Any], *, model: str, rate: Rate | None, latency_ms: float
) -> Completion:
    """The completion in a body; its usage is recorded (see `usage.record`).

    Args:
        model: the model's name where the body has none.
        rate: the price of tokens, None if it is unknown.

    Raises:
        ServerError: the body holds no message; the error carries the usage.
    """
    usage = read_usage(body.get("usage"), rate, latency_ms)
    record(usage)  # the call was billed, even if the rest of the body is unusable
    try:
        choice = body["choices"][0]
        message = choice["message"]
        text, refusal = message.get("content"), message.get("refusal")
    except (KeyError, IndexError, TypeError, AttributeError):
        raise ServerError(
            f"the endpoint's answer has no choices[0].message: {str(body)[:80]!r}", usage=usage
        ) from None
    reported = choice.get("logprobs")
    tokens = reported.get("content") if isinstance(reported, dict) else None
    return Completion(
        text if isinstance(text, str) else None,
        usage,
        str(body.get("model") or model),
        choice.get("finish_reason"),
        refusal,
        tokens if isinstance(tokens, list) else None,
    )


def read_usage(reported: Any, rate: Rate | None, latency_ms: float) -> Usage:
    """The usage that an endpoint reports; a missing figure is None."""
    reported = reported if isinstance(reported, dict) else {}
    names = ("prompt_tokens", "completion_tokens", "total_tokens")
    prompt, completion, total = (_count(reported.get(name)) for name in names)
    details = reported.get("prompt_tokens_details")
    cached = details.get("cached_tokens") if isinstance(details, dict) else None
    cached = cached if isinstance(cached, int) and cached >= 0 else 0
    if prompt is None or completion is None:
        return Usage(prompt, completion, total, None, latency_ms)
    cost = None if rate is None else rate.cost_usd(prompt, completion, cached)
    total = prompt + completion if total is None else total
    return Usage(prompt, completion, total, cost, latency_ms)


def _count(value: Any) -> int | None:
    """A number of tokens; None for anything else that an endpoint may report."""
    is_count = isinstance(value, int) and not isinstance(value, bool) and value >= 0
    return value if is_count else None
