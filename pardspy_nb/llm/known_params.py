"""The fields of a chat completion request that a caller may set by name."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Literal

from ..core.options import Options

# of openai's `chat.completions.create`, without what this package sets itself
KNOWN = frozenset(
    {"frequency_penalty", "function_call", "functions", "logit_bias", "logprobs", "metadata"}
    | {"max_completion_tokens", "max_tokens", "modalities", "moderation", "n", "prediction"}
    | {"parallel_tool_calls", "presence_penalty", "prompt_cache_key", "prompt_cache_options"}
    | {"prompt_cache_retention", "reasoning_effort", "response_format", "safety_identifier"}
    | {"seed", "service_tier", "stop", "store", "stream", "stream_options", "temperature"}
    | {"tool_choice", "tools", "top_logprobs", "top_p", "user", "verbosity", "web_search_options"}
)
# of llama.cpp's server, for embedded models
LOCAL = frozenset(
    {"cache_prompt", "dry_multiplier", "grammar", "ignore_eos", "min_p", "mirostat", "n_probs"}
    | {"penalize_nl", "repeat_last_n", "repeat_penalty", "samplers", "top_k", "typical_p"}
)


_OF_SERVER = ("threads", "slots", "context_tokens")
# what one may have meant: the callers' own parameters
_OWN = {
    "LM": "model base_url api_key timeout_s client price form extra_body extra_headers "
    "default_headers default_query max_answer_mb threads slots context_tokens",
    "Predict": "demos history instructions confidence extra_body",
}


def refuse_unknown(given: Iterable[str], caller: Literal["LM", "Predict"], *, local: bool) -> None:
    """Refuse parameters that nobody knows: a misspelt one would be sent, and do nothing.

    Raises:
        TypeError: names the parameter, the nearest known one, and `extra_body`.
    """
    name = next((n for n in given if n not in KNOWN and not (local and n in LOCAL)), None)
    if name is None:
        return
    if name in Options.__dataclass_fields__:
        raise TypeError(f"{name!r} is an option of the run: run_parallel(predict, rows, {name}=…)")
    if caller == "Predict" and name in _OWN["LM"].split():
        raise TypeError(f"{name!r} is a parameter of the LM: Predict(signature, LM(…, {name}=…))")
    if name in _OF_SERVER:
        raise TypeError(f"{name!r} is for the server of an embedded model: LM('local', {name}=…)")
    known = [*_OWN[caller].split(), *KNOWN, *(LOCAL if local else ())]
    near = difflib.get_close_matches(name, known, 1, 0.7)
    hint = f"did you mean {near[0]!r}? A" if near else "a"
    raise TypeError(
        f"{caller} has no parameter {name!r}; {hint} field that only your endpoint knows goes in "
        f"extra_body={{{name!r}: …}}"
    )


def refuse_no_number(**given: float | None) -> None:
    """Refuse a parameter that is no number. TypeError."""
    for name, value in given.items():
        if value is not None and (isinstance(value, bool) or not hasattr(value, "__float__")):
            raise TypeError(f"{name} is a number, got {value!r}")
