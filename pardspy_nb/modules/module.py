"""Describes any module in one form: its inputs, its outputs, and how it makes attempts."""

from __future__ import annotations

import asyncio
import inspect
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..signatures.fields import Field, Inputs
from ..signatures.signature import Signature
from .cascade import Cascade
from .composite import Composite
from .history import History
from .integrations import adapt
from .invocation import Caller, is_async_function, is_one_predict
from .predict import Predict


@dataclass(frozen=True)
class Module:
    """A module made ready for the engine."""

    name: str
    inputs: Inputs
    outputs: Mapping[str, Field]  # empty if the module declares none
    source: Any
    n_instances: int | None = None  # each serves one row at a time
    is_io_bound: bool = True  # waits on an endpoint; False for synchronous functions
    timeout_s: float | None = None
    lms: Sequence[Any] = ()
    has_history: bool = False  # rows in flight would share the history
    signature: Signature | None = None
    router: Any = None  # of a cascade, for one run; `instances` are its stages then
    instances: Sequence[Any] = field(default=(), repr=False)
    factory: Callable[[int], Any] | None = field(default=None, repr=False)

    @property
    def known_workers(self) -> int | None:
        """The number of rows in flight, if the user gives none and the module decides it.

        It is the number of instances, of processors for synchronous functions, or of requests
        that the embedded model handles at once. None if the run has to find the number.
        """
        if self.n_instances:
            return self.n_instances
        if not self.is_io_bound:
            return os.cpu_count() or 1
        return min((n for lm in self.lms if (n := getattr(lm, "concurrency", None))), default=None)

    @property
    def each(self) -> Sequence[Any]:
        """The modules (row i: i modulo their number); a factory stands for its modules."""
        return self.instances or [self.source]

    def place(self, number: int, stage: int) -> int:
        """Which of `each` serves the row of this number, in this stage."""
        return (number if self.router is None else stage) % len(self.each)

    @property
    def predicts(self) -> Sequence[Predict]:
        """The `Predict`s whose prompts alone decide the answers (row i: i modulo their number).

        Empty if anything else may decide an answer, so that no answer can be cached.
        """
        each = self.instances or ([] if self.factory else [self.source])
        are_known = all(is_one_predict(m) and m.cache_identity is not None for m in each)
        return list(each) if are_known else []

    @property
    def requests_are_known(self) -> bool:
        """Whether the request for each row is known before it is sent."""
        return all(isinstance(m, Predict) and m.requests_are_known for m in self._samples)

    @property
    def can_bound_cost(self) -> bool:
        """Whether each module knows the most that a row can cost."""
        return all(isinstance(m, Predict) and m.can_bound_cost for m in self._samples)

    @property
    def _samples(self) -> Sequence[Any]:
        """The modules; for a factory, its first module."""
        return self.instances or [self.factory(0) if self.factory else self.source]

    def with_confidence(self) -> Module:
        """The same module with the probabilities of labels. ValueError unless it is a `Predict`."""
        if self.router is not None:
            raise ValueError("set confidence on the modules of the cascade, not on the run")
        if (factory := self.factory) is not None:
            return from_factory(lambda i: _confident(factory(i)))
        if self.instances:
            sure = {id(m): _confident(m) for m in self.instances}
            instances = tuple(sure[id(m)] for m in self.instances)
            outputs = agreed([describe(m, m) for m in sure.values()])
            return replace(self, source=instances, outputs=outputs, instances=instances)
        return from_module(_confident(self.source))

    def caller(
        self, loop: asyncio.AbstractEventLoop, max_answer_tokens: int | None = None
    ) -> Caller:
        """The caller that makes attempts on this loop.

        `max_answer_tokens` limits the answers of models that have no limit of their own.
        """
        modules = self.instances or [self.source]
        return Caller(modules, self.factory, loop, self.outputs, self.place, max_answer_tokens)


def from_module(module: Any) -> Module:
    """One module for all rows. TypeError if it is not a module."""
    return describe(module, module)


def from_instances(instances: Sequence[Any]) -> Module:
    """Row i goes to `instances[i % n]`, never two rows to one instance at once."""
    if not instances:
        raise ValueError("from_instances needs at least one module")
    described = describe(instances[0], instances[0])
    _refuse_cascades(instances)
    for other in instances[1:]:
        if describe(other, other).inputs.fields.keys() != described.inputs.fields.keys():
            raise ValueError("the instances take different inputs")
    lms = [lm for m in instances for lm in _lms(m)]
    return replace(
        described,
        source=instances,
        n_instances=len(instances),
        lms=lms,
        has_history=False,
        instances=tuple(instances),
    )


def agreed(modules: Collection[Module]) -> dict[str, Field]:
    """The outputs of several modules whose declarations agree.

    An output is included if all modules that declare it give it the same type. If one module
    declares no outputs, the result is empty: that module may return anything under any name.
    """
    if not all(of.outputs for of in modules):
        return {}
    kinds: dict[str, set[str]] = {}
    for of in modules:
        for name, output in of.outputs.items():
            kinds.setdefault(name, set()).add(repr((output.type, output.optional)))
    declared = {n: f for of in modules for n, f in of.outputs.items()}
    return {name: output for name, output in declared.items() if len(kinds[name]) == 1}


def from_factory(factory: Callable[[int], Any]) -> Module:
    """One module for each row. The factory is called once now, to learn inputs and outputs."""
    if not callable(factory):
        raise TypeError(f"from_factory needs a function i -> module, not {factory!r}")
    sample = factory(0)
    _refuse_cascades([sample])
    return replace(describe(sample, sample), source=factory, has_history=False, factory=factory)


def _refuse_cascades(modules: Sequence[Any]) -> None:
    """Refuse cascades where each row has a module of its own. ValueError."""
    if any(isinstance(m, Cascade) and m.accept is None for m in modules):
        raise ValueError(
            "a cascade compares the rows of one table, so one cascade serves all of them: "
            "run_parallel(cascade, rows), or set the threshold, Cascade(…, accept=0.9)"
        )


def _lms(module: Any) -> list[Any]:
    lm = getattr(module, "lm", None)
    return [lm] if lm is not None else []


def describe(module: Any, source: Any) -> Module:
    """Describe a module; `source` is the user's object. TypeError if it is not a module."""
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
            signature=signature,
        )
    if isinstance(module, Cascade):
        return Module(
            name,
            module.inputs,
            module.outputs,
            source,
            timeout_s=module.timeout_s,
            lms=module.lms,
            router=module.router(),
            instances=tuple(module.stages),
        )
    if isinstance(module, Composite):
        return Module(
            name,
            module.inputs,
            module.outputs,
            source,
            lms=module.lms,
            is_io_bound=module.is_io_bound,
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
            f"{_what(module)}: expected Predict(…), a function f(**inputs), a "
            "dspy.Module, a LangChain runnable, or an object with acall(**inputs)"
        )
    _refuse_generator(function)
    return Module(name, _parameters(function), {}, source, is_io_bound=is_async_function(function))


def _refuse_generator(function: Any) -> None:
    """Refuse a generator function. TypeError."""
    called = getattr(function, "__call__", None)  # noqa: B004 - an object's own __call__
    is_generator = (inspect.isgeneratorfunction, inspect.isasyncgenfunction)
    if any(check(of) for check in is_generator for of in (function, called)):
        raise TypeError(
            f"{shortened(function)} is a generator function, which yields instead of returning: a "
            "module returns one answer a row; return a value, or a dict of outputs"
        )


def _what(module: Any) -> str:
    """What was given in the place of a module, with a hint where it is clear what was meant."""
    what, hint = shortened(module), ""
    if isinstance(module, Signature):
        what, hint = "a Signature", " (make it one: Predict(signature))"
    elif isinstance(module, str) and "->" in module:
        hint = f" (make it one: Predict({module!r}))"
    elif callable(getattr(module, "complete", None)):
        what, hint = "an LM", " (make it one: Predict(signature, lm))"
    elif isinstance(module, type):
        hint = f" (make an object of it: {module.__name__}(…))"
    elif hasattr(module, "columns") or isinstance(module, list | dict):
        what = f"a {type(module).__name__}"
        hint = " (the module comes first: run_parallel(predict, rows))"
    return f"{what} is not a module{hint}"


def shortened(module: Any) -> str:
    """An object's `repr` on one short line."""
    shown = " ".join(repr(module).split())
    return shown if len(shown) <= 100 else f"{shown[:99]}…"


def _parameters(function: Any) -> Inputs:
    """The inputs a function takes, from its parameters."""
    try:
        own = inspect.signature(function, follow_wrapped=False).parameters.values()
        # a decorator's `**kwargs` take what the function in it takes
        follows = any(p.kind is p.VAR_KEYWORD for p in own)
        parameters = inspect.signature(function).parameters.values() if follows else own
    except (TypeError, ValueError):  # some builtins have no signature
        return Inputs({}, open=True)
    fields: dict[str, Field] = {}
    open_ = False
    for p in parameters:
        if p.kind is p.VAR_KEYWORD:
            open_ = True
        elif p.kind is p.POSITIONAL_ONLY and p.default is p.empty:
            raise TypeError(f"{function!r} takes {p.name!r} by position; inputs are passed by name")
        elif p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY):
            fields[p.name] = Field(p.name, Any, optional=p.default is not p.empty)
    return Inputs(fields, open_)


def _confident(module: Any) -> Any:
    if not is_one_predict(module):
        raise ValueError(
            f"confidence works for Predict and its subclasses, not for {shortened(module)}: "
            "set it on the Predict inside"
        )
    return module if module.is_confident else module.varied(confidence=True)
