"""`max_cost_usd`: a hard stop by reservation.

Before each attempt the budget reserves the most that the attempt can cost. The reservation is
returned once the cost is known. An attempt whose cost cannot be known (after a timeout or a broken
connection) keeps its reservation: the endpoint may have gone on and billed the attempt. So the
billed amount cannot exceed the limit, however many rows are in flight.
"""

from __future__ import annotations

from collections.abc import Callable

from ..core.errors import AttemptError
from ..core.events import Answer, Row
from ..core.usage import Bound
from .protocols import UNTIL_ONE_LEAVES


class BudgetError(Exception):
    """No further request fits into the budget."""

    reason = "budget"


class Budget:
    """A limiter (see `protocols.Limiter`) that lets attempts through while their worst case fits.

    Args:
        limit_usd: the most that the run may cost.
        worst_case: returns the most that one attempt at a row can use.

    Attributes:
        spent_usd: the sum of known costs.
        held_usd: the sum of reservations that stand for attempts of unknown cost.
    """

    def __init__(self, limit_usd: float, worst_case: Callable[[Row], Bound]) -> None:
        self._limit_usd, self._worst_case = limit_usd, worst_case
        self._reserved: dict[int, list[float]] = {}  # USD of attempts under way, by row number
        self._next_usd = 0.0  # the worst case of the attempt that `wait_s` was last asked for
        self.spent_usd = self.held_usd = self._reserved_usd = 0.0

    def wait_s(self, row: Row, now: float) -> float:
        """See `protocols.Limiter`.

        Raises:
            BudgetError: the attempt does not fit into the budget, and waiting would not help.
        """
        bound = self._worst_case(row)
        self._next_usd = bound.cost_usd
        left_usd = self._limit_usd - self.spent_usd - self.held_usd
        if bound.cost_usd <= left_usd - self._reserved_usd:
            return 0.0
        if self._reserved:
            return UNTIL_ONE_LEAVES
        held = (
            f", up to ${self.held_usd:.6g} held for attempts that may be billed"
            if self.held_usd
            else ""
        )
        raise BudgetError(
            f"of max_cost_usd={self._limit_usd:g}, ${self.spent_usd:.6g} is spent{held}; the next "
            f"request could cost ${bound.cost_usd:.6g} (at most {bound.prompt_tokens:,} prompt "
            f"tokens and {bound.completion_tokens:,} tokens of an answer): raise max_cost_usd, or "
            "lower LM(max_tokens=…)"
        )

    def enter(self, row: Row, now: float) -> None:
        """See `protocols.Limiter`."""
        self._reserved.setdefault(row.number, []).append(self._next_usd)
        self._reserved_usd += self._next_usd

    def leave(self, row: Row, outcome: Answer | BaseException | None, now: float) -> None:
        """See `protocols.Limiter`."""
        reserved_usd = self._reserved[row.number].pop()
        if not self._reserved[row.number]:
            del self._reserved[row.number]
        # rounding errors of floats could leave a sum other than 0
        self._reserved_usd = self._reserved_usd - reserved_usd if self._reserved else 0.0
        usage = getattr(outcome, "usage", None)
        if usage is not None and usage.cost_usd is not None:
            self.spent_usd += usage.cost_usd
        elif usage is not None or isinstance(outcome, Answer) or _may_be_billed(outcome):
            # the cost is known in part, or not at all
            self.held_usd += reserved_usd


def _may_be_billed(error: BaseException | None) -> bool:
    """Whether an endpoint may bill an attempt of unknown cost.

    The answer is no only if it is certain that nothing was sent, or that the endpoint refused the
    request.
    """
    if isinstance(error, AttemptError):
        return error.may_be_billed
    return error is not None
