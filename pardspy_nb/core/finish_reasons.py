"""What an endpoint says about the end of an answer, in the words of all providers."""

from __future__ import annotations

from typing import Literal

Ending = Literal["whole", "cut", "filtered", "broken", "unknown"]
_WORDS: dict[Ending, tuple[str, ...]] = {
    "whole": (
        *("", "stop", "end_turn", "stop_sequence", "eos", "eos_token", "completed", "complete"),
        *("tool_calls", "tool_use", "function_call", "finish_reason_stop", "end"),
    ),
    "cut": (
        *("length", "max_tokens", "model_length", "max_output_tokens", "max_completion_tokens"),
        *("model_context_window_exceeded", "token_limit", "context_length", "incomplete"),
        *("max_length", "length_limit", "limit"),
    ),
    "filtered": (
        *("content_filter", "content_filtered", "safety", "sensitive", "refusal", "recitation"),
        *("blocklist", "prohibited_content", "spii", "image_safety", "guardrail_intervened"),
        *("moderation", "flagged", "error_toxic", "prompt_filtered"),
    ),
    "broken": (
        *("error", "network_error", "abort", "aborted", "cancelled", "other", "timeout"),
        *("insufficient_system_resource", "malformed_function_call", "language"),
        *("finish_reason_unspecified", "malformed_response", "unexpected_tool_call"),
        *("engine_overloaded", "repetition"),
    ),
}
_ENDINGS: dict[str, Ending] = {word: ending for ending, words in _WORDS.items() for word in words}


def ending_of(finish_reason: object) -> Ending:
    """How an answer ended; `whole` if nothing was said."""
    return _ENDINGS.get(str(finish_reason or "").strip().casefold(), "unknown")
