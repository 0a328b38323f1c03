"""Limits of a whole fleet: attempts that sites ask for are let in one by one, by real gates."""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping

from ...core.events import Answer, Row
from ...core.usage import Bound
from ...engine.admission import Admission
from ...engine.budget import Budget
from ...engine.policies import is_overloaded, is_rate_limited
from ...engine.protocols import Limiter
from ...engine.rate_limit_headers import Limits
from ...engine.rate_limiter import RateLimiter
from ...engine.row_task import RowTask
from .messages import AttemptRequest
from .worker_state import WorkerState

Outcome = Answer | BaseException | None


class SharedLimits:
    """Where attempts ask to be let in.

    Args:
        rpm, tpm, max_cost_usd: limits of all sites together.
        members: the sites, by name.
        share: how many workers a site has; more attempts it could not begin.
        opened: called when some may be let in again.

    Attributes:
        is_limited: whether sites have to ask. Without limits they do once an endpoint speaks of
            some, or asks to wait.
    """

    def __init__(
        self,
        rpm: float | None,
        tpm: float | None,
        max_cost_usd: float | None,
        members: Mapping[str, WorkerState],
        share: Callable[[str], int],
        opened: Callable[[], None],
    ) -> None:
        self._members, self._share, self._opened = members, share, opened
        self._told: dict[int, AttemptRequest] = {}  # by the rows' numbers
        self._pace = RateLimiter(rpm, tpm, lambda row: self._told[row.number].size)
        self._list: list[Limiter] = [self._pace]
        if max_cost_usd is not None:
            self._list.append(Budget(max_cost_usd, self._bound_of))
        self.is_limited = (rpm, tpm, max_cost_usd) != (None, None, None)
        self._asks: deque[tuple[str, AttemptRequest]] = deque()
        self._inside: Counter[int] = Counter()  # attempts let in, by the rows' numbers
        self._gates: Admission | None = None

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin, on this loop."""
        self._loop = loop
        self._gates = Admission(self._list, loop.call_later, self._opened)

    def _bound_of(self, row: Row) -> Bound:
        bound = self._told[row.number].bound
        assert bound is not None
        return bound

    def learn(self, limits: Limits) -> None:
        """An endpoint told its limits."""
        self._pace.learn(limits)
        self.is_limited = True

    def heed(self, error: BaseException) -> None:
        """An endpoint that asks one site to wait asks all of them."""
        wait_s = getattr(error, "retry_after_s", None)
        if wait_s and (is_rate_limited(error) or is_overloaded(error)) and not self.is_limited:
            self._pace.leave(Row(-1, 0, 0, {}), error, self._loop.time())
            self.is_limited = True

    def ask(self, site: str, asks: list[AttemptRequest]) -> None:
        """A site asks for attempts."""
        self._asks.extend((site, ask) for ask in asks)

    def ask_again(self, member: WorkerState) -> bool:
        """Whether a site has room again for what it asked before."""
        if not member.later or member.inside >= self._share(member.name):
            return False
        self.ask(member.name, member.later)
        member.later = []
        return True

    def let_in(self) -> dict[str, list[int]]:
        """The rows whose next attempts may start now, by site; in the order they were asked for.
        What a gate raises is passed on."""
        granted: dict[str, list[int]] = {}
        while self._asks:
            site, ask = self._asks[0]
            member = self._members.get(site)
            row_task = None if member is None else member.open.get(ask.number)
            if member is not None and row_task is not None:
                if member.inside >= self._share(site):
                    member.later.append(ask)
                elif self._admits(member, row_task, ask):
                    granted.setdefault(site, []).append(ask.number)
                else:
                    break
            self._asks.popleft()
        return granted

    def _admits(self, member: WorkerState, row_task: RowTask, ask: AttemptRequest) -> bool:
        assert self._gates is not None
        self._told[ask.number] = ask
        if self._gates.shut or not self._gates.admit(row_task.row, self._loop.time()):
            return False
        self._inside[ask.number] += 1
        member.inside += 1
        return True

    def leave(self, member: WorkerState, row_task: RowTask, outcome: Outcome) -> None:
        """An attempt is over, if it was let in."""
        number = row_task.row.number
        if self._inside[number] and self._gates is not None:
            self._inside[number] -= 1
            member.inside -= 1
            self._gates.leave(row_task.row, outcome, self._loop.time())

    def leave_all(self, member: WorkerState, row_task: RowTask, outcome: Outcome) -> None:
        """A row is settled or lost: of two attempts let in one has the outcome."""
        number = row_task.row.number
        while self._inside[number]:
            self.leave(member, row_task, outcome)
            outcome = asyncio.CancelledError()
        del self._inside[number]
        self._told.pop(number, None)

    def forget(self, site: str) -> None:
        """A site is gone."""
        self._asks = deque((at, ask) for at, ask in self._asks if at != site)
