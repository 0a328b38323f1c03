"""Tokens, cost and time of model calls, and a scope that counts nested calls once."""

from __future__ import annotations

from collections.abc import Iterable
from contextvars import ContextVar
from dataclasses import dataclass
from typing import NamedTuple


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


def record(usage: Usage) -> None:
    """Add the usage of a billed call to the enclosing scope, if there is one."""
    calls = _scope.get()
    if calls is not None:
        calls.append(usage)


class Bound(NamedTuple):
    """The most that one request can use."""

    prompt_tokens: int
    completion_tokens: int
    cost_usd: float
