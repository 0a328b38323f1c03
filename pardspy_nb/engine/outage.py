"""Limits and outages of an endpoint: the run's affair, which uses up no row.

The run slows down as a congested connection does (RFC 5681, slow start): after refusals only as
many attempts are under way as were let in, and each success lets one more in. Where none is let in,
the run holds; then a single attempt shows whether the endpoint answers again.
"""

from __future__ import annotations

import math

from ..core.events import Answer, Row
from .policies import RetryPolicy, is_outage, is_rate_limited
from .protocols import UNTIL_ONE_LEAVES
from .row_task import RowTask

_LATELY_S = 10.0  # rows that are refused within so many seconds meet the same outage
_LETS_OTHERS_IN = (429, 503, 529)  # a limit: the request was not worked on


class Outage:
    """What a run knows of its endpoint's limits and outages. Also a limiter (see
    `protocols.Limiter`), which holds the run.

    Args:
        retry: how long an outage may last, and how long a hold.
    """

    def __init__(self, retry: RetryPolicy) -> None:
        self._retry = retry
        self._out_since: float | None = None  # the first refusal since the last success
        self._succeeded_at = -math.inf
        self._refused: dict[int, float] = {}  # the rows that were refused lately, and when
        self._inside = 0
        self._most: int | None = None  # attempts under way at most; None without a limit
        self._crowd = 0  # attempts under way when the refusals began
        self._held_until = 0.0
        self._holds = 0  # since the last success

    # -- rows ---------------------------------------------------------------------------------

    def retry_s(
        self, row_task: RowTask, began: float, error: BaseException, now: float
    ) -> float | None:
        """Seconds until the retry after an attempt that began at `began` and failed; None for no
        retry.

        An attempt that meets an outage does not count, unless only this row is refused while others
        get through, or the outage has lasted `outage_s`: for each row alone if requests may have
        been worked on, and for the run, since its last success, if they were only too many.
        """
        retry = self._retry
        if not is_outage(error):
            row_task.out_since = None
            return retry.wait_s(row_task.counted, error)
        if row_task.out_since is None:
            row_task.out_since = now
        is_alone = self._succeeded_at >= began and not self._is_shared(row_task.row.number, now)
        if is_alone or retry.max_attempts == 1:
            return retry.wait_s(row_task.counted, error)
        since = row_task.out_since
        if is_limit(error) or self._succeeded_at <= since:  # the run's, else the row's alone
            since = now if self._out_since is None else self._out_since
        if now - since >= retry.outage_s:
            return retry.wait_s(row_task.counted, error)
        row_task.outages += 1
        return retry.sit_out_s(row_task.outages, error)

    def _is_shared(self, number: int, now: float) -> bool:
        return any(n != number and now - at <= _LATELY_S for n, at in self._refused.items())

    # -- the run ------------------------------------------------------------------------------

    def wait_s(self, row: Row, now: float) -> float:
        """See `protocols.Limiter`."""
        if self._most is None:
            return 0.0
        if now < self._held_until:
            return self._held_until - now
        return UNTIL_ONE_LEAVES if self._inside >= self._most else 0.0

    def enter(self, row: Row, now: float) -> None:
        """See `protocols.Limiter`."""
        self._inside += 1

    def leave(self, row: Row, outcome: Answer | BaseException | None, now: float) -> None:
        """See `protocols.Limiter`."""
        self._inside -= 1
        if isinstance(outcome, Answer):
            self._answered(now)
        elif outcome is not None and is_outage(outcome):
            self._refuse(row.number, outcome, now)

    def _answered(self, now: float) -> None:
        self._succeeded_at, self._out_since, self._holds = now, None, 0
        if self._most is not None:
            self._most += 1
            if self._most > 2 * self._crowd:
                self._most = None

    def _refuse(self, number: int, error: BaseException, now: float) -> None:
        if self._out_since is None:
            self._out_since = now
        if self._retry.max_attempts == 1 or now - self._out_since >= self._retry.outage_s:
            self._most = None  # rows fail, so it is no use to wait
            return
        if self._most is None:
            self._crowd = self._inside + 1
        self._refused.pop(number, None)
        self._refused[number] = now  # the latest last
        oldest = next(iter(self._refused))
        if now - self._refused[oldest] > _LATELY_S:
            del self._refused[oldest]
        self._most = max(1, min(self._inside, self._most or self._inside))
        if not self._inside and now >= self._held_until:
            self._holds += 1
            self._held_until = now + self._retry.sit_out_s(self._holds, error)


def is_limit(error: BaseException) -> bool:
    """Whether an endpoint refused a request without working on it: there were too many."""
    return is_rate_limited(error) or getattr(error, "status_code", None) in _LETS_OTHERS_IN
