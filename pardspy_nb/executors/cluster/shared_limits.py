"""The limits of all workers together: requested attempts are let in one by one."""

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
from .config import CoordinatorConfig
from .messages import AttemptRequest
from .worker_state import WorkerState

Outcome = Answer | BaseException | None


class SharedLimits:
    """Lets in attempts that workers request, within limits for all workers together.

    Args:
        config: the limits of all workers together.
        workers: the workers, by name.
        share: returns how many rows a worker may have in flight; a worker could not begin more
            attempts than that.
        opened: called when attempts may be let in again.

    Attributes:
        is_limited: whether workers must request attempts. If the user gave no limits, workers must
            do so once an endpoint reports limits or asks to wait.
    """

    def __init__(
        self,
        config: CoordinatorConfig,
        workers: Mapping[str, WorkerState],
        share: Callable[[str], int],
        opened: Callable[[], None],
    ) -> None:
        self._workers, self._share, self._opened = workers, share, opened
        self._latest: dict[int, AttemptRequest] = {}  # by the rows' numbers
        self._rate_limiter = RateLimiter(
            config.rpm, config.tpm, lambda row: self._latest[row.number].size
        )
        self._limiters: list[Limiter] = [self._rate_limiter]
        if config.max_cost_usd is not None:
            self._limiters.append(Budget(config.max_cost_usd, self._bound_of))
        limits = (config.rpm, config.tpm, config.max_cost_usd)
        self.is_limited = limits != (None, None, None)
        self._requests: deque[tuple[str, AttemptRequest]] = deque()
        self._inside: Counter[int] = Counter()  # attempts let in, by the rows' numbers
        self._admission: Admission | None = None

    def open(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin, on this loop."""
        self._loop = loop
        self._admission = Admission(self._limiters, loop.call_later, self._opened)

    def _bound_of(self, row: Row) -> Bound:
        bound = self._latest[row.number].bound
        assert bound is not None
        return bound

    def learn(self, limits: Limits) -> None:
        """Use the limits that an endpoint reported."""
        self._rate_limiter.learn(limits)
        self.is_limited = True

    def heed(self, error: BaseException) -> None:
        """If an endpoint asks one worker to wait, make all workers wait."""
        wait_s = getattr(error, "retry_after_s", None)
        if wait_s and (is_rate_limited(error) or is_overloaded(error)) and not self.is_limited:
            self._rate_limiter.leave(Row(-1, 0, 0, {}), error, self._loop.time())
            self.is_limited = True

    def request(self, worker: str, requests: list[AttemptRequest]) -> None:
        """A worker requests attempts."""
        self._requests.extend((worker, request) for request in requests)

    def request_again(self, worker: WorkerState) -> bool:
        """Request a worker's deferred attempts again, if the worker has room now.

        Returns:
            Whether attempts were requested again.
        """
        if not worker.deferred or worker.admitted >= self._share(worker.name):
            return False
        self.request(worker.name, worker.deferred)
        worker.deferred = []
        return True

    def let_in(self) -> dict[str, list[int]]:
        """The rows whose next attempts may start now, by worker, in the order of the requests.
        Errors of the limiters are passed on."""
        granted: dict[str, list[int]] = {}
        while self._requests:
            name, request = self._requests[0]
            worker = self._workers.get(name)
            row_task = None if worker is None else worker.open.get(request.number)
            if worker is not None and row_task is not None:
                if worker.admitted >= self._share(name):
                    worker.deferred.append(request)
                elif self._admits(worker, row_task, request):
                    granted.setdefault(name, []).append(request.number)
                else:
                    break
            self._requests.popleft()
        return granted

    def _admits(self, worker: WorkerState, row_task: RowTask, request: AttemptRequest) -> bool:
        assert self._admission is not None
        self._latest[request.number] = request
        if self._admission.is_closed or not self._admission.admit(row_task.row, self._loop.time()):
            return False
        self._inside[request.number] += 1
        worker.admitted += 1
        return True

    def leave(self, worker: WorkerState, row_task: RowTask, outcome: Outcome) -> None:
        """An attempt is over. Nothing happens if it was not let in."""
        number = row_task.row.number
        if self._inside[number] and self._admission is not None:
            self._inside[number] -= 1
            worker.admitted -= 1
            self._admission.leave(row_task.row, outcome, self._loop.time())

    def leave_all(self, worker: WorkerState, row_task: RowTask, outcome: Outcome) -> None:
        """A row is settled or lost. Of two attempts let in, one gets `outcome`."""
        number = row_task.row.number
        while self._inside[number]:
            self.leave(worker, row_task, outcome)
            outcome = asyncio.CancelledError()
        del self._inside[number]
        self._latest.pop(number, None)

    def forget(self, worker: str) -> None:
        """Forget the requests of a worker that is gone."""
        self._requests = deque((name, r) for name, r in self._requests if name != worker)
