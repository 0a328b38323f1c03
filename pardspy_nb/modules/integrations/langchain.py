"""Adapts runnables of LangChain. A user who has a runnable has already imported LangChain."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...core.events import Answer
from ...core.usage import record
from ...signatures.fields import Field
from .external import Foreign, typed_field, usage_of


def from_runnable(runnable: Any) -> Foreign:
    """A runnable in its adapted form."""
    schema = runnable.get_input_jsonschema()
    properties = schema.get("properties")
    if properties is not None and set(properties) == {
        "root"
    }:  # LangChain's name for one bare value
        properties, schema = None, {"type": "any"}
    is_open = properties is None and "anyOf" not in schema and "type" not in schema
    names = list(properties or ([] if is_open else ["input"]))
    needed = schema.get("required", names)
    inputs = {n: Field(n, Any, optional=n not in needed) for n in names}
    bare = properties is None and not is_open  # the runnable takes one value, not a dict
    made = getattr(runnable, "OutputType", None)
    declared = getattr(made, "model_fields", None) or {}
    outputs = {n: typed_field(n, info.annotation) for n, info in declared.items()}

    def argument_of(inputs: Mapping[str, Any]) -> Any:
        return inputs["input"] if bare else dict(inputs)

    def ask(inputs: Mapping[str, Any]) -> Answer:
        with _Metered() as meter:
            return meter.answer(runnable.invoke(argument_of(inputs), config=meter.config))

    async def ask_async(inputs: Mapping[str, Any]) -> Answer:
        with _Metered() as meter:
            return meter.answer(await runnable.ainvoke(argument_of(inputs), config=meter.config))

    # calls run in threads if possible: LangChain shares one async client between event loops, and
    # the connections of one loop break the calls of the next
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
    """A scope that records the usage which LangChain's callbacks report."""

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
                usage_of(
                    model,
                    used.get("input_tokens"),
                    used.get("output_tokens"),
                    used.get("total_tokens"),
                    details.get("cache_read"),
                )
            )

    def answer(self, result: Any) -> Answer:
        """The answer in a runnable's result."""
        model = next(iter(self._counter.usage_metadata), None)
        metadata = getattr(result, "response_metadata", {})
        return Answer(_values(result), model=model, finish_reason=metadata.get("finish_reason"))


def _values(result: Any) -> dict[str, Any]:
    """A runnable's result as outputs.

    A dict or a pydantic object gives its values by name. A message gives its text as `output`. Any
    other value is the `output` itself.
    """
    if isinstance(result, Mapping):
        return dict(result)
    fields = getattr(type(result), "model_fields", None)
    if hasattr(result, "response_metadata"):
        return {"output": result.content}
    if fields is not None:
        return {name: getattr(result, name) for name in fields}
    return {"output": result}
