"""One attempt at a row: calls any module, and converts its result or its error."""

from __future__ import annotations

import asyncio
import inspect
import json
import os
import reprlib
import warnings
import weakref
from collections.abc import Awaitable, Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from ..core.errors import ModuleOutputError
from ..core.events import Answer, Row
from ..core.forks import end_child
from ..core.labels import plain_label
from ..core.overrides import overrides
from ..core.ownership import one_shot_in, own_row
from ..core.plain_text import writable
from ..core.threads import DaemonPool
from ..core.usage import Bound, Usage, UsageScope, total, usage_from
from ..llm.lm import LM
from ..signatures.fields import RESERVED, Field
from ..signatures.spelling import NO_LABEL
from .integrations import adapt
from .predict import Predict
from .prediction import Prediction

_RESERVED = frozenset(RESERVED)
Call = Callable[[Mapping[str, Any]], Awaitable[Answer]]


class Parts(NamedTuple):
    """The threads and calls of composites' parts on one event loop; calls by the part's id."""

    pool: DaemonPool
    calls: dict[int, Call]


open_parts: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, Parts] = (
    weakref.WeakKeyDictionary()
)


class Caller:
    """Makes attempts at rows. `close` it afterwards."""

    def __init__(
        self,
        modules: Sequence[Any],
        factory: Callable[[int], Any] | None,
        loop: asyncio.AbstractEventLoop,
        outputs: Mapping[str, Field],
        place: Callable[[int, int], int],
        max_answer_tokens: int | None = None,
    ) -> None:
        self._place = place
        self._max_answer_tokens = max_answer_tokens
        self._classes = {n: field for n, field in outputs.items() if field.labels is not None}
        if not factory:
            bounded = {id(m): self._bounded(m) for m in modules}
            modules = [bounded[id(m)] for m in modules]
        self._modules, self._factory, self._loop = modules, factory, loop
        self._made: dict[int, Any] = {}  # by a factory, for rows that are about to be sent
        self._pool = DaemonPool(loop)
        each = {} if factory else {id(m): self._attempt_of(m) for m in modules}
        self._attempts = [] if factory else [each[id(m)] for m in modules]
        plain = not factory and isinstance(modules[0], Predict)
        self._fixed_size = len(json.dumps(modules[0].fixed[2:], default=repr)) if plain else 0

    def _bounded(self, module: Any) -> Any:
        """The module, with a token limit for its model's answers if they have none."""
        bound = self._max_answer_tokens
        lm = getattr(module, "lm", None)
        if bound is None or not isinstance(lm, LM) or lm.bounds_answers(module.params):
            return module
        return module.varied(max_tokens=bound)

    @property
    def ask(self) -> Callable[[Row], Awaitable[Answer]]:
        """The function that makes one attempt at a row."""
        return self._attempts[0] if len(self._attempts) == 1 else self._ask

    async def _ask(self, row: Row) -> Answer:
        if self._factory is None:
            return await self._attempts[self._place(row.number, row.stage)](row)
        module = self._made.pop(row.number, None) or self._bounded(self._factory(row.number))
        return await self._attempt_of(module)(row)

    def _attempt_of(self, module: Any) -> Callable[[Row], Awaitable[Answer]]:
        if is_one_predict(module):  # saves a Prediction for each row
            ask = _asking(module)
            if not overrides(type(module), Predict.ask):
                return ask
        else:
            call = call_of(module, self._pool)

            async def ask(row: Row) -> Answer:
                return await call(row.inputs)

        async def attempt(row: Row) -> Answer:
            answer = await ask(row)
            return _labelled(answer, self._classes) if self._classes else answer

        return attempt

    def worst_case(self, row: Row) -> Bound:
        """The most that the next attempt can use; only for modules whose cost can be bounded."""
        module = self._modules[self._place(row.number, row.stage)]
        if self._factory is not None:
            module = self._made.get(row.number)
            if module is None:
                module = self._made[row.number] = self._bounded(self._factory(row.number))
        bound: Bound = module.worst_case(row.inputs, row.before)
        return bound

    def size(self, row: Row) -> float:
        """The length of a row's prompt in characters, as far as it is known."""
        return self._fixed_size + sum(
            len(v) if isinstance(v, str) else len(repr(v)) for v in row.inputs.values()
        )

    def close(self) -> None:
        """Release the threads."""
        self._pool.close()
        if (parts := open_parts.pop(self._loop, None)) is not None:
            parts.pool.close()


def is_async_function(function: Any) -> bool:
    """Whether calling this returns an awaitable."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an object's own async __call__
    )


def _asking(module: Predict) -> Callable[[Row], Awaitable[Answer]]:
    """A function that makes one attempt at a row by the module's `ask`."""

    async def ask(row: Row) -> Answer:
        with UsageScope() as calls:
            try:
                answer: Answer = await module.ask_again(row.inputs, row.before)
            except Exception as error:
                _attach(error, total(calls))
                raise
        # a custom LM may make more calls than the one of `ask`
        return answer if len(calls) < 2 else answer._replace(usage=total(calls))

    return ask


def _labelled(answer: Answer, classes: Mapping[str, Field]) -> Answer:
    """The answer with labels where labels are declared. A program, or a subclass, may return
    anything under these names."""
    changed: dict[str, Any] = {}
    for name, field in classes.items():
        value = answer.outputs.get(name)
        if value is None or _is_label(plain_label(value), field):
            continue
        label = field.spellings.label_of(value) if isinstance(value, str) else NO_LABEL
        if label is NO_LABEL:
            raise ModuleOutputError(
                f"the module returned a {type(value).__name__} as {name!r} that is none of its "
                f"labels ({field.type_name[:200]}): {reprlib.repr(value)}",
                usage=answer.usage,
            )
        changed[name] = label
    return answer._replace(outputs={**answer.outputs, **changed}) if changed else answer


def _is_label(value: Any, field: Field) -> bool:
    try:
        return value in frozenset(field.labels or ())
    except Exception:  # it cannot be hashed, or compared
        return False


def call_of(module: Any, pool: DaemonPool) -> Call:
    """A function that calls any module once, and counts all usage of the call."""
    foreign = adapt(module)
    if foreign is not None:
        function, is_async = foreign.ask, foreign.is_async
    else:
        given = getattr(module, "acall", module)
        function, is_async = lambda inputs: given(**inputs), is_async_function(given)
    pid, told = os.getpid(), set[str]()

    async def call(inputs: Mapping[str, Any]) -> Answer:
        given_now = own_row(inputs)  # what the module does to its inputs is seen by nobody else
        with UsageScope() as calls:
            try:
                if is_async:
                    result = await function(given_now)
                else:
                    result = await pool.run(partial(function, given_now))
                    if inspect.isawaitable(result):
                        result = await result
            except BaseException as error:
                if os.getpid() != pid:
                    end_child(error)
                if isinstance(error, Exception):
                    _attach(error, total(calls))
                raise
            if os.getpid() != pid:
                end_child(None)
            if result is None:
                _warn_of_nothing(getattr(module, "__name__", type(module).__name__), told)
            return _answer(result, total(calls))

    return call


def _warn_of_nothing(name: str, told: set[str]) -> None:
    """Warn, once a run, of a function that returns nothing: its rows are `ok` without an answer."""
    if name not in told:
        told.add(name)
        warnings.warn(
            f"{name} returned None: such rows are ok and have no answer; did it forget to return?",
            UserWarning,
            stacklevel=2,
        )


def is_one_predict(module: Any) -> bool:
    """Whether this is a `Predict` whose `ask` makes one attempt at a row."""
    return isinstance(module, Predict) and module.asks_once


def _attach(error: Exception, usage: Any) -> None:
    """Set a failed module's error's `usage` to the usage of its calls, and to nothing else."""
    try:
        own = getattr(error, "usage", None)
        if usage is None and own is None:
            return
        told = usage_from(own) if usage is None and isinstance(own, Usage) else usage
        error.usage = told  # type: ignore[attr-defined]
    except Exception:  # an exception with __slots__, or with a property that raises
        error.add_note(f"billed: {usage}")


def _answer(result: Any, counted: Any) -> Answer:
    """A module's result as an `Answer`.

    The counted usage of its calls has priority over the usage that the result reports.
    """
    if isinstance(result, Answer):  # from another library's module
        return _checked(result.outputs, counted)._replace(
            model=result.model, finish_reason=result.finish_reason
        )
    if isinstance(result, Prediction):
        return _checked(
            result.outputs, counted if counted is not None else usage_from(result.usage)
        )
    if not isinstance(result, Mapping):
        return _checked({"output": result}, counted)
    return _checked(result, counted)


def _checked(result: Mapping[Any, Any], counted: Any) -> Answer:
    outputs = own_row(result)  # the module may change what it returned, for the next row
    if clash := outputs.keys() & _RESERVED:
        raise ModuleOutputError(
            f"the module returned {sorted(clash)}, names of result columns; rename them",
            usage=counted,
        )
    for name, value in outputs.items():
        if type(name) is not str or not (name.isascii() or writable(name) == name):
            raise ModuleOutputError(
                f"the module returned keys that are not text: {[name]}", usage=counted
            )
        if (found := one_shot_in(value)) is not None:
            raise ModuleOutputError(
                f"the module returned a {type(found).__name__} as {name!r}, which can be read only "
                "once: return list(…)",
                usage=counted,
            )
    return Answer(outputs, counted)
