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
            idle = self._conns.get(key)
            while idle and idle[0][0].should_close:  # also True for bytes that wait to be read
                idle.popleft()[0].close()
            return await super()._get(key, traces)

    return QuietConnector
