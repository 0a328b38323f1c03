"""How a coordinator runs its rows."""

from __future__ import annotations

from dataclasses import dataclass

from ...engine.policies import FailurePolicy


@dataclass(frozen=True, kw_only=True)
class CoordinatorConfig:
    """How a coordinator runs its rows.

    Attributes:
        total: the number of rows, None if it is not known.
        max_workers: attempts under way, at all workers together.
        failure: how many rows may fail.
        rpm, tpm, max_cost_usd: limits of all workers together.
        remembers: whether answers are remembered here, and not by the workers.
        may_hedge: workers may ask a row twice, and need room for that at the end, too.
    """

    total: int | None
    max_workers: int
    failure: FailurePolicy
    rpm: float | None = None
    tpm: float | None = None
    max_cost_usd: float | None = None
    remembers: bool = False
    may_hedge: bool = False
