"""The embedded model as an endpoint (see `llm.endpoint.Endpoint`)."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import Any

from ..endpoint import Endpoint, load_client
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
        return await Endpoint(*await self.serve()).post(path, body, on_headers)


def local_endpoint(name: str, params: dict[str, Any]) -> LocalEndpoint:
    """The endpoint of an embedded model. The settings of its server are removed from `params`.

    Raises:
        LocalModelError: there is no such model.
    """
    settings = {k: params.pop(k) for k in SETTINGS if k in params}
    return LocalEndpoint(LocalModel.named(name, **settings))
