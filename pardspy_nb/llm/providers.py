"""Providers by the prefix of a model's name, as LiteLLM and DSPy spell it: `anthropic/claude-…`.

Each has an endpoint that follows OpenAI's chat completions, and a variable with its key.
"""

from __future__ import annotations

import os
from typing import NamedTuple


class Provider(NamedTuple):
    """Where a provider's models are asked.

    Attributes:
        url: the base URL; of a server of your own the usual one.
        keys: the environment variables that may hold the key; none for a server of your own.
        url_from: the environment variables that may hold another base URL.
        path: what is added to a base URL from the environment.
    """

    url: str | None
    keys: tuple[str, ...] = ()
    url_from: tuple[str, ...] = ()
    path: str = ""


PROVIDERS: dict[str, Provider] = {
    "openai": Provider("https://api.openai.com/v1", ("OPENAI_API_KEY",)),
    "anthropic": Provider("https://api.anthropic.com/v1", ("ANTHROPIC_API_KEY",)),
    "gemini": Provider(
        "https://generativelanguage.googleapis.com/v1beta/openai",
        ("GEMINI_API_KEY", "GOOGLE_API_KEY"),
    ),
    "groq": Provider("https://api.groq.com/openai/v1", ("GROQ_API_KEY",)),
    "mistral": Provider("https://api.mistral.ai/v1", ("MISTRAL_API_KEY",)),
    "deepseek": Provider("https://api.deepseek.com/v1", ("DEEPSEEK_API_KEY",)),
    "together": Provider("https://api.together.xyz/v1", ("TOGETHER_API_KEY", "TOGETHERAI_API_KEY")),
    "openrouter": Provider("https://openrouter.ai/api/v1", ("OPENROUTER_API_KEY",)),
    "xai": Provider("https://api.x.ai/v1", ("XAI_API_KEY",)),
    "azure": Provider(
        None,
        ("AZURE_API_KEY", "AZURE_OPENAI_API_KEY"),
        ("AZURE_API_BASE", "AZURE_OPENAI_ENDPOINT"),
        "/openai/v1",
    ),
    "ollama": Provider("http://localhost:11434/v1", (), ("OLLAMA_API_BASE",), "/v1"),
    "lm_studio": Provider("http://localhost:1234/v1", (), ("LM_STUDIO_API_BASE",)),
    "vllm": Provider("http://localhost:8000/v1", (), ("HOSTED_VLLM_API_BASE",)),
}
_ALIASES = {"together_ai": "together", "hosted_vllm": "vllm", "ollama_chat": "ollama"}


class Found(NamedTuple):
    """A model at its provider: its own name, the base URL, the variables of the key."""

    model: str
    url: str
    keys: tuple[str, ...]


def provider_of(model: str) -> Found | None:
    """The provider that a model's name begins with, None if there is none.

    Raises:
        ValueError: the provider's base URL has to be in the environment, and is not.
    """
    prefix, slash, name = model.partition("/")
    provider = PROVIDERS.get(_ALIASES.get(prefix, prefix)) if slash and name else None
    if provider is None:
        return None
    given = next((url for var in provider.url_from if (url := os.environ.get(var))), None)
    if given is None and provider.url is None:
        raise ValueError(
            f"{model!r} needs the address of your resource: set {' or '.join(provider.url_from)}, "
            "or pass base_url="
        )
    url = provider.url
    if given is not None:
        base = given.rstrip("/")
        url = base if not provider.path or base.endswith(provider.path) else base + provider.path
    assert url is not None
    return Found(name, url, provider.keys)
