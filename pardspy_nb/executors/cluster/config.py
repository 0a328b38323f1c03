"""How a coordinator runs its rows."""

from __future__ import annotations

from dataclasses import dataclass

from ...engine.policies import FailurePolicy


@dataclass(frozen=True, kw_only=True)
class CoordinatorConfig:
    """How a coordinator runs its rows.

    Attributes:
        total: the number of rows, None if unknown.
        max_workers: the most attempts under way, at all workers together.
        failure: how many rows may fail.
        rpm, tpm, max_cost_usd: limits of all workers together.
        remembers: whether the coordinator's cache stores the answers, and not the workers.
        may_hedge: whether workers may ask a row twice; then a worker needs room for two attempts at
            each of the last rows.
    """

    total: int | None
    max_workers: int
    failure: FailurePolicy
    rpm: float | None = None
    tpm: float | None = None
    max_cost_usd: float | None = None
    remembers: bool = False
    may_hedge: bool = False
