"""A cascade: a cheap model answers what it is sure of, a stronger one the rest."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..core.events import Answer
from ..core.usage import UsageScope, total
from ..signatures.fields import Field, Inputs
from ..signatures.logprobs import columns_for
from .cascade_router import NOTHING_KEPT, CascadeRouter
from .composite import Composite
from .predict import Predict
from .prediction import Prediction


class Cascade(Composite):
    """Ask a cheap model first, and a stronger one where the cheap one is not sure enough.

    Over a table a random pilot of rows is asked of both. From it a threshold for the cheap model's
    confidence is chosen such that, with a probability of 0.95, at least a share of `target` of the
    cheap answers that are kept agree with the strong model (see `modules.acceptance`; the
    procedure is BARGAIN's: Zeighami, Shankar, Parameswaran, SIGMOD 2026). All other rows go to the
    strong model, whose answers also stand in the pilot's rows. Where the confidence says nothing,
    nearly every row goes there.

    The outputs gain `<on>_confidence` and `<on>_probabilities` of the model that answered, and
    `stage`: 1 for the first model, and so on. Each model's answers are remembered as if it had been
    asked alone. `df.attrs["pardspy"]["cascade"]` has the threshold, the pilot and what was saved;
    `df.parallel.summary()` shows them.

    Args:
        modules: two or more `Predict`s, the cheapest first. All but the last need an endpoint that
            reports log probabilities, or no answer of theirs is kept.
        on: the class output that must agree.
        target: the share of kept answers that agree with the last model, in (0, 1).
        accept: the threshold, chosen by hand, in [0, 1]; one for each module but the last. No
            pilot is asked, and nothing is guaranteed.
        pilot: rows of the pilot; None for a fifth of the rows, at least 100 and at most 1,000.

    Raises:
        ValueError: the modules do not fit together, or a number is out of range.
        TypeError: a module is not a `Predict`.
    """

    is_io_bound = True
    has_history = False

    def __init__(
        self,
        modules: Sequence[Any],
        *,
        on: str,
        target: float = 0.95,
        accept: float | Sequence[float] | None = None,
        pilot: int | None = None,
    ) -> None:
        self.on, self.target, self.pilot = on, target, pilot
        _check_modules(modules, on)
        if not 0 < target < 1:
            raise ValueError(f"target is a share between 0 and 1, got {target!r}")
        if pilot is not None and (not isinstance(pilot, int) or pilot < 1):
            raise ValueError(f"pilot is a number of rows, got {pilot!r}")
        sure = [m if m.is_confident else m.varied(confidence=True) for m in modules[:-1]]
        self.stages: list[Predict] = [*sure, modules[-1]]
        self.accept = _thresholds(accept, len(self.stages) - 1)
        fields: dict[str, Field] = {}
        for stage in self.stages:
            for name, field in stage.signature.inputs.items():
                if name not in fields or fields[name].optional:
                    fields[name] = field
        self.inputs = Inputs(fields)
        declared = self.stages[-1].columns
        self.outputs = {
            **declared,
            **columns_for({on: declared[on]}),
            "stage": Field("stage", int, "Which model answered"),
        }
        self.lms = [stage.lm for stage in self.stages]

    @property
    def decisive(self) -> Sequence[Any]:
        """See `Composite`."""
        return [*self.stages, self.on, self.target, self.accept, self.pilot]

    @property
    def timeout_s(self) -> float | None:
        """Wall clock for one call: the longest of its models'."""
        return max((s.timeout_s for s in self.stages if s.timeout_s is not None), default=None)

    def router(self, pilot: int | None = None) -> CascadeRouter:
        """The rules for one run."""
        return CascadeRouter(self, pilot)

    def accepting(self, thresholds: Sequence[float]) -> Cascade:
        """The same cascade with thresholds that are known."""
        return Cascade(self.stages, on=self.on, target=self.target, accept=thresholds)

    def outputs_of(self, outputs: Mapping[str, Any], stage: int) -> dict[str, Any]:
        """The cascade's outputs for the answer of one stage."""
        return {name: outputs.get(name) for name in self.outputs} | {"stage": stage + 1}

    def confidence(self, answer: Answer) -> float | None:
        """How sure a model is of its label; None if this is not known."""
        sure = answer.outputs.get(f"{self.on}_confidence")
        return sure if isinstance(sure, float) and sure == sure else None

    async def acall(self, **inputs: Any) -> Prediction:
        """Ask for one row; needs `accept`, because a single row has no pilot.

        Raises:
            ValueError: `accept` is not set.
        """
        if self.accept is None:
            raise ValueError(
                "a cascade finds its threshold from a table: use run_parallel(cascade, rows), or "
                "set it by hand, Cascade(…, accept=0.9)"
            )
        with UsageScope() as calls:
            for stage, predict in enumerate(self.stages):
                taken = {n: v for n, v in inputs.items() if n in predict.signature.inputs}
                answer = await predict.acall(**taken)
                sure = answer.outputs.get(f"{self.on}_confidence")
                is_last = stage == len(self.stages) - 1
                if is_last or (sure is not None and sure >= self.accept[stage]):
                    break
        return Prediction(
            self.outputs_of(answer.outputs, stage),
            inputs=inputs,
            usage=total(calls),
            module_name="Cascade",
        )

    def __repr__(self) -> str:
        chain = " -> ".join(str(getattr(lm, "model", lm)) for lm in self.lms)
        how = f"target={self.target:g}" if self.accept is None else f"accept={self.accept}"
        return f"Cascade({chain}, on={self.on!r}, {how})"


def _check_modules(modules: Any, on: str) -> None:
    if not isinstance(modules, Sequence) or len(modules) < 2:
        raise ValueError("a cascade needs two modules or more: Cascade([cheap, strong], on=…)")
    for module in modules:
        if not isinstance(module, Predict) or not module.asks_once:
            raise TypeError(
                f"a cascade is made of Predicts, which report confidence; got {module!r}"
            )
        if module.history is not None:
            raise ValueError("a module of a cascade cannot have a history")
    last = modules[-1].signature.outputs
    if on not in last or last[on].labels is None:
        classes = [name for name, field in last.items() if field.labels is not None]
        raise ValueError(f"on={on!r} is not a class output of the last module; it has {classes}")
    if "stage" in last:
        raise ValueError("the modules have an output 'stage' already; rename it")
    for place, module in enumerate(modules[:-1], 1):
        own = module.signature.outputs
        if lacks := [n for n, field in last.items() if n not in own and not field.optional]:
            raise ValueError(f"module {place} does not give the outputs {lacks} of the last one")
        if set(own[on].labels or ()) != set(last[on].labels or ()):
            raise ValueError(f"module {place} has other labels for {on!r} than the last one")


def _thresholds(accept: Any, n: int) -> list[float] | None:
    if accept is None:
        return None
    each = [accept] * n if isinstance(accept, int | float) else list(accept)
    fits = [isinstance(a, int | float) and (0 <= a <= 1 or a == NOTHING_KEPT) for a in each]
    if len(each) != n or not all(fits):
        raise ValueError(
            f"accept is a confidence in [0, 1], one for each module but the last ({n}); got "
            f"{accept!r}"
        )
    return [float(a) for a in each]
