"""The plan of a run: module, rows and options, checked. Planning opens and sends nothing."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from ..core.clock import Clock, SystemClock
from ..core.options import Options
from ..executors.base import Executor, Work
from ..modules.cost_bounds import refuse_unknown
from ..modules.module import Module
from ..modules.provenance import Sources
from ..tables.export import check_kind
from ..tables.row_batch import RowBatch
from ..tables.rows import read_rows

Workers = int | Literal["auto"]


@dataclass(frozen=True, kw_only=True)
class RunPlan:
    """A checked run: module, rows and options.

    Attributes:
        batch: the rows.
        sources: tells which module and model make a row's answer.
        most_ahead: how many rows may be read beyond the oldest unfinished chunk; None for any
            number.
    """

    module: Module
    batch: RowBatch
    options: Options
    sources: Sources
    clock: Clock = field(default_factory=SystemClock)
    most_ahead: int | None = None

    def workers(self, wanted: Workers, at_least: int = 1) -> tuple[int, bool]:
        """The number of rows in flight at the start, and whether this number then adapts to the
        load that the endpoint can take."""
        known = self._known_workers() if wanted == "auto" else wanted
        if known is None:
            return max(os.cpu_count() or 1, at_least), True
        return known, False

    def _known_workers(self) -> int | None:
        client = self.options.executor
        if client is None or self.module.is_io_bound or self.module.n_instances:
            return self.module.known_workers
        threads: list[int] = list(client.nthreads().values())
        return max(1, sum(threads))  # one for each synchronous call

    @property
    def looks_ahead(self) -> bool:
        """Whether rows may be looked up in the store before they are pulled. Not if a row may wait
        for its instance, because the result of the lookup would then be out of date."""
        return not self.batch.blocking and self.module.n_instances is None

    def work(self, max_workers: int) -> Work:
        """The work that an executor runs."""
        return Work(
            module=self.module,
            batch=self.batch,
            options=self.options,
            max_workers=max_workers,
            clock=self.clock,
            most_ahead=self.most_ahead,
        )


def plan_run(
    module: Module,
    data: Any,
    options: Options,
    *,
    clock: Clock | None = None,
    most_ahead: int | None = None,
) -> RunPlan:
    """Check a run and read its input.

    Args:
        data: any input (see `run_parallel`), or rows that were read already.

    Raises:
        ValueError, TypeError, FileNotFoundError: bad input, or options that do not fit together.
        ModuleNotFoundError: a library that `result=` needs is not installed.
    """
    check_kind(options.result)
    module = module.with_confidence() if options.confidence else module
    if isinstance(data, Mapping) and not data and module.n_instances and not module.inputs.fields:
        data = [{}] * module.n_instances  # nothing to give the instances: each makes one row
    if isinstance(data, RowBatch):
        batch = data
    else:
        batch = read_rows(data, module.inputs, module.outputs, options)
    plan = RunPlan(
        module=module,
        batch=batch,
        options=options,
        sources=Sources(module, options.cache_key),
        clock=clock or SystemClock(),
        most_ahead=most_ahead,
    )
    _check_together(plan)
    return plan


def _check_together(plan: RunPlan) -> None:
    """Refuse options that do not fit the module."""
    module, options = plan.module, plan.options
    if module.has_history and plan.workers(options.max_workers)[0] > 1:
        raise ValueError(
            "this module has a history, which rows in flight would share; use "
            "Parallel.from_factory(lambda i: Predict(…, history=History())), or max_workers=1"
        )
    if module.router is not None:
        _check_cascade(plan)
    if module.has_history and options.executor is not None:
        raise ValueError(
            "this module has a history, which would stay on the workers: it "
            "cannot be run with executor="
        )
    if options.hedge is not None and module.n_instances:
        raise ValueError(
            "hedge asks a row twice at once, and an instance of from_instances "
            "serves one row at a time; use from_factory"
        )
    if options.max_cost_usd is not None:
        refuse_unknown(module)


def _check_cascade(plan: RunPlan) -> None:
    """Refuse what a cascade cannot do, because its rows wait for each other. ValueError."""
    if plan.options.executor is not None:
        raise ValueError("a cascade cannot be run with executor=: run it in this process")
    if plan.options.hedge is not None:
        raise ValueError("a cascade cannot be run with hedge=")
    if plan.most_ahead is not None and not plan.module.router.is_decided:
        raise ValueError(
            "a cascade finds its threshold from a whole table, and this run reads its input piece "
            "by piece: run a random sample with run_parallel first, and pass what it found, "
            'Cascade(…, accept=df.attrs["pardspy"]["cascade"]["accept"])'
        )


MakeExecutor = Callable[[Work], Executor]


def executor_for(options: Options) -> MakeExecutor:
    """The factory of the executor that the options ask for."""
    if options.executor is None:
        from ..executors.local import LocalExecutor

        return LocalExecutor
    from ..executors.cluster.executor import ClusterExecutor

    return ClusterExecutor
