"""Builds the engine for a module and its options."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from typing import Any

from ..core.clock import Clock
from ..core.events import Event, Row
from ..core.image_sources import image_sources
from ..core.options import Options
from ..engine.config import EngineConfig
from ..engine.engine import Engine
from ..engine.policies import HedgePolicy, RetryPolicy
from ..engine.probe import Probe
from ..engine.protocols import Cache, Limiter
from ..llm.endpoint import close_clients
from ..llm.lm import LM, OnHeaders
from ..modules.cost_bounds import answer_tokens
from ..modules.invocation import Caller
from ..modules.module import Module


async def prepare(module: Module) -> None:
    """Make a module's models ready; an embedded model may have to be started first."""
    for lm in module.lms:
        if (make_ready := getattr(lm, "prepare", None)) is not None:
            await make_ready()


@asynccontextmanager
async def calling(module: Module, options: Options, on_headers: OnHeaders) -> AsyncIterator[Caller]:
    """A caller, which makes attempts on the running loop. Its connections are closed afterwards.

    Args:
        on_headers: called with the headers of responses, but only if all attempts ask one model,
            because rate limits apply to one model.
    """
    limit_usd = options.max_cost_usd
    max_answer_tokens = None if limit_usd is None else answer_tokens(module, limit_usd)
    caller = module.caller(asyncio.get_running_loop(), max_answer_tokens)
    lms = list({id(lm): lm for lm in module.lms}.values())
    with ExitStack() as scopes:
        scopes.enter_context(image_sources(*options.image_sources))
        if len(lms) == 1 and isinstance(lms[0], LM):
            scopes.enter_context(lms[0].listening(on_headers))
        try:
            yield caller
        finally:
            caller.close()
            await close_clients()


def engine_config(module: Module, options: Options, **more: Any) -> EngineConfig:
    """How an engine runs this module with these options; `more` sets the remaining fields."""
    return EngineConfig(
        retry=RetryPolicy(options.max_attempts, outage_s=options.outage_s),
        timeout_s=options.timeout_s or module.timeout_s,
        lanes=module.n_instances,
        hedge=None if options.hedge is None else HedgePolicy(options.hedge),
        **more,
    )


def make_engine(
    module: Module,
    caller: Caller,
    rows: Iterator[Row],
    emit: Callable[[Event], None],
    config: EngineConfig,
    clock: Clock,
    cache: Cache | None,
    limiters: Sequence[Limiter],
) -> Engine:
    """An engine whose attempts call a module. A probe is added to the limiters."""
    lms = [lm for lm in module.lms if isinstance(lm, LM)]
    probe = Probe(lambda: all(lm.is_known for lm in lms))
    return Engine(
        rows,
        caller.ask,
        emit,
        config,
        clock=clock,
        cache=cache,
        limiters=[*limiters, probe],
        router=module.router,
    )
