"""Any module in, one shape out: the inputs it takes, and how to make one attempt at a row."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..signatures.fields import Field, Inputs
from ..signatures.signature import Signature
from .composite import Composite
from .history import History
from .integrations import adapt
from .invocation import Caller, _is_async, _is_plain
from .predict import Predict


@dataclass(frozen=True)
class Module:
    """A module made ready for the engine."""

    name: str
    inputs: Inputs
    outputs: Mapping[str, Field]  # empty where the module declares none
    source: Any
    lanes: int | None = None
    waits: bool = True  # waits on an endpoint; False for synchronous functions
    timeout_s: float | None = None
    lms: Sequence[Any] = ()
    has_history: bool = False  # has a history, which rows in flight would share
    _instances: Sequence[Any] = field(default=(), repr=False)
    _factory: Callable[[int], Any] | None = field(default=None, repr=False)

    @property
    def known_workers(self) -> int | None:
        """Rows in flight where the user names no number: one for each instance, what the
        embedded model works on at once, the processors for synchronous functions. None where
        it has to be found out."""
        if self.lanes:
            return self.lanes
        if not self.waits:
            return os.cpu_count() or 1
        return min((n for lm in self.lms if (n := getattr(lm, "concurrency", None))), default=None)

    @property
    def each(self) -> Sequence[Any]:
        """The modules (row i: i modulo their number); a factory stands for what it makes."""
        return self._instances or [self.source]

    @property
    def predicts(self) -> Sequence[Predict]:
        """The `Predict`s whose prompts alone decide the answers (row i: i modulo their
        number); empty where something else may, so that nothing can be remembered."""
        each = self._instances or ([] if self._factory else [self.source])
        plain = all(_is_plain(m) and m.can_be_remembered for m in each)
        return list(each) if plain else []

    @property
    def can_be_bounded(self) -> bool:
        """Whether each module is one that asks its model once a row, as `Predict` does."""
        each = self._instances or [self._factory(0) if self._factory else self.source]
        return all(_is_plain(m) and type(m).ask is Predict.ask for m in each)

    def with_confidence(self) -> Module:
        """The same, with the probabilities of labels. ValueError unless it is a `Predict`."""
        if (factory := self._factory) is not None:
            return from_factory(lambda i: _confident(factory(i)))
        if self._instances:
            sure = {id(m): _confident(m) for m in self._instances}
            instances = tuple(sure[id(m)] for m in self._instances)
            outputs = agreed([describe(m, m) for m in sure.values()])
            return replace(self, source=instances, outputs=outputs, _instances=instances)
        return from_module(_confident(self.source))

    def caller(self, loop: asyncio.AbstractEventLoop) -> Caller:
        """What makes attempts, on this loop."""
        return Caller(self._instances or [self.source], self._factory, loop)


def from_module(module: Any) -> Module:
    """One module for all rows. TypeError if it is none."""
    return describe(module, module)


def from_instances(instances: Sequence[Any]) -> Module:
    """Row i goes to `instances[i % n]`, never two rows to one instance at once."""
    if not instances:
        raise ValueError("from_instances needs at least one module")
    described = describe(instances[0], instances[0])
    for other in instances[1:]:
        if describe(other, other).inputs.fields.keys() != described.inputs.fields.keys():
            raise ValueError("the instances take different inputs")
    lms = [lm for m in instances for lm in _lms(m)]
    return replace(
        described,
        source=instances,
        lanes=len(instances),
        lms=lms,
        has_history=False,
        _instances=tuple(instances),
    )


def agreed(modules: Collection[Module]) -> dict[str, Field]:
    """The outputs of several modules that all who declare them declare alike; none where one
    declares nothing, and may return anything under any name."""
    if not all(of.outputs for of in modules):
        return {}
    kinds: dict[str, set[str]] = {}
    for of in modules:
        for name, output in of.outputs.items():
            kinds.setdefault(name, set()).add(repr((output.type, output.optional)))
    declared = {n: f for of in modules for n, f in of.outputs.items()}
    return {name: output for name, output in declared.items() if len(kinds[name]) == 1}


def from_factory(factory: Callable[[int], Any]) -> Module:
    """One module a row. The factory is called once here, to learn the inputs and outputs."""
    if not callable(factory):
        raise TypeError(f"from_factory needs a function i -> module, not {factory!r}")
    sample = factory(0)
    return replace(describe(sample, sample), source=factory, has_history=False, _factory=factory)


def _lms(module: Any) -> list[Any]:
    lm = getattr(module, "lm", None)
    return [lm] if lm is not None else []


def describe(module: Any, source: Any) -> Module:
    """A module as the engine sees it; `source` is what the user gave. TypeError if it is none."""
    name = str(getattr(module, "__name__", type(module).__name__))
    signature: Any = getattr(module, "signature", None)
    if isinstance(signature, Signature) and callable(getattr(module, "acall", None)):
        columns = getattr(module, "columns", signature.outputs)
        return Module(
            name,
            Inputs(signature.inputs),
            columns,
            source,
            timeout_s=getattr(module, "timeout_s", None),
            lms=_lms(module),
            has_history=isinstance(getattr(module, "history", None), History),
        )
    if isinstance(module, Composite):
        return Module(
            name,
            module.inputs,
            module.outputs,
            source,
            lms=module.lms,
            waits=module.waits,
            has_history=module.has_history,
        )
    if (foreign := adapt(module)) is not None:
        return Module(
            foreign.name,
            Inputs(foreign.inputs, foreign.open),
            foreign.outputs,
            source,
            lms=foreign.lms,
        )
    function = getattr(module, "acall", module)
    if not callable(function) or isinstance(module, type):
        raise TypeError(
            f"{shortened(module)} is not a module: expected Predict(…), a function f(**inputs), a "
            "dspy.Module, a LangChain runnable, or an object with acall(**inputs)"
        )
    return Module(name, _parameters(function), {}, source, waits=_is_async(function))


def shortened(module: Any) -> str:
    """What something is, on one short line."""
    shown = " ".join(repr(module).split())
    return shown if len(shown) <= 100 else f"{shown[:99]}…"


def _parameters(function: Any) -> Inputs:
    """The inputs a function takes, from its parameters."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError):  # some builtins have no signature
        return Inputs({}, open=True)
    fields: dict[str, Field] = {}
    open_ = False
    for p in parameters:
        if p.kind is p.VAR_KEYWORD:
            open_ = True
        elif p.kind is p.POSITIONAL_ONLY and p.default is p.empty:
            raise TypeError(f"{function!r} takes {p.name!r} by position; inputs go by name")
        elif p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
            fields[p.name] = Field(p.name, Any, optional=p.default is not p.empty)
    return Inputs(fields, open_)


def _confident(module: Any) -> Any:
    if not _is_plain(module):
        raise ValueError(
            f"confidence is told by Predict and its kin, not by {shortened(module)}: "
            "give it to the Predict inside"
        )
    return module if module.is_confident else module.varied(confidence=True)
