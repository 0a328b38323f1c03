"""`Parallel`: wraps a module so that it takes a batch, as in DSGo and DSPy."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from ..core.errors import AllFailed
from ..core.options import Options, takes_options
from ..display.notebook import WaitMode
from ..modules.module import Module, from_factory, from_instances, from_module
from ..modules.prediction import Prediction
from .plan import plan_run
from .run import Run

if TYPE_CHECKING:
    from ..signatures.signature import Signature


class Parallel:
    """Runs a module over a batch; the call takes any input shape of `run_parallel`.

    Args:
        module: the module that runs each row.
        options: see `Options`.

    Raises:
        TypeError, ValueError: not a module, an unknown option, a value out of range.
    """

    @takes_options
    def __init__(self, module: Any, **options: Any) -> None:
        self._module: Module = from_module(module)
        self.options = Options.of(options)

    @classmethod
    @takes_options
    def from_factory(cls, factory: Callable[[int], Any], **options: Any) -> Parallel:
        """One module per row: `factory(i)` for row i. For modules that keep state."""
        return cls._of(from_factory(factory), options)

    @classmethod
    @takes_options
    def from_instances(cls, instances: Sequence[Any], **options: Any) -> Parallel:
        """Row i goes to `instances[i % n]`; an instance never serves two rows at once."""
        return cls._of(from_instances(list(instances)), options)

    @classmethod
    def _of(cls, module: Module, options: dict[str, Any]) -> Parallel:
        parallel = cls.__new__(cls)
        parallel._module, parallel.options = module, Options.of(options)
        return parallel

    @property
    def signature(self) -> Signature | None:
        """The signature of the module; None for a module that declares none."""
        return self._module.signature

    def __call__(self, batch: Any = None, **inputs: Any) -> Prediction:
        """Run the batch, given as one object or as keyword inputs.

        Raises:
            ValueError: no rows, or bad input.
            AllFailed: no row succeeded. This error and the errors of `run_parallel` carry `.df`.
        """
        run = self._run(batch, inputs, "blocking")
        run.result()
        return self._prediction(run)

    async def acall(self, batch: Any = None, **inputs: Any) -> Prediction:
        """`__call__`, awaited."""
        run = self._run(batch, inputs, "awaited")
        await run.aresult()
        return self._prediction(run)

    def _run(self, batch: Any, inputs: dict[str, Any], wait_mode: WaitMode) -> Run:
        if batch is not None and inputs:
            raise ValueError("give the batch as one object or as keywords, not both")
        run = Run(plan_run(self._module, inputs if batch is None else batch, self.options))
        if run.is_empty:
            raise ValueError("the batch has no rows")
        return run.start(wait_mode)

    def _prediction(self, run: Run) -> Prediction:
        rows = list(run.results)
        successes = [r for r in rows if r.outputs is not None]
        if not successes:
            raise run.explained(AllFailed)
        kept = successes if self.options.only_successful else rows
        kept = kept if self.options.return_all else successes[:1]
        first = successes[0]
        return Prediction(
            first.outputs or {},
            inputs=first.inputs,
            usage=run.metrics.usage,
            completions=[r.outputs for r in kept],
            metrics=run.metrics,
            errors=[r.error for r in rows if r.status == "failed" and r.error is not None],
            module_name=self._module.name,
            frame=run.df,
        )

    def __repr__(self) -> str:
        return f"Parallel({self._module.name}, {self.options})"
