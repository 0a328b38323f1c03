"""Adapts modules of DSPy. A user who has such a module has already imported DSPy."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...core.events import Answer
from ...core.usage import Usage, record
from ...signatures.fields import Field
from .external import Foreign, typed_field, usage_of

_TRANSIENT = ("LMTransportError", "LMTimeoutError", "LMServerError", "LMRateLimitError")


_HOPELESS = (
    "LMAuthError",
    "LMBillingError",
    "LMNotConfiguredError",
    "LMUnsupportedModelError",
    "LMConfigurationError",
)


class DspyModule:
    """A `dspy.Module`, run with the DSPy settings of the caller.

    The settings are context variables, which attempts inherit. The LMs do not retry by themselves,
    so that each attempt is counted. If predictors have their own LMs, the module is copied with its
    predictors, and the copies get LMs without retries.
    """

    def __init__(self, dspy: Any, module: Any) -> None:
        self._dspy, self._module, self._run_as = dspy, module, module
        own = [p for p in module.predictors() if getattr(p, "lm", None) is not None]
        if own:
            self._run_as = module.deepcopy()
            for predictor in self._run_as.predictors():
                if getattr(predictor, "lm", None) is not None:
                    predictor.lm = _without_retries(predictor.lm)
        self._quiet: dict[int, tuple[Any, Any]] = {}  # LMs of the settings, with copies
        lms = [p.lm for p in own] or [dspy.settings.lm]
        self._lms = [lm for lm in lms if lm is not None]

    def adapted(self) -> Foreign:
        """The module in its adapted form."""
        inputs, is_open, outputs = self._fields()
        only_sync = self._dspy.BaseLM.aforward  # the method of LMs without async
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
        forward = inspect.signature(type(self._module).forward)  # the class's, as DSPy warns
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
    """Whether the `aforward` of a class belongs to its `forward`.

    A subclass may have overridden only one of the two.
    """
    for base in kind.__mro__:
        if "aforward" in vars(base) or "forward" in vars(base):
            return "aforward" in vars(base)
    return False


class _Counted:
    """A scope that counts DSPy's calls.

    Tokens come from DSPy's usage tracker, costs from the price table of this package. An answer
    from DSPy's own cache uses nothing.
    """

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
                usage_of(
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
        given = (info.json_schema_extra or {}).get("desc", "")
        description = "" if given == f"${{{name}}}" else given  # DSPy's own placeholder
        made[name] = typed_field(name, info.annotation, description)
    return made


def _explain(error: Any) -> None:
    """Set the attributes of a DSPy error that decide whether and when the engine retries."""
    kind, status = type(error).__name__, getattr(error, "status", None)
    if not hasattr(error, "provider_code") or hasattr(error, "retryable"):
        return
    transient = isinstance(status, int) and (status in (408, 409, 429) or status >= 500)
    error.retryable = transient or kind in _TRANSIENT
    error.rate_limited = status == 429 or kind == "LMRateLimitError"
    error.overloaded = error.retryable and not error.rate_limited
    error.retry_after_s = getattr(error, "retry_after", None)
    error.fatal = kind in _HOPELESS
