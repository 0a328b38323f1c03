"""Sends the requests of the `openai` client by aiohttp itself, to save time.

The client writes one request, without a connection. After that, the URL and the headers of this
request (key, organisation, user agent, and any others) are reused with other bodies. This saves
most of the time that a request takes in the client: it examines the types of the body, and builds
request and response objects.
"""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urljoin, urlsplit

from .quiet_connections import quiet_connector

if TYPE_CHECKING:
    import aiohttp

_PER_REQUEST = (
    "content-length",
    "host",
    "accept-encoding",
    "connection",
)  # aiohttp sets these itself

_KEEP_THE_BODY = (307, 308)  # only these redirects do (RFC 9110, section 15.4)
_MOST_HOPS = 5


class Reply(NamedTuple):
    """An endpoint's answer: HTTP status, headers (case-insensitive) and body."""

    status: int
    headers: Mapping[str, str]
    raw: bytes


class Transport:
    """POSTs to one URL over connections of its own. Belongs to one event loop."""

    def __init__(
        self,
        url: Any,
        headers: Mapping[str, str],
        connect: Callable[[], aiohttp.ClientSession],
        most_bytes: int,
    ) -> None:
        self._url, self._headers, self._connect = url, headers, connect
        self._most_bytes = most_bytes
        self._session = connect()

    async def post(self, body: bytes, *, anew: bool = False) -> Reply:
        """Send a JSON body, `anew` over a connection of its own. Raises aiohttp's errors."""
        if not anew:
            return await self._send(self._session, body)
        async with self._connect() as session:
            return await self._send(session, body)

    async def _send(
        self, session: aiohttp.ClientSession, body: bytes, url: Any = None, hops: int = 0
    ) -> Reply:
        url = self._url if url is None else url
        async with session.post(
            url, data=body, headers=self._headers, allow_redirects=False
        ) as response:
            raw = await _read(response, self._most_bytes)
            reply = Reply(response.status, response.headers, raw)
        if reply.status not in _KEEP_THE_BODY:
            return reply
        target = redirected(str(url), reply, hops)
        return reply if target is None else await self._send(session, body, target, hops + 1)

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()


class TooLargeError(Exception):
    """An answer is larger than allowed; it was not read to its end."""


async def _read(response: aiohttp.ClientResponse, most_bytes: int) -> bytes:
    """The body, unpacked. Raises TooLargeError. aiohttp unpacks a quarter of a megabyte at a time,
    so that a small body which unpacks to gigabytes is noticed before it is in memory."""
    length = response.content_length
    if length is not None and length <= most_bytes and not response.headers.get("Content-Encoding"):
        return await response.read()
    parts, size = [], 0
    async for part in response.content.iter_any():
        size += len(part)
        if size > most_bytes:
            response.close()  # what is left of it must not be the next answer
            raise TooLargeError(f"the endpoint's answer has more than {most_bytes:,} bytes")
        parts.append(part)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def redirected(url: str, reply: Reply, hops: int) -> str | None:
    """Where a request is sent again after a redirect that keeps its body, None if it is not: keys
    and rows go to no other host, nor from https to http."""
    if reply.status not in _KEEP_THE_BODY or hops >= _MOST_HOPS:
        return None
    target = urljoin(url, reply.headers.get("location") or "")
    before, after = urlsplit(url), urlsplit(target)
    is_same = (before.scheme, before.netloc) == (after.scheme, after.netloc)
    is_safer = (before.scheme, after.scheme) == ("http", "https") and (
        before.hostname == after.hostname
    )
    return target if is_same or is_safer else None


def encoded(body: Mapping[str, Any]) -> bytes:
    """A body as JSON."""
    from pydantic_core import PydanticSerializationError, to_json

    try:
        return to_json(body)  # takes a fifth of the time that json takes
    except PydanticSerializationError:  # half a surrogate pair
        return json.dumps(body).encode()


def http_library(http_kind: type) -> Any:
    """The module (`httpx` or its successor) whose `AsyncClient` this class derives from."""
    base = next(c for c in http_kind.__mro__ if c.__name__ == "AsyncClient")
    return sys.modules[base.__module__.partition(".")[0]]


@functools.cache
def certificates(http: Any) -> Any:
    """The certificates that an HTTP library trusts, loaded once: each loading takes 50 ms."""
    return http.create_ssl_context()


async def direct_like(client: Any, http_kind: type, path: str, most_bytes: int) -> Transport:
    """A transport that sends the POSTs of `client` to `path`.

    Args:
        most_bytes: the most bytes of an answer.
        client: an `openai.AsyncOpenAI`.
        http_kind: the class of its `http_client`; the transport follows the certificate rules
            of that library.
    """
    import aiohttp
    import yarl
    from multidict import CIMultiDict

    http = http_library(http_kind)
    written: list[Any] = []

    async def keep(request: Any) -> Any:
        written.append(request)
        return http.Response(200, json={})

    writer = client.copy(http_client=http.AsyncClient(transport=http.MockTransport(keep)))
    await writer.post(path, body={}, cast_to=http.Response)
    await writer.close()
    headers = CIMultiDict(written[0].headers)
    for name in _PER_REQUEST:
        headers.popall(name, None)
    url = yarl.URL(str(written[0].url), encoded=True)

    def connect() -> aiohttp.ClientSession:
        return aiohttp.ClientSession(
            connector=quiet_connector()(limit=0, ssl=certificates(http)),
            cookie_jar=aiohttp.DummyCookieJar(),
            timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),  # the engine has its own
        )

    return Transport(url, headers, connect, most_bytes)
