"""A module as part of another one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from ..core.events import Answer
from ..core.threads import DaemonPool
from .invocation import Call, Parts, call_of, open_parts
from .module import Module, from_module


def part(module: Any) -> tuple[Module, Call]:
    """A module as a part of another: its description, and a function that calls it.

    Raises:
        TypeError: the object is not a module.
    """
    described = from_module(module)

    async def call(inputs: Mapping[str, Any]) -> Answer:
        loop = asyncio.get_running_loop()
        parts = open_parts.get(loop)
        if parts is None:
            parts = open_parts[loop] = Parts(DaemonPool(loop), {})
        made = parts.calls.get(id(described))
        if made is None:
            made = parts.calls[id(described)] = call_of(module, parts.pool)
        return await made(inputs)

    return described, call
