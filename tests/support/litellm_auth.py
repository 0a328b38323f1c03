"""Who may use the proxy of the tests: litellm loads this file in its own environment."""

from __future__ import annotations

from typing import Any

from litellm.proxy._types import ProxyException, UserAPIKeyAuth

MOST = {"sk-good": None, "sk-few": 5}  # requests within a window, by key


async def user_api_key_auth(request: Any, api_key: str) -> Any:
    """The rights of a key, as litellm's database would tell them."""
    if api_key not in MOST:
        told = "Authentication Error, Invalid proxy server token passed"
        raise ProxyException(told, "auth_error", "key", 401)
    return UserAPIKeyAuth(api_key=api_key, rpm_limit=MOST[api_key])
