"""One OpenAI-compatible endpoint over the `openai` client: requests in, typed errors out.

This is the only importer of `openai`. A client belongs to the event loop it was made on; equal
endpoints on one loop share a client and so its connections.
"""

from __future__ import annotations

import asyncio
import email.utils
import json
import os
import time
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from . import errors

if TYPE_CHECKING:
    import openai

_clients: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, dict[Endpoint, Any]] = (
    weakref.WeakKeyDictionary()
)
_BEHIND_A_GATEWAY = (408, 502, 504, 524)  # where the model may have gone on, and been billed
_NO_KEY = "none"  # local servers want some key, and no particular one


@dataclass(frozen=True)
class Endpoint:
    """Where requests go. `base_url=None` and `api_key=None` mean the client's environment."""

    base_url: str | None
    api_key: str | None = field(repr=False)

    @property
    def url(self) -> str:
        """The base URL in effect."""
        return self.base_url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"

    @property
    def is_openai(self) -> bool:
        """Whether this is OpenAI's own API, which renamed `max_tokens`."""
        return (urlsplit(self.url).hostname or "").endswith("openai.com")

    def _key(self) -> str:
        key = self.api_key or os.environ.get("OPENAI_API_KEY")
        if key is None and self.is_openai:
            raise errors.AuthenticationError(
                "no API key: set OPENAI_API_KEY, pass LM(api_key=…), or use the embedded model "
                "with LM('local')"
            )
        return key or _NO_KEY

    def _client(self) -> Any:
        import openai

        clients = _clients.setdefault(asyncio.get_running_loop(), {})
        if self not in clients:
            clients[self] = openai.AsyncOpenAI(
                base_url=self.url,
                api_key=self._key(),
                max_retries=0,  # the engine retries and counts
                timeout=None,  # the engine's wall clock is the only one
                http_client=openai.DefaultAioHttpClient(timeout=None),
            )
        return clients[self]

    async def check(self) -> None:
        """Connect once without sending a request.

        Raises:
            EndpointConnectionError: nothing listens there, or the name is unknown.
            AuthenticationError: no key where one is needed.
        """
        from urllib.request import getproxies

        self._key()
        parts = urlsplit(self.url)
        if parts.scheme in getproxies():  # the proxy decides what can be reached
            return
        port = parts.port or (443 if parts.scheme == "https" else 80)
        for pause_s in (0.2, 0.5, None):
            try:
                async with asyncio.timeout(10):
                    _, writer = await asyncio.open_connection(parts.hostname, port)
                writer.close()
                return
            except OSError as error:  # TimeoutError is one
                reason = str(error) or "no answer within 10 s"
            if pause_s is not None:
                await asyncio.sleep(pause_s)
        raise errors.UnreachableError(
            f"cannot reach {self.url} ({reason}); nothing was sent. Check base_url= (or "
            "OPENAI_BASE_URL) and that the server is running"
        )

    async def post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        """POST a JSON body, return the JSON object of the answer; raise an `LMError`."""
        import openai

        try:
            raw = await self._client().post(path, body=dict(body), cast_to=bytes)
        except openai.APIStatusError as error:
            raise self._translate(error) from None
        except openai.APIConnectionError as error:
            cause = error.__cause__ or error
            message = self._redact(f"{type(cause).__name__}: {cause}")
            sent = not _is_unsent(error)
            kind = errors.EndpointConnectionError if sent else errors.UnreachableError
            raise kind(message) from None
        try:
            answer = json.loads(raw)
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            shown = self._redact(repr(bytes(raw[:80])))
            broken = errors.ServerError(f"the endpoint's answer is not a JSON object: {shown}")
            broken.may_be_billed = True
            raise broken
        return answer

    def _redact(self, text: str) -> str:
        """Endpoints quote keys in their errors; ours never do."""
        key = self._key()
        return text.replace(key, "***") if len(key) > 4 else text

    def _translate(self, error: openai.APIStatusError) -> errors.LMError:
        status, body = error.status_code, error.body
        detail = body.get("message") if isinstance(body, dict) else None
        message = self._redact(f"HTTP {status}: {detail or error.message}"[:500])
        retry_after_s = parse_retry_after(error.response.headers)
        kind: type[errors.LMError] = errors.BadRequestError
        if status == 429:
            quota = isinstance(body, dict) and body.get("code") == "insufficient_quota"
            kind = errors.QuotaError if quota else errors.RateLimitError
        elif status in (401, 403):
            kind = errors.AuthenticationError
            message += " (check OPENAI_API_KEY or LM(api_key=…))"
        elif status == 404:
            kind = errors.ModelNotFoundError
            message += f" (check the model's name and base_url={self.url})"
        elif status in (408, 409) or status >= 500:
            kind = errors.ServerError
        translated = kind(message, retry_after_s=retry_after_s)
        translated.may_be_billed = status in _BEHIND_A_GATEWAY
        return translated


def _is_unsent(error: BaseException) -> bool:
    """Whether no connection could be made. The client calls a connection that broke off the
    same (`ConnectTimeout`); only aiohttp's own error at the bottom tells."""
    from aiohttp import ClientConnectorError

    below: BaseException | None = error
    while below is not None and not isinstance(below, ClientConnectorError):
        below = below.__cause__
    return below is not None


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait from `retry-after-ms` or `Retry-After` (seconds or HTTP date, RFC 9110)."""
    try:
        if (ms := headers.get("retry-after-ms")) is not None:
            return max(0.0, float(ms) / 1e3)
    except ValueError:
        pass
    if (value := headers.get("retry-after")) is None:
        return None
    try:
        return max(0.0, float(value))
    except ValueError:
        pass
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


async def close_clients() -> None:
    """Close the running loop's clients; to be called before the loop ends."""
    for client in _clients.pop(asyncio.get_running_loop(), {}).values():
        await client.close()
