"""Tokens, cost and time of model calls, and a scope that counts nested calls once."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from numbers import Number
from typing import Any, NamedTuple

_MOST_TOKENS = 10**12  # of one call; more is no count
_COUNTED = ("prompt", "completion", "total")


def _add(a: float | None, b: float | None) -> float | None:
    """A sum with an unknown part is unknown."""
    return None if a is None or b is None else a + b


@dataclass(frozen=True, slots=True)
class Usage:
    """What one or more model calls used.

    Tokens are counts, `cost_usd` US dollars, `latency_ms` milliseconds spent in calls. A figure
    is None if the endpoint did not report it, or if the price is unknown. None makes a sum None.
    """

    prompt_tokens: int | None = 0
    completion_tokens: int | None = 0
    total_tokens: int | None = 0
    cost_usd: float | None = 0.0
    latency_ms: float = 0.0

    def __add__(self, other: Usage) -> Usage:
        if not isinstance(other, Usage):
            return NotImplemented
        return Usage(
            _add(self.prompt_tokens, other.prompt_tokens),  # type: ignore[arg-type]
            _add(self.completion_tokens, other.completion_tokens),  # type: ignore[arg-type]
            _add(self.total_tokens, other.total_tokens),  # type: ignore[arg-type]
            _add(self.cost_usd, other.cost_usd),
            self.latency_ms + other.latency_ms,
        )

    def __radd__(self, other: object) -> Usage:
        # sum() starts from the integer 0
        return self if other == 0 else NotImplemented


def total(usages: Iterable[Usage | None]) -> Usage | None:
    """The sum of the usages that exist, or None when there is none."""
    known = [u for u in usages if u is not None]
    return sum(known[1:], known[0]) if known else None


def usage_from(reported: Any) -> Usage | None:
    """The usage that a module, a custom LM or an error of theirs reports: a `Usage`, or a mapping
    or object with figures of the same names, as in OpenAI's API. A figure that is none becomes
    None, so that it makes no sum too low; None if nothing is reported."""
    if reported is None or (type(reported) is Usage and _is_sound(reported)):
        return reported
    told = reported if isinstance(reported, Mapping) else _Attributes(reported)
    prompt, completion, total = (count(told.get(f"{name}_tokens")) for name in _COUNTED)
    cost_usd, latency_ms = _amount(told.get("cost_usd")), _amount(told.get("latency_ms"))
    return Usage(prompt, completion, total, cost_usd, latency_ms or 0.0)


def _is_sound(usage: Usage) -> bool:
    tokens = (usage.prompt_tokens, usage.completion_tokens, usage.total_tokens)
    if not all(n is None or (type(n) is int and 0 <= n < _MOST_TOKENS) for n in tokens):
        return False
    cost, latency_ms = usage.cost_usd, usage.latency_ms
    is_cost = cost is None or (type(cost) is float and 0 <= cost < math.inf)
    return is_cost and type(latency_ms) is float and 0 <= latency_ms < math.inf


class _Attributes:
    def __init__(self, of: Any) -> None:
        self._of = of

    def get(self, name: str) -> Any:
        try:
            return getattr(self._of, name, None)
        except Exception:  # a property of theirs
            return None


def count(value: Any) -> int | None:
    """A number of tokens; None for anything else that may be reported."""
    if type(value) is int:
        return value if 0 <= value < _MOST_TOKENS else None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    elif not isinstance(value, int) and isinstance(value, Number):  # a float, a Decimal, of numpy
        number = _amount(value)
        value = int(number) if number is not None and number == int(number) else None
    is_count = isinstance(value, int) and not isinstance(value, bool) and 0 <= value < _MOST_TOKENS
    return value if is_count else None


def _amount(value: Any) -> float | None:
    """A finite number that is not negative; None for anything else."""
    if isinstance(value, bool) or not isinstance(value, Number | str):
        return None
    try:
        number = float(value)  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None
    return number if 0 <= number < math.inf else None


_scope: ContextVar[list[Usage] | None] = ContextVar("pardspy_usage_scope", default=None)


class UsageScope:
    """Collects the usage of every model call made inside, in any module or nested run.

    The collected usage counts in the enclosing scope, too.
    """

    __slots__ = ("_outer", "_token", "calls")

    def __enter__(self) -> list[Usage]:
        self.calls: list[Usage] = []
        self._outer = _scope.get()
        self._token = _scope.set(self.calls)
        return self.calls

    def __exit__(self, *_: object) -> None:
        _scope.reset(self._token)
        if self._outer is not None:
            self._outer.extend(self.calls)


def record(usage: Any) -> None:
    """Add the usage of a billed call (see `usage_from`) to the enclosing scope, if there is one."""
    calls = _scope.get()
    if calls is not None and (used := usage_from(usage)) is not None:
        calls.append(used)


class Bound(NamedTuple):
    """The most that one request can use."""

    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
