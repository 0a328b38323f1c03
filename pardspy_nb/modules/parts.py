"""A module as part of another one."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from ..core.events import Answer
from ..core.threads import DaemonPool
from .invocation import Call, _call_of, _Parts, _parts
from .module import Module, from_module


def part(module: Any) -> tuple[Module, Call]:
    """A module as part of another: what it takes and gives, and how to call it. TypeError if it
    is none."""
    described = from_module(module)

    async def call(inputs: Mapping[str, Any]) -> Answer:
        loop = asyncio.get_running_loop()
        here = _parts.get(loop)
        if here is None:
            here = _parts[loop] = _Parts(DaemonPool(loop), {})
        made = here.calls.get(id(described))
        if made is None:
            made = here.calls[id(described)] = _call_of(module, here.pool)
        return await made(inputs)

    return described, call
