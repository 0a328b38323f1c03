"""Connections are used again only if they are quiet.

A server, or a proxy, may send an answer twice. What comes over a connection when nobody asked for
anything would be taken for the answer to the next request: for another row's.
"""

from __future__ import annotations

import functools
from typing import Any


@functools.cache
def quiet_connector() -> Any:
    """The class of aiohttp's connector that closes connections on which bytes wait before it would
    use them again. (aiohttp itself looks only at whether they are open.)"""
    import aiohttp

    class QuietConnector(aiohttp.TCPConnector):
        async def _get(self, key: Any, traces: Any) -> Any:
            for protocol, _ in tuple(self._conns.get(key, ())):
                if not protocol.should_close:  # it is also True for bytes that wait to be read
                    break
                protocol.close()  # then aiohttp does not take it
            return await super()._get(key, traces)

    return QuietConnector
