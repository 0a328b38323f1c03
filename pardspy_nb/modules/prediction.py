"""The result of a module or of a batch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..core.metrics import ParallelMetrics
from ..core.usage import Usage


class Prediction:
    """Outputs by name, with their inputs, usage, metrics and errors.

    Attributes:
        outputs: the primary outputs; for a batch, the outputs of its first successful row.
        inputs: the inputs of the module.
        completions: every row's outputs in input order; None stands for a failed row.
        usage: summed over all billed attempts, None if nothing was reported.
        metrics: `ParallelMetrics` of a batch, None for a single call.
        errors: the failed rows' exceptions, in row order.
        module_name: the name of the module's class or function.
    """

    def __init__(
        self,
        outputs: Mapping[str, Any],
        *,
        inputs: Any = None,
        usage: Usage | None = None,
        completions: Sequence[Mapping[str, Any] | None] | None = None,
        metrics: ParallelMetrics | None = None,
        errors: Sequence[BaseException] = (),
        module_name: str = "",
        frame: Any = None,
    ) -> None:
        self.outputs = dict(outputs)
        self.inputs = inputs
        self.usage = usage
        self.completions = [self.outputs] if completions is None else list(completions)
        self.metrics = metrics
        self.errors = list(errors)
        self.module_name = module_name
        self._frame = frame

    def to_frame(self) -> Any:
        """The rows as a DataFrame, one per completion. ValueError for a single call."""
        if self._frame is None:
            raise ValueError("a single call has no frame; use run_parallel or Parallel")
        return self._frame

    def __getattr__(self, name: str) -> Any:
        outputs = self.__dict__.get("outputs", {})
        if name in outputs:
            return outputs[name]
        raise AttributeError(f"no output {name!r}; there are {', '.join(outputs) or 'none'}")

    def __getitem__(self, name: str) -> Any:
        return self.outputs[name]

    def __dir__(self) -> list[str]:
        return [*super().__dir__(), *self.outputs]

    def __repr__(self) -> str:
        fields = ", ".join(f"{name}={value!r}" for name, value in self.outputs.items())
        rows = f", {len(self.completions)} completions" if len(self.completions) != 1 else ""
        return f"Prediction({fields}{rows})"
