"""An engine with all that a module and its options ask for, in this process."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager

from ..core.clock import Clock
from ..core.events import Event, Row
from ..core.options import Options
from ..engine.budget import Budget
from ..engine.engine import Engine
from ..engine.policies import FailurePolicy, HedgePolicy, RetryPolicy
from ..engine.probe import Probe
from ..engine.protocols import Cache, Limiter
from ..engine.rate_limiter import RateLimiter
from ..llm.endpoint import close_clients, header_listener
from ..llm.lm import LM, answer_cap
from ..modules.cost_bounds import answer_tokens
from ..modules.invocation import Caller
from ..modules.module import Module
from ..tables.inputs import RowBatch


async def prepare(module: Module) -> None:
    """Have a module's models ready; an embedded one may have to be started first."""
    for lm in module.lms:
        if (make_ready := getattr(lm, "prepare", None)) is not None:
            await make_ready()


def least_of(batch: RowBatch) -> int | None:
    """How many rows there are at least, where their number is not known."""
    return None if batch.listener is None else batch.listener.least


@asynccontextmanager
async def calling(module: Module) -> AsyncIterator[Caller]:
    """What makes attempts on the running loop; its connections are closed afterwards."""
    caller = module.caller(asyncio.get_running_loop())
    try:
        yield caller
    finally:
        caller.close()
        await close_clients()


def limits_of(module: Module, options: Options, caller: Caller) -> list[Limiter]:
    """The gates for a run's limits, and what else has to be set for them to hold."""
    pace = RateLimiter(options.rpm, options.tpm, caller.size)
    # limits are one model's: of several, nobody could say whose they are
    header_listener.set(pace.hear if has_one_model(module) else None)
    gates: list[Limiter] = [pace]
    cap_answers(module, options)
    if options.max_cost_usd is not None:
        gates.append(Budget(options.max_cost_usd, caller.worst_case))
    return gates


def has_one_model(module: Module) -> bool:
    """Whether all that is asked is one model."""
    return len(set(map(id, module.lms))) == 1


def cap_answers(module: Module, options: Options) -> None:
    """Bound the answers of models that have no bound of their own, where a budget needs it."""
    limit_usd = options.max_cost_usd
    # else that of a run that this one is part of
    answer_cap.set(None if limit_usd is None else answer_tokens(module, limit_usd))


def assembled(
    module: Module,
    options: Options,
    caller: Caller,
    rows: Iterator[Row],
    emit: Callable[[Event], None],
    *,
    clock: Clock,
    total: int | None,
    max_workers: int,
    failure: FailurePolicy,
    gates: Sequence[Limiter],
    blocking_source: bool = False,
    cache: Cache | None = None,
    most_ahead: int | None = None,
) -> Engine:
    """An engine for a module and its options."""
    lms = [lm for lm in module.lms if isinstance(lm, LM)]
    return Engine(
        rows,
        caller.ask,
        emit,
        clock=clock,
        total=total,
        max_workers=max_workers,
        retry=RetryPolicy(options.max_attempts),
        failure=failure,
        timeout_s=options.timeout_s or module.timeout_s,
        lanes=module.lanes,
        blocking_source=blocking_source,
        cache=cache,
        gates=[*gates, Probe(lambda: all(lm.is_known for lm in lms))],
        most_ahead=most_ahead,
        hedge=None if options.hedge is None else HedgePolicy(options.hedge),
    )
