"""The adapted form of another library's module, and the usage of its calls."""

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...core.usage import Usage
from ...llm.prices import Rate, rate_of
from ...signatures.fields import Field


@dataclass(frozen=True)
class Foreign:
    """Another library's module, made ready for the engine.

    Attributes:
        inputs: by name; `open` if the module takes any other name too.
        outputs: the outputs that the module declares.
        is_async: whether `ask` is async.
        ask: makes one attempt at a row's inputs and returns an `Answer`. The usage is recorded (see
            `core.usage.record`), also if the attempt fails.
    """

    name: str
    inputs: Mapping[str, Field]
    open: bool
    outputs: Mapping[str, Field]
    lms: list[Any]
    is_async: bool
    ask: Callable[[Mapping[str, Any]], Any] = field(repr=False)


def typed_field(name: str, kind: Any, description: str = "", *, optional: bool = False) -> Field:
    """A field of this type; of type `Any` if `Field` does not support the type."""
    try:
        return Field(name, kind, description, optional)
    except TypeError:
        return Field(name, Any, description, optional)


@functools.cache
def _rate(model: str) -> Rate | None:
    return rate_of(model, "")


def usage_of(model: str, prompt: Any, completion: Any, total: Any, cached: Any) -> Usage:
    """The usage of one call from its reported tokens, with prices from the price table."""
    known = isinstance(prompt, int) and isinstance(completion, int)
    rate = _rate(model) if known else None
    cached = cached if isinstance(cached, int) else 0
    cost = None if rate is None else rate.cost_usd(prompt, completion, cached)
    total = total if isinstance(total, int) else prompt + completion if known else None
    return Usage(prompt if known else None, completion if known else None, total, cost)
