"""Connections are used again only if they are quiet.

A server, or a proxy, may send an answer twice. What comes over a connection when nobody asked for
anything would be taken for the answer to the next request: for another row's.
"""

from __future__ import annotations

import functools
import select
from typing import Any


@functools.cache
def quiet_connector() -> Any:
    """The class of aiohttp's connector that closes connections on which bytes wait before it would
    use them again. (aiohttp itself looks only at whether they are open.)"""
    import aiohttp

    class QuietConnector(aiohttp.TCPConnector):
        async def _get(self, key: Any, traces: Any) -> Any:
            for protocol, _ in tuple(self._conns.get(key, ())):
                if _is_quiet(protocol):
                    break
                protocol.close()  # then aiohttp does not take it
            return await super()._get(key, traces)

    return QuietConnector


def _is_quiet(protocol: Any) -> bool:
    """Whether no bytes are waiting, read by aiohttp or not, and the other side has not left."""
    if protocol.should_close or not protocol.is_connected():
        return False
    sock = protocol.transport.get_extra_info("socket")
    if sock is None or not hasattr(select, "poll"):
        return True
    waiting = select.poll()
    waiting.register(sock.fileno(), select.POLLIN)
    return not waiting.poll(0)
