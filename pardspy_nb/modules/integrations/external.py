"""Modules of other libraries: DSPy's and LangChain's, as they are.

Neither is imported here; who has such a module has imported its library.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...core.events import Answer
from ...core.usage import Usage, record
from ...llm.prices import Rate, rate_of
from ...signatures.fields import Field

_TRANSIENT = ("LMTransportError", "LMTimeoutError", "LMServerError", "LMRateLimitError")
_HOPELESS = (
    "LMAuthError",
    "LMBillingError",
    "LMNotConfiguredError",
    "LMUnsupportedModelError",
    "LMConfigurationError",
)


@dataclass(frozen=True)
class Foreign:
    """Another library's module, made ready.

    Attributes:
        inputs: by name; `open` if it takes any other name too.
        outputs: those it declares.
        is_async: whether `ask` is.
        ask: makes one attempt at a row's inputs; returns an `Answer`. What it used is recorded
            (see `usage`), also where it fails.
    """

    name: str
    inputs: Mapping[str, Field]
    open: bool
    outputs: Mapping[str, Field]
    lms: list[Any]
    is_async: bool
    ask: Callable[[Mapping[str, Any]], Any] = field(repr=False)


def adapt(module: Any) -> Foreign | None:
    """What a module of another library is here; None if it is none of theirs."""
    dspy = sys.modules.get("dspy")
    if dspy is not None and isinstance(module, dspy.Module):
        return _Dspy(dspy, module).adapted()
    runnables = sys.modules.get("langchain_core.runnables")
    if runnables is not None and isinstance(module, runnables.Runnable):
        return _langchain(module)
    return None


def _typed(name: str, kind: Any, description: str = "", *, optional: bool = False) -> Field:
    """A field of this type; of any where ours knows no such type."""
    try:
        return Field(name, kind, description, optional)
    except TypeError:
        return Field(name, Any, description, optional)


@functools.cache
def _rate(model: str) -> Rate | None:
    return rate_of(model, "")


def _used(model: str, prompt: Any, completion: Any, total: Any, cached: Any) -> Usage:
    known = isinstance(prompt, int) and isinstance(completion, int)
    rate = _rate(model) if known else None
    cached = cached if isinstance(cached, int) else 0
    cost = None if rate is None else rate.cost_usd(prompt, completion, cached)
    total = total if isinstance(total, int) else prompt + completion if known else None
    return Usage(prompt if known else None, completion if known else None, total, cost)


# -- DSPy ----------------------------------------------------------------------------------------


class _Dspy:
    """A `dspy.Module`, in the settings of whoever runs it (they are context variables, which
    attempts inherit). Its LMs do not try again by themselves, so that each attempt is
    counted; predictors with LMs of their own are copied for that, with their module."""

    def __init__(self, dspy: Any, module: Any) -> None:
        self._dspy, self._module, self._run_as = dspy, module, module
        own = [p for p in module.predictors() if getattr(p, "lm", None) is not None]
        if own:
            self._run_as = module.deepcopy()
            for predictor in self._run_as.predictors():
                if getattr(predictor, "lm", None) is not None:
                    predictor.lm = _without_retries(predictor.lm)
        self._quiet: dict[int, tuple[Any, Any]] = {}  # LMs of the settings, and their copies
        lms = [p.lm for p in own] or [dspy.settings.lm]
        self._lms = [lm for lm in lms if lm is not None]

    def adapted(self) -> Foreign:
        inputs, is_open, outputs = self._fields()
        only_sync = self._dspy.BaseLM.aforward  # what an LM has that does not speak async
        is_async = _has_its_async(type(self._module)) and not any(
            getattr(type(lm), "aforward", None) is only_sync for lm in self._lms
        )
        name = type(self._module).__name__
        return Foreign(
            name,
            inputs,
            is_open,
            outputs,
            self._lms,
            is_async,
            self._ask_async if is_async else self._ask,
        )

    def _fields(self) -> tuple[dict[str, Field], bool, dict[str, Field]]:
        import inspect

        signature = getattr(self._module, "signature", None)
        forward = inspect.signature(type(self._module).forward)  # DSPy warns of the instance's
        parameters = list(forward.parameters.values())[1:]
        passes_on = all(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters)
        predictors = self._module.predictors()
        if not hasattr(signature, "input_fields") and passes_on and len(predictors) == 1:
            signature = predictors[0].signature  # such as ChainOfThought
        if hasattr(signature, "input_fields"):
            assert signature is not None
            return _of(signature.input_fields), False, _of(signature.output_fields)
        named = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        inputs = {p.name: Field(p.name, Any, optional=p.default is not p.empty) for p in named}
        return inputs, any(p.kind is p.VAR_KEYWORD for p in parameters), {}

    def _ask(self, inputs: Mapping[str, Any]) -> Answer:
        with self._counted():
            return self._answer(self._run_as(**inputs))

    async def _ask_async(self, inputs: Mapping[str, Any]) -> Answer:
        with self._counted():
            return self._answer(await self._run_as.acall(**inputs))

    def _counted(self) -> _Counted:
        lm = self._dspy.settings.lm
        if lm is None:
            return _Counted(self._dspy, {})
        if id(lm) not in self._quiet:
            self._quiet[id(lm)] = lm, _without_retries(lm)
        return _Counted(self._dspy, {"lm": self._quiet[id(lm)][1]})

    def _answer(self, prediction: Any) -> Answer:
        values = dict(
            prediction.items() if hasattr(prediction, "items") else {"output": prediction}
        )
        model = getattr(self._lms[0], "model", None) if self._lms else None
        return Answer(values, model=model)


def _has_its_async(kind: type) -> bool:
    """Whether the `aforward` of a class is of one with its `forward`: a subclass may have
    overridden only one of them."""
    for base in kind.__mro__:
        if "aforward" in vars(base) or "forward" in vars(base):
            return "aforward" in vars(base)
    return False


class _Counted:
    """A scope in which DSPy's calls are counted: tokens that its tracker is told of, and costs by
    our table. An answer out of DSPy's own cache uses nothing."""

    def __init__(self, dspy: Any, changes: dict[str, Any]) -> None:
        from dspy.utils.usage_tracker import UsageTracker

        self._tracker = UsageTracker()
        self._context = dspy.context(usage_tracker=self._tracker, **changes)

    def __enter__(self) -> None:
        self._context.__enter__()

    def __exit__(self, *error: Any) -> None:
        self._context.__exit__(*error)
        calls = [(lm, entry) for lm, of in self._tracker.usage_data.items() for entry in of]
        for lm, entry in calls:
            details = entry.get("prompt_tokens_details") or {}
            record(
                _used(
                    lm,
                    entry.get("prompt_tokens"),
                    entry.get("completion_tokens"),
                    entry.get("total_tokens"),
                    details.get("cached_tokens"),
                )
            )
        if error[1] is not None:
            _explain(error[1])
        elif not calls:
            record(Usage())


def _without_retries(lm: Any) -> Any:
    return lm.copy(num_retries=0) if getattr(lm, "num_retries", 0) else lm


def _of(fields: Mapping[str, Any]) -> dict[str, Field]:
    made = {}
    for name, info in fields.items():
        told = (info.json_schema_extra or {}).get("desc", "")
        words = "" if told == f"${{{name}}}" else told  # DSPy's own placeholder
        made[name] = _typed(name, info.annotation, words)
    return made


def _explain(error: Any) -> None:
    """Tell the engine what a DSPy error means for the next attempt."""
    kind, status = type(error).__name__, getattr(error, "status", None)
    if not hasattr(error, "provider_code") or hasattr(error, "retryable"):
        return
    transient = isinstance(status, int) and (status in (408, 409, 429) or status >= 500)
    error.retryable = transient or kind in _TRANSIENT
    error.rate_limited = status == 429 or kind == "LMRateLimitError"
    error.overloaded = error.retryable and not error.rate_limited
    error.retry_after_s = getattr(error, "retry_after", None)
    error.fatal = kind in _HOPELESS


# -- LangChain -----------------------------------------------------------------------------------


def _langchain(runnable: Any) -> Foreign:
    schema = runnable.get_input_jsonschema()
    properties = schema.get("properties")
    if properties is not None and set(properties) == {"root"}:  # what it calls one bare value
        properties, schema = None, {"type": "any"}
    is_open = properties is None and "anyOf" not in schema and "type" not in schema
    names = list(properties or ([] if is_open else ["input"]))
    needed = schema.get("required", names)
    inputs = {n: Field(n, Any, optional=n not in needed) for n in names}
    bare = properties is None and not is_open  # it takes one value, and no dict
    made = getattr(runnable, "OutputType", None)
    declared = getattr(made, "model_fields", None) or {}
    outputs = {n: _typed(n, info.annotation) for n, info in declared.items()}

    def given_to(inputs: Mapping[str, Any]) -> Any:
        return inputs["input"] if bare else dict(inputs)

    def ask(inputs: Mapping[str, Any]) -> Answer:
        with _Metered() as meter:
            return meter.answer(runnable.invoke(given_to(inputs), config=meter.config))

    async def ask_async(inputs: Mapping[str, Any]) -> Answer:
        with _Metered() as meter:
            return meter.answer(await runnable.ainvoke(given_to(inputs), config=meter.config))

    # in threads where that can be: LangChain shares one async client between event loops, and
    # what one loop leaves behind breaks the calls of the next
    is_async = _is_only_async(runnable)
    return Foreign(
        type(runnable).__name__,
        inputs,
        is_open,
        outputs,
        [],
        is_async,
        ask_async if is_async else ask,
    )


def _is_only_async(runnable: Any) -> bool:
    steps = getattr(runnable, "steps", None) or getattr(runnable, "steps__", None) or []
    inner = list(steps.values() if isinstance(steps, Mapping) else steps)
    inner += [getattr(runnable, name) for name in ("bound", "mapper") if hasattr(runnable, name)]
    if inner:
        return any(_is_only_async(step) for step in inner)
    return hasattr(runnable, "afunc") and not hasattr(runnable, "func")


class _Metered:
    """A scope that records what LangChain's callbacks tell of usage."""

    def __init__(self) -> None:
        from langchain_core.callbacks import UsageMetadataCallbackHandler

        self._counter = UsageMetadataCallbackHandler()
        self.config = {"callbacks": [self._counter]}

    def __enter__(self) -> _Metered:
        return self

    def __exit__(self, *_: object) -> None:
        for model, used in self._counter.usage_metadata.items():
            details = used.get("input_token_details") or {}
            record(
                _used(
                    model,
                    used.get("input_tokens"),
                    used.get("output_tokens"),
                    used.get("total_tokens"),
                    details.get("cache_read"),
                )
            )

    def answer(self, result: Any) -> Answer:
        """A runnable's result."""
        model = next(iter(self._counter.usage_metadata), None)
        told = getattr(result, "response_metadata", {})
        return Answer(_values(result), model=model, finish_reason=told.get("finish_reason"))


def _values(result: Any) -> dict[str, Any]:
    """A runnable's result as outputs: a dict or pydantic object by its names, a message by its
    text, anything else as `output`."""
    if isinstance(result, Mapping):
        return dict(result)
    fields = getattr(type(result), "model_fields", None)
    if hasattr(result, "response_metadata"):
        return {"output": result.content}
    if fields is not None:
        return {name: getattr(result, name) for name in fields}
    return {"output": result}
