"""Any module in, one shape out: the inputs it takes, and how to make one attempt at a row."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import weakref
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any, NamedTuple

from ..core.errors import ModuleOutputError
from ..core.events import Answer, Row
from ..core.threads import DaemonPool
from ..core.usage import Bound, Usage, UsageScope, total
from ..llm.background_loop import run_sync
from ..signatures.fields import RESERVED, Field, Inputs
from ..signatures.signature import Signature
from .history import History
from .integrations.external import adapt
from .predict import Predict
from .prediction import Prediction


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
    talks: bool = False  # has a history, which rows in flight would share
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


Call = Callable[[Mapping[str, Any]], Awaitable[Answer]]


class _Parts(NamedTuple):
    """What the parts of composites need on one event loop: threads, and each part's calls, by the
    part's id."""

    pool: DaemonPool
    calls: dict[int, Call]


_parts: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, _Parts] = weakref.WeakKeyDictionary()


class Composite(ABC):
    """A module made of others, which has `acall(**inputs)`.

    Attributes:
        inputs, outputs: as in `Module`.
        lms, waits, talks: of all its parts.
    """

    inputs: Inputs
    outputs: Mapping[str, Field]
    lms: Sequence[Any]
    waits: bool
    talks: bool

    @abstractmethod
    async def acall(self, **inputs: Any) -> Prediction:
        """Run for one row."""

    def __call__(self, **inputs: Any) -> Prediction:
        """`acall`, from synchronous code; works inside a running event loop too."""
        return run_sync(self.acall(**inputs))


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


class Caller:
    """Makes attempts at rows. `close` it afterwards."""

    def __init__(
        self,
        modules: Sequence[Any],
        factory: Callable[[int], Any] | None,
        loop: asyncio.AbstractEventLoop,
    ) -> None:
        self._modules, self._factory, self._loop = modules, factory, loop
        self._made: dict[int, Any] = {}  # by a factory, for rows about to be asked
        self._pool = DaemonPool(loop)
        each = {} if factory else {id(m): _attempt_of(m, self._pool) for m in modules}
        self._attempts = [] if factory else [each[id(m)] for m in modules]
        plain = not factory and isinstance(modules[0], Predict)
        self._fixed_size = len(json.dumps(modules[0].fixed[2:], default=repr)) if plain else 0

    @property
    def ask(self) -> Callable[[Row], Awaitable[Answer]]:
        """What makes one attempt."""
        return self._attempts[0] if len(self._attempts) == 1 else self._ask

    async def _ask(self, row: Row) -> Answer:
        if self._factory is None:
            return await self._attempts[row.number % len(self._attempts)](row)
        module = self._made.pop(row.number, None) or self._factory(row.number)
        return await _attempt_of(module, self._pool)(row)

    def worst_case(self, row: Row) -> Bound:
        """The most that the next attempt can use; for modules that can be bounded."""
        module = self._modules[row.number % len(self._modules)]
        if self._factory is not None:
            module = self._made.get(row.number)
            if module is None:
                module = self._made[row.number] = self._factory(row.number)
        bound: Bound = module.worst_case(row.inputs, row.before)
        return bound

    def size(self, row: Row) -> float:
        """How long a row's prompt is, in characters, as far as that can be known."""
        return self._fixed_size + sum(
            len(v) if isinstance(v, str) else len(repr(v)) for v in row.inputs.values()
        )

    def close(self) -> None:
        """Let go of the threads."""
        self._pool.close()
        if (parts := _parts.pop(self._loop, None)) is not None:
            parts.pool.close()


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
        talks=False,
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
    return replace(describe(sample, sample), source=factory, talks=False, _factory=factory)


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
            talks=isinstance(getattr(module, "history", None), History),
        )
    if isinstance(module, Composite):
        return Module(
            name,
            module.inputs,
            module.outputs,
            source,
            lms=module.lms,
            waits=module.waits,
            talks=module.talks,
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


def _is_async(function: Any) -> bool:
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object's own async __call__
    )


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


def _attempt_of(module: Any, pool: DaemonPool) -> Callable[[Row], Awaitable[Answer]]:
    if _is_plain(module):  # without a Prediction a row

        async def ask(row: Row) -> Answer:
            with UsageScope() as calls:
                try:
                    answer: Answer = await module.ask_again(row.inputs, row.before)
                except Exception as error:
                    _attach(error, total(calls))
                    raise
            # more than the one call that `ask` makes: an LM that asks in a way of its own
            return answer if len(calls) < 2 else answer._replace(usage=total(calls))

        return ask
    call = _call_of(module, pool)

    async def attempt(row: Row) -> Answer:
        return await call(row.inputs)

    return attempt


def _call_of(module: Any, pool: DaemonPool) -> Call:
    """One call of a module, whatever it is, with all that it used."""
    foreign = adapt(module)
    if foreign is not None:
        function, is_async = foreign.ask, foreign.is_async
    else:
        given = getattr(module, "acall", module)
        function, is_async = lambda inputs: given(**inputs), _is_async(given)

    async def call(inputs: Mapping[str, Any]) -> Answer:
        with UsageScope() as calls:
            try:
                if is_async:
                    result = await function(inputs)
                else:
                    result = await pool.run(partial(function, inputs))
                    if inspect.isawaitable(result):
                        result = await result
            except Exception as error:
                _attach(error, total(calls))
                raise
            return _answer(result, total(calls))

    return call


def _confident(module: Any) -> Any:
    if not _is_plain(module):
        raise ValueError(
            f"confidence is told by Predict and its kin, not by {shortened(module)}: "
            "give it to the Predict inside"
        )
    return module if module.is_confident else module.varied(confidence=True)


def _is_plain(module: Any) -> bool:
    """Whether this asks its model once a row, as `Predict` does."""
    return isinstance(module, Predict) and type(module).acall is Predict.acall


def _attach(error: Exception, usage: Any) -> None:
    """Let a failed module's error carry what its calls were billed, and nothing else there."""
    own = getattr(error, "usage", None)
    if usage is None and (own is None or isinstance(own, Usage)):
        return
    try:
        error.usage = usage  # type: ignore[attr-defined]
    except AttributeError:  # an exception with __slots__
        error.add_note(f"billed: {usage}")


def _answer(result: Any, counted: Any) -> Answer:
    """A module's result as an Answer. Calls made inside were counted; else believe the result."""
    if isinstance(result, Answer):  # of another library's module
        return _checked(result.outputs, counted)._replace(
            model=result.model, finish_reason=result.finish_reason
        )
    if isinstance(result, Prediction):
        return Answer(result.outputs, counted if counted is not None else result.usage)
    if not isinstance(result, Mapping):
        return Answer({"output": result}, counted)
    return _checked(result, counted)


def _checked(result: Mapping[Any, Any], counted: Any) -> Answer:
    outputs = dict(result)
    if clash := [name for name in RESERVED if name in outputs]:
        raise ModuleOutputError(
            f"the module returned {clash}, the names of result columns; rename them", usage=counted
        )
    if odd := [name for name in outputs if not isinstance(name, str)]:
        raise ModuleOutputError(
            f"the module returned keys that are no strings: {odd}", usage=counted
        )
    return Answer(outputs, counted)
