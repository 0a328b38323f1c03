"""One OpenAI-compatible endpoint over the `openai` client: requests in, typed errors out.

Only this module imports `openai`. A client belongs to the event loop on which it was made. Equal
endpoints on one loop share a client, and so its connections. Requests usually bypass the client
(see `transport`); they use it if there is a proxy, or a client of the user's own.
"""

from __future__ import annotations

import asyncio
import functools
import hashlib
import importlib
import json
import os
import time
import weakref
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar
from urllib.parse import parse_qsl, urlsplit

from ..core import errors
from ..core.loopback import is_loopback
from ..core.redaction import public_params, public_url, redacted, redacted_bytes, secrets_in
from .connection_errors import is_of_tls, is_unsent, was_closed
from .error_bodies import error_in, error_of, json_of
from .event_stream import assembled, is_stream
from .retry_after import asked_wait_s
from .transport import (
    Reply,
    TooLargeError,
    Transport,
    certificates,
    direct_like,
    encoded,
    http_library,
    redirected,
)

if TYPE_CHECKING:
    import openai

T = TypeVar("T")
_Loop = asyncio.AbstractEventLoop
MOST_BYTES = 16_000_000  # of an answer
_clients: weakref.WeakKeyDictionary[_Loop, dict[Endpoint, Any]] = weakref.WeakKeyDictionary()
_transports: weakref.WeakKeyDictionary[
    _Loop, dict[tuple[Endpoint, str], asyncio.Task[Transport]]
] = weakref.WeakKeyDictionary()
_CLOSED_S = 0.5  # a connection that was closed before a request breaks off within so many seconds
_MOST_CLOSED = 3  # so many such connections are met in a row at most
_secrets = functools.lru_cache(64)(secrets_in)
_NO_KEY = "none"  # local servers require a key, and accept any


@dataclass(frozen=True)
class Endpoint:
    """The endpoint that requests go to.

    `base_url=None` and `api_key=None` mean the values of the environment; `keys` are the variables
    that may hold the key. `headers` and `query` go with every request. `known_as` is the model's
    name there, `most_bytes` the most bytes of an answer. `make` makes a client of the user's own,
    once for each event loop.
    """

    base_url: str | None
    api_key: str | None = field(repr=False)
    make: Callable[[], openai.AsyncOpenAI] | None = None
    keys: tuple[str, ...] = ("OPENAI_API_KEY",)
    headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    query: tuple[tuple[str, str], ...] = field(default=(), repr=False)
    known_as: str | None = None
    most_bytes: int = MOST_BYTES

    @cached_property
    def url(self) -> str:
        """The base URL in effect."""
        if self.make is not None:
            return str(self.make().base_url)
        given = self.base_url or os.environ.get("OPENAI_BASE_URL") or "https://api.openai.com/v1"
        return given.partition("?")[0]

    @property
    def shown_url(self) -> str:
        """The base URL without what is secret in it."""
        return public_url(self.url)

    @cached_property
    def _query(self) -> dict[str, str]:
        """The query of each request, that of the base URL included (`?api-version=…`)."""
        given = self.base_url or os.environ.get("OPENAI_BASE_URL") or ""
        return {**dict(parse_qsl(given.partition("?")[2])), **dict(self.query)}

    # an embedded model's endpoint has other values (see `local.endpoint.LocalEndpoint`)
    is_local: ClassVar[bool] = False
    concurrency: ClassVar[int | None] = None
    default_price: ClassVar[None] = None
    default_params: ClassVar[Mapping[str, Any]] = {}

    @property
    def cache_identity(self) -> dict[str, Any]:
        """The values that identify the endpoint in a cache key."""
        more: dict[str, Any] = {"query": public_params(self._query)} if self._query else {}
        if self.headers:  # hashed, because they may hold secrets
            told = repr(sorted(self.headers)).encode()
            more["headers"] = hashlib.sha256(told).hexdigest()[:16]
        return {"url": self.shown_url.rstrip("/"), **more}

    def model_name(self, name: str) -> str:
        """The name by which the endpoint knows a model."""
        return self.known_as or name

    @cached_property
    def is_openai(self) -> bool:
        """Whether this is OpenAI's own API."""
        return (urlsplit(self.url).hostname or "").endswith("openai.com")

    @cached_property
    def _is_plain(self) -> bool:
        """Whether requests involve neither a proxy nor a client of the user's own."""
        from urllib.request import getproxies  # here, because the import takes 15 ms

        parts = urlsplit(self.url)
        is_proxied = bool({parts.scheme, "all"} & getproxies().keys())
        return self.make is None and (is_loopback(parts.hostname or "") or not is_proxied)

    def _key(self) -> str:
        found = (os.environ.get(name) for name in self.keys)
        key = (self.api_key or next(filter(None, found), None) or "").strip() or None
        if key is not None and not (key.isascii() and key.isprintable()):
            raise errors.AuthenticationError("the API key holds characters that no key can have")
        is_needed = self.is_openai or self.keys not in ((), ("OPENAI_API_KEY",))
        if key is None and is_needed:
            raise errors.AuthenticationError(
                f"no API key: set {' or '.join(self.keys)}, pass LM(api_key=…), or use the "
                "embedded model with LM('local')"
            )
        return key or _NO_KEY

    def _client(self) -> Any:
        """The running loop's client."""
        clients = _clients.setdefault(asyncio.get_running_loop(), {})
        if self not in clients:
            clients[self] = self.make() if self.make else self._new_client()
        return clients[self]

    def _new_client(self) -> Any:
        import openai

        return openai.AsyncOpenAI(
            base_url=self.url,
            api_key=self._key(),
            default_headers=dict(self.headers) or None,
            default_query=self._query or None,
            max_retries=0,  # the engine retries and counts
            timeout=None,  # the engine's wall clock is the only one
            http_client=openai.DefaultAioHttpClient(timeout=None, verify=load_client()),
        )

    async def _transport(self, path: str) -> Transport:
        """The running loop's transport for this endpoint and path."""
        loop = asyncio.get_running_loop()
        tasks = _transports.setdefault(loop, {})
        task = tasks.get((self, path))
        if task is None:
            import openai

            making = direct_like(self._client(), openai.DefaultAioHttpClient, path, self.most_bytes)
            task = tasks[self, path] = loop.create_task(making)
        return task.result() if task.done() else await asyncio.shield(task)

    @property
    def renames_max_tokens(self) -> bool:
        """Whether the endpoint calls the parameter `max_tokens` `max_completion_tokens`."""
        return self.is_openai

    async def prepare(self) -> None:
        """Load the libraries that requests need, and connect once (see `check`)."""
        # otherwise the first request imports them, and delays all rows in flight by half a second
        await asyncio.to_thread(load_client)
        await self.check()

    async def check(self) -> None:
        """Connect once without sending a request.

        Raises:
            EndpointConnectionError: nothing listens there, or the name is unknown.
            AuthenticationError: no key where one is needed.
        """
        if self.make is None:
            self._key()
        if not self._is_plain:  # a proxy or the user's client makes the connection
            return
        parts = urlsplit(self.url)
        if (
            parts.scheme not in ("http", "https")
            or not parts.hostname
            or self.url.split() != [self.url]
        ):
            raise errors.UnsendableError(
                f"base_url={self.shown_url!r} is no address: it begins with http:// or https://, "
                "and has no space or line break"
            )
        if parts.path.rstrip("/").endswith("/completions"):
            raise errors.UnsendableError(
                f"base_url={self.shown_url!r} is the address of requests; leave out "
                "/chat/completions"
            )
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
            f"cannot reach {self.shown_url} ({reason}); nothing was sent. Check base_url= (or "
            "OPENAI_BASE_URL) and that the server is running"
        )

    async def post(
        self,
        path: str,
        body: Mapping[str, Any],
        on_headers: Callable[[Mapping[str, str]], None] | None = None,
    ) -> dict[str, Any]:
        """POST a JSON body and return the JSON object of the answer. Raise an `LMError`.

        `on_headers` is called with the response's headers.
        """
        reply = await self._sent(path, body)
        if (clean := redacted_bytes(reply.raw, self._secrets)) is not reply.raw:
            reply = reply._replace(raw=clean)
        if on_headers is not None:
            on_headers(reply.headers)
        if reply.status >= 300:
            raise self._translate(reply)
        answer = assembled(reply.raw) if is_stream(reply.raw) else json_of(reply.raw)
        if answer is not None and (status := error_in(answer)) is not None:
            raise self._translate(reply._replace(status=status))
        if answer is None:
            shown = repr(bytes(reply.raw[:80]))
            fault = "broke off" if is_stream(reply.raw) else "is not a JSON object"
            broken = errors.ServerError(f"the endpoint's answer {fault}: {shown}")
            broken.may_be_billed = True
            raise broken
        return answer

    async def _sent(self, path: str, body: Mapping[str, Any]) -> Reply:
        """The answer to a request. A connection that the other side closed since its last answer
        breaks off at once; the request is then sent again (RFC 9112, section 9.3.1)."""
        for _ in range(1 if self.make is None else _MOST_CLOSED):
            began = time.monotonic()
            try:
                return await self._send(path, body)
            except errors.EndpointConnectionError as error:
                if not error.was_closed or time.monotonic() - began > _CLOSED_S:
                    raise
        return await self._send(path, body, anew=True)

    async def _send(self, path: str, body: Mapping[str, Any], *, anew: bool = False) -> Reply:
        if self._is_plain:
            return await self._post_directly(path, body, anew=anew)
        return await self._post_by_client(path, body, anew=anew)

    async def _post_directly(self, path: str, body: Mapping[str, Any], *, anew: bool) -> Reply:
        import aiohttp

        transport = await self._transport(path)
        try:
            return await transport.post(encoded(body), anew=anew)
        except (aiohttp.ClientError, OSError) as error:
            raise self._broken(error) from None
        except TooLargeError as error:
            raise self._too_large(str(error)) from None
        except ValueError as error:  # an invalid URL or header, which no request can use
            raise errors.UnsendableError(self._shown(str(error))) from None

    async def _post_by_client(self, path: str, body: Mapping[str, Any], *, anew: bool) -> Reply:
        if not anew or self.make is not None:
            return await self._posted(self._client(), path, body)
        async with self._new_client() as client:
            return await self._posted(client, path, body)

    async def _posted(
        self, client: Any, path: str, body: Mapping[str, Any], *, hops: int = 0
    ) -> Reply:
        import openai

        try:
            response = await client.post(
                path,
                body=dict(body),
                cast_to=http_library(openai.DefaultAioHttpClient).Response,
                options={"follow_redirects": False},
            )
        except openai.APIStatusError as error:
            response = error.response
        except openai.APIConnectionError as error:
            raise self._broken(error.__cause__ or error) from None
        reply = Reply(response.status_code, response.headers, response.content)
        if len(reply.raw) > self.most_bytes:
            raise self._too_large(f"the endpoint's answer has {len(reply.raw):,} bytes")
        target = redirected(str(response.request.url), reply, hops)
        return reply if target is None else await self._posted(client, target, body, hops=hops + 1)

    def _too_large(self, what: str) -> errors.LMError:
        error = errors.LMError(f"{what}; LM(max_answer_mb=…) allows more")
        error.may_be_billed = True
        return error

    async def call(self, action: Callable[[openai.AsyncOpenAI], Awaitable[T]]) -> T:
        """Use the client for anything but a completion. Raise an `LMError`."""
        import openai

        try:
            return await action(self._client())
        except openai.APIStatusError as error:
            answer = error.response
            raw = redacted_bytes(answer.content, self._secrets)
            raise self._translate(Reply(answer.status_code, answer.headers, raw)) from None
        except openai.APIConnectionError as error:
            raise self._broken(error.__cause__ or error) from None

    def error_of(self, status: int, body: Mapping[str, Any]) -> errors.AttemptError:
        """The error for an answer with this HTTP status and JSON body."""
        return self._translate(Reply(status, {}, json.dumps(body).encode()))

    def _broken(self, error: BaseException) -> errors.LMError:
        message = self._shown(f"{type(error).__name__}: {error}")
        if is_of_tls(error):
            return errors.UnsendableError(
                f"no secure connection to {self.shown_url}: {message}; is it https, and is its "
                "certificate known? SSL_CERT_FILE names a file with further ones"
            )
        kind = errors.UnreachableError if is_unsent(error) else errors.EndpointConnectionError
        broken = kind(message)
        broken.was_closed = was_closed(error)
        return broken

    @property
    def _secrets(self) -> tuple[str, ...]:
        """The key and what else must not be shown: endpoints quote it, this package must not."""
        key = self._key() if self.make is None else self._own_key
        return _secrets(key, self._named, self.url)

    @cached_property
    def _named(self) -> tuple[tuple[str, str], ...]:
        """The headers and fields of the query, any of which may be secret."""
        return (*self.headers, *self._query.items())

    @cached_property
    def _own_key(self) -> str:
        assert self.make is not None
        return str(self.make().api_key)

    def redacted(self, raw: bytes) -> bytes:
        """A provider's file without this endpoint's secrets."""
        return redacted_bytes(raw, self._secrets)

    def _translate(self, reply: Reply) -> errors.AttemptError:
        if reply.status < 400:
            target = self._shown(str(reply.headers.get("location")))
            return errors.UnsendableError(
                f"HTTP {reply.status}: {self.shown_url} redirects to {target}; use that address, "
                "without /chat/completions, as base_url="
            )
        error = error_of(reply.status, reply.raw, self.shown_url)
        error.retry_after_s = asked_wait_s(reply.headers, reply.raw)
        return error

    def _shown(self, text: str) -> str:
        return redacted(text, self._secrets)


def load_client() -> Any:
    """Import the client and the price table, and return the certificates.

    This takes half a second, so it must not block an event loop.
    """
    import openai

    importlib.import_module("genai_prices")
    return certificates(http_library(openai.DefaultAioHttpClient))


async def close_clients() -> None:
    """Close the running loop's clients. Call this before the loop ends."""
    loop = asyncio.get_running_loop()
    for task in _transports.pop(loop, {}).values():
        if task.done() and not task.cancelled() and task.exception() is None:
            await task.result().close()
    for client in _clients.pop(loop, {}).values():
        await client.close()
