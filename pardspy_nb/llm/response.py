"""Reads the body of a chat completion: text, refusal, log probabilities, usage."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from ..core.errors import EmptyOutputError, RefusedOutputError, ServerError, TruncatedOutputError
from ..core.finish_reasons import ending_of
from ..core.usage import Usage, count, record
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
        ServerError: the body holds no message.
        RefusedOutputError: a filter stopped the answer before it began.
        EmptyOutputError: there are only the model's thoughts. Each error carries the usage.
    """
    choices = body.get("choices")
    choice = choices[0] if isinstance(choices, list) and choices else None
    choice = choice if isinstance(choice, dict) else {}
    usage = read_usage(body.get("usage") or choice.get("usage"), rate, latency_ms)
    record(usage)  # the call was billed, even if the rest of the body is unusable
    reason = choice.get("finish_reason")
    message = choice.get("message")
    if not isinstance(message, dict):
        if ending_of(reason) == "filtered":
            raise RefusedOutputError(
                f"the endpoint's content filter stopped the answer ({reason})", usage=usage
            )
        raise ServerError(
            f"the endpoint's answer has no choices[0].message: {str(body)[:80]!r}", usage=usage
        )
    refusal = message.get("refusal")
    text = _text_of(message)
    if not text and not refusal:
        _explain_empty(message, reason, usage)
    reported = choice.get("logprobs")
    tokens = reported.get("content") if isinstance(reported, dict) else None
    return Completion(
        text,
        usage,
        str(body.get("model") or model),
        reason if isinstance(reason, str) else None,
        refusal if isinstance(refusal, str) else None,
        tokens if isinstance(tokens, list) else None,
    )


def _text_of(message: Mapping[str, Any]) -> str | None:
    """The text of a message: its content, which some endpoints send in parts, or the arguments of
    its only tool call."""
    content = message.get("content")
    if isinstance(content, list):  # Mistral's, with thoughts among them
        parts = [part for part in content if isinstance(part, dict)]
        texts = [part.get("text") for part in parts if part.get("type", "text") == "text"]
        content = "".join(text for text in texts if isinstance(text, str))
    if isinstance(content, dict):  # already read as JSON
        return json.dumps(content)
    if isinstance(content, str) and content:
        return content
    calls = message.get("tool_calls")
    call = calls[0] if isinstance(calls, list) and len(calls) == 1 else None
    called = call.get("function") if isinstance(call, dict) else message.get("function_call")
    arguments = called.get("arguments") if isinstance(called, dict) else None
    if isinstance(arguments, dict):
        return json.dumps(arguments)
    if isinstance(arguments, str):
        return arguments
    return content if isinstance(content, str) else None


def _explain_empty(message: Mapping[str, Any], reason: object, usage: Usage) -> None:
    """Say where an answer without text has its words, because to ask again would not help."""
    kind = TruncatedOutputError if ending_of(reason) == "cut" else EmptyOutputError
    for name in ("reasoning_content", "reasoning", "analysis", "thinking"):
        thoughts = message.get(name)
        if isinstance(thoughts, str) and thoughts.strip():
            error = kind(
                f"the answer has no content, only the model's thoughts in {name!r} "
                f"({len(thoughts):,} characters): raise max_tokens, or turn the thinking off",
                usage=usage,
            )
            error.retryable = False
            raise error


def read_usage(reported: Any, rate: Rate | None, latency_ms: float) -> Usage:
    """The usage that an endpoint reports; a missing figure is None. It is never too low: tokens
    that are in the total and in nothing else (a model's thoughts) were generated, too."""
    reported = reported if isinstance(reported, dict) else {}
    prompt = _first_count(reported, "prompt_tokens", "input_tokens")
    completion = _first_count(reported, "completion_tokens", "output_tokens")
    total = count(reported.get("total_tokens"))
    details = reported.get("prompt_tokens_details")
    details = details if isinstance(details, dict) else {}
    cached = _first_count(details, "cached_tokens")
    if cached is None:  # as DeepSeek and Moonshot say it
        cached = _first_count(reported, "prompt_cache_hit_tokens", "cached_tokens")
    if prompt is None or completion is None:
        return Usage(prompt, completion, total, _own_cost(reported, rate), latency_ms)
    if total is not None:
        completion = max(completion, total - prompt)
    cost = _own_cost(reported, rate)
    if cost is None:
        cost = _cost(rate, prompt, completion, min(cached or 0, prompt))
    return Usage(prompt, completion, prompt + completion, cost, latency_ms)


def _own_cost(reported: Mapping[str, Any], rate: Rate | None) -> float | None:
    """The cost in US dollars that the provider itself states (OpenRouter), unless the user has set
    a price."""
    cost: Any = reported.get("cost")
    if rate is not None and rate.is_given:
        return None
    is_number = isinstance(cost, int | float) and not isinstance(cost, bool)
    return float(cost) if is_number and 0 <= cost < math.inf else None


def _cost(rate: Rate | None, prompt: int, completion: int, cached: int) -> float | None:
    if rate is None:
        return None
    try:
        return max(0.0, rate.cost_usd(prompt, completion, cached))
    except Exception:  # the price table's own code; an answer that is paid for must not be lost
        return None


def _first_count(reported: Mapping[str, Any], *names: str) -> int | None:
    return next((n for name in names if (n := count(reported.get(name))) is not None), None)
