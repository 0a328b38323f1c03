"""The embedded model as an endpoint (see `llm.endpoint.Endpoint`)."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

from ..endpoint import Endpoint, load_client
from .filling_in import Filling, slots_of
from .server import SETTINGS, LocalModel, serve

# small models repeat themselves without the penalty
_PARAMS = {"temperature": 0.0, "max_tokens": 256, "repeat_penalty": 1.1}


class LocalEndpoint:
    """Sends requests to an embedded model. The first request starts its server."""

    is_local = True
    renames_max_tokens = False
    default_price = (0.0, 0.0)
    default_params: Mapping[str, Any] = _PARAMS

    def __init__(self, model: LocalModel) -> None:
        self.model = model
        self.url = self.shown_url = ""
        self._free = deque(range(model.slots))

    @property
    def concurrency(self) -> int:
        """The number of requests that are handled at once."""
        return self.model.slots

    @property
    def cache_identity(self) -> dict[str, Any]:
        """The values that identify the weights in a cache key."""
        return self.model.identity

    def model_name(self, name: str) -> str:
        """The name by which the server knows the model."""
        return self.model.name

    async def prepare(self) -> None:
        """Start the server. LocalModelError if the model cannot be fetched or started."""
        await asyncio.to_thread(load_client)
        await self.serve()

    async def serve(self) -> tuple[str, str]:
        """The server's base URL and key; it is started if necessary."""
        return await serve(self.model)

    async def post(
        self,
        path: str,
        body: Mapping[str, Any],
        on_headers: Callable[[Mapping[str, str]], None] | None = None,
    ) -> dict[str, Any]:
        """See `Endpoint.post`."""
        url, key = await self.serve()
        slots = slots_of(body) if path == "/chat/completions" else None
        if slots is None:
            return await Endpoint(url, key).post(path, body, on_headers)
        native = Endpoint(url.removesuffix("/v1"), key)
        with self._place() as place:
            return await Filling(native.post, body, place).answer(slots)

    @contextmanager
    def _place(self) -> Iterator[int]:
        """A slot of the server for one row's steps; -1, any one, if all are taken."""
        place = -1
        with suppress(IndexError):
            place = self._free.pop()
        try:
            yield place
        finally:
            if place >= 0:
                self._free.append(place)


def local_endpoint(name: str, params: dict[str, Any]) -> LocalEndpoint:
    """The endpoint of an embedded model. The settings of its server are removed from `params`.

    Raises:
        LocalModelError: there is no such model.
    """
    settings = {k: params.pop(k) for k in SETTINGS if k in params}
    return LocalEndpoint(LocalModel.named(name, **settings))
