"""The short way to an endpoint: what the `openai` client would send, sent by aiohttp itself.

The client is asked once, without a connection, to write a request; from then on its URL and
headers (key, organisation, user agent, what else it adds) are used again with other bodies. That
saves most of what a request costs in the client: examining the body's types, building request and
response objects.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    import aiohttp

_PER_REQUEST = ("content-length", "host", "accept-encoding", "connection")  # aiohttp writes these


class Reply(NamedTuple):
    """What an endpoint answered: HTTP status, headers (case-insensitive) and the body."""

    status: int
    headers: Mapping[str, str]
    raw: bytes


class Transport:
    """POSTs to one URL over connections of its own. Belongs to one event loop."""

    def __init__(self, url: Any, headers: Mapping[str, str], session: aiohttp.ClientSession):
        self._url, self._headers, self._session = url, headers, session

    async def post(self, body: bytes) -> Reply:
        """Send a JSON body. Raises aiohttp's errors."""
        async with self._session.post(self._url, data=body, headers=self._headers) as response:
            return Reply(response.status, response.headers, await response.read())

    async def close(self) -> None:
        """Close the connections."""
        await self._session.close()


def http_library(http_kind: type) -> Any:
    """The module (`httpx` or its successor) whose `AsyncClient` this class derives from."""
    base = next(c for c in http_kind.__mro__ if c.__name__ == "AsyncClient")
    return sys.modules[base.__module__.partition(".")[0]]


@functools.cache
def certificates(http: Any) -> Any:
    """What that library trusts. Loading it takes 50 ms, which each client would take again."""
    return http.create_ssl_context()


async def direct_like(client: Any, http_kind: type, path: str) -> Transport:
    """The short way for POSTs of `client` to `path`.

    Args:
        client: an `openai.AsyncOpenAI`.
        http_kind: the class of its `http_client`; that library's rules for certificates hold
            here, too.
    """
    import aiohttp
    import yarl
    from multidict import CIMultiDict

    http = http_library(http_kind)
    written: list[Any] = []

    async def keep(request: Any) -> Any:
        written.append(request)
        return http.Response(200, json={})

    pen = client.copy(http_client=http.AsyncClient(transport=http.MockTransport(keep)))
    await pen.post(path, body={}, cast_to=http.Response)
    await pen.close()
    headers = CIMultiDict(written[0].headers)
    for name in _PER_REQUEST:
        headers.popall(name, None)
    url = yarl.URL(str(written[0].url), encoded=True)
    session = aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(limit=0, ssl=certificates(http)),
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),  # the engine's is the only
    )
    return Transport(url, headers, session)
