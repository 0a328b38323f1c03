"""The functions that users call: a table in, a frame out."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from ..core.options import Options, takes_options
from ..modules.module import Module, from_module
from ..modules.pairs import from_pairs
from .plan import plan_run
from .retry import ask_again
from .run import Run


def _run(module: Any, inputs: Any, options: dict[str, Any]) -> Run:
    checked = Options.of(options)
    if checked.result == "dask":
        return partitioned_run(from_module(module), inputs, checked, None)
    if inputs is not None:
        return Run(plan_run(from_module(module), inputs, checked), ask_again=ask_again)
    return Run(plan_run(*from_pairs(module, checked.samples), checked), ask_again=ask_again)


def partitioned_run(module: Module, inputs: Any, options: Options, folder: Path | None) -> Run:
    """A run whose rows and answers stay on a cluster or go to a folder of files."""
    from ..executors.cluster.partitions import PartitionExecutor, Partitions
    from .collectors.partitions import PartitionDestination

    module = module.with_confidence() if options.confidence else module
    partitions = Partitions(inputs, module, options, folder)
    return Run(
        plan_run(module, partitions.batch, options),
        destination=PartitionDestination(partitions, options),
        make_executor=partial(PartitionExecutor, partitions),
    )


def needs_cache_key(module: Any) -> bool:
    """Whether a module's answers are remembered only with a `cache_key`."""
    return not from_module(module).predicts


@takes_options
def start_parallel(module: Any, inputs: Any = None, **options: Any) -> Run:
    """Start a run in the background and return its `Run` at once; see `run_parallel`."""
    return _run(module, inputs, options).start("background")


@takes_options
def run_parallel(module: Any, inputs: Any = None, **options: Any) -> Any:
    """Run every row through a module, concurrently, and return one row per completion.

    Args:
        module: `Predict` or another module of this package, any sync or async function
            `f(**inputs)`, a `dspy.Module`, a LangChain runnable, or an object with
            `acall(**inputs)`. Or a list of `(module, inputs)` pairs, one per row; then `inputs` is
            left out.
        inputs: a dict of lists (equal lengths; scalars and strings are repeated for every row),
            `{"_batch": [dict, …]}`, a list of dicts, a list / Series / array if the module has one
            input, a DataFrame (pandas, polars, pyarrow), a path to a .parquet, .csv or .jsonl, or
            an iterator of dicts. One dict of scalars is one row. Rows with a blank required input
            are skipped (see `blank`).
        options: see `Options`.

    Returns:
        A DataFrame in input order with the input's index: inputs, outputs, then
        `status error_type error repaired attempts cached`, times (ms), tokens and `cost_usd`. Where
        a column of yours has the name of one of these, the run's gets the prefix `run_`.
        `df.parallel` has metrics, summary, failures and plots. After a kernel interrupt the frame
        has the rows settled so far, and the status of the others.

    Raises:
        ValueError, TypeError: bad input or options; nothing was sent.
        TooManyFailures, FailFast, RunStopped: the run ended early; `.df` has every row.
        LocalModelError, LMError: the model cannot be started or reached; nothing was sent.
    """
    return _run(module, inputs, options).start().result()


@takes_options
async def arun_parallel(module: Any, inputs: Any = None, **options: Any) -> Any:
    """`run_parallel`, awaited: the caller's event loop stays free."""
    run = _run(module, inputs, options).start("awaited")
    return await run.aresult()
