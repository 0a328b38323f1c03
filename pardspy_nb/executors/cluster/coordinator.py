"""A run over many worker processes: each worker has an engine, and the coordinator directs them.

The coordinator sends work items to workers that have room, and receives their events. It splits the
rows in flight among the workers, lets attempts in one by one where limits apply, and adds up
failures and costs, so all limits hold for the whole run. Rows of a dead worker go to other workers.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence

from ...core.clock import Clock
from ...core.events import Answer, AttemptFailed, Event, RunFinished, RunStarted, Status
from ...engine.controls import RunControls
from ...engine.outcomes import Outcomes, abandoned
from ...engine.row_task import RowTask
from .config import CoordinatorConfig
from .dispatch import Dispatcher
from .fair_share import FairShare
from .link import ClusterError, Link
from .messages import Command, Report, TransferError
from .quarantine import Quarantine, WorkerLostError
from .reported_events import ReportedEvents
from .shared_limits import SharedLimits
from .timers import Timers
from .work_queue import WorkItem, WorkQueue
from .worker_state import WorkerState

BEAT_S = 2.0  # seconds between commands to workers that would get no other command
_RESHARE_S = 0.02
_CANCEL_S = 0.4  # how long workers have to report the outcome of their rows
_NOBODY_S = 60.0  # how long a run waits for any worker before it gives up


class Coordinator:
    """Runs a queue's rows on the workers of a link. It is a `protocols.Runner`."""

    def __init__(
        self,
        source: WorkQueue,
        link: Link,
        emit: Callable[[Event], None],
        config: CoordinatorConfig,
        *,
        clock: Clock,
    ) -> None:
        self._source, self._link, self._emit = source, link, emit
        self._config, self._clock = config, clock
        self.controls = RunControls(
            config.max_workers,
            changed=self._settings_changed,
            cancel=self._cancel_in_flight,
            released=self._release,
        )
        self._outcomes = Outcomes(
            emit, config.failure, config.total, self.controls, self._row_settled
        )
        self._workers: dict[str, WorkerState] = {}
        self._shares, self._quarantine, self._timers = FairShare(), Quarantine(), Timers()
        self._limits = SharedLimits(config, self._workers, self._shares.of, self._let_in)
        self._dispatcher = Dispatcher(
            source, link, self._workers, self._shares, self._quarantine, self._cannot_send
        )
        self._reported = ReportedEvents(emit, self._limits, self._outcomes, self)
        self._writes: set[asyncio.Task[None]] = set()  # answers being written to the cache
        self._is_running = False
        self._most_workers = config.max_workers

    # -- controls -----------------------------------------------------------------------------

    def _settings_changed(self) -> None:
        self._most_workers = max(self._most_workers, self.controls.max_workers)
        self._emit(self.controls.event())
        if self._is_running:
            self._reshare()
            self.command_all()
            self._let_in()
            self.feed_all()
            self._notice_end()

    def _cancel_in_flight(self) -> None:
        if self._is_running:
            self._timers.later("cancel", _CANCEL_S, self._end_open_rows)

    def _release(self, number: int) -> None:
        self._source.release(number)
        self.feed_all()

    def abandoned_events(self) -> list[Event]:
        """See `protocols.Runner`."""
        waiting = [*self._source.close(), *self._quarantine.close()]
        return [*abandoned([*self._open_rows(), *waiting]), self._finished("cancelled", None)]

    def _open_rows(self) -> list[RowTask]:
        return [row for w in list(self._workers.values()) for row in list(w.open.values())]

    def _finished(self, reason: str, error: BaseException | None) -> RunFinished:
        most = min(self._reported.max_in_flight, self._most_workers) if self._is_running else 0
        return RunFinished(reason, error, self.elapsed_s(), most, self._clock.utc_s())

    def elapsed_s(self) -> float:
        """Seconds since the run began."""
        return self._loop.time() - self._start if self._is_running else 0.0

    # -- the run ------------------------------------------------------------------------------

    async def run(self) -> None:
        """See `protocols.Runner`."""
        self._loop = asyncio.get_running_loop()
        self._start = self._loop.time()
        self._idle = asyncio.Event()
        self._is_running = True
        self._limits.open(self._loop)
        self._emit(RunStarted(self._config.total, self._clock.utc_s()))
        settle, fail = self._outcomes.settle, self._outcomes.fail
        self._source.open(self._loop, self.feed_all, self._source_broke, settle, fail)
        self._settings_changed()
        if not self._idle.is_set():
            self._link.open(self)
            self._beat()
            self._expect_workers()
        await self._idle.wait()
        self._timers.close()
        end = self._finished(self.controls.stop_reason or "done", self.controls.stop_error)
        self._is_running = False
        for row_task in (*self._source.close(), *self._quarantine.close()):
            self._outcomes.cut_short(row_task)
        self._emit(end)
        for worker in self._workers.values():
            self._link.command(worker.name, Command(0, stop="soft"))

    def _source_broke(self, error: BaseException, reason: str = "source") -> None:
        self.controls.stop(reason, error, now=False)

    def _beat(self) -> None:
        self.command_all(beat=True)
        self._timers.later("beat", BEAT_S, self._beat)

    def _expect_workers(self, error: BaseException | None = None) -> None:
        """Give up the run if there is no worker for too long."""
        if error is not None and not self._workers:
            self._give_up(error)
        elif not any(worker.is_ready for worker in self._workers.values()):
            self._timers.later("nobody", _NOBODY_S, self._give_up)

    def _give_up(self, error: BaseException | None = None) -> None:
        if not any(worker.is_ready for worker in self._workers.values()):
            why = ClusterError(
                f"the cluster has had no worker for {_NOBODY_S:g} s; look at "
                "client.dashboard_link, or scale the cluster"
            )
            self.controls.stop("cluster", error or why, now=True)

    def _notice_end(self) -> None:
        workers = self._workers.values()
        if not self._is_running or self._writes or any(w.open or w.items for w in workers):
            return
        is_empty = self._source.is_empty and self._quarantine.is_empty
        if self.controls.stop_reason is not None or is_empty:
            self._idle.set()

    def _end_open_rows(self) -> None:
        """End the rows that are still open: the workers have had time to report."""
        for worker in self._workers.values():
            for row_task in list(worker.open.values()):
                self._outcomes.cut_short(row_task)
            worker.open.clear()
            worker.items.clear()
        self._notice_end()

    # -- workers ------------------------------------------------------------------------------

    def worker_joined(self, name: str) -> bool:
        """A worker may be ready soon. Returns whether the run wants this worker. The worker gets
        no rows before its first report."""
        if not self._is_running or self.controls.stop_reason is not None or self._idle.is_set():
            return False
        self._workers[name] = WorkerState(name)
        self._timers.later("command", _RESHARE_S, self.command_all)
        return True

    def worker_left(
        self, name: str, error: BaseException | None = None, *, died: bool = True
    ) -> None:
        """A worker is gone: its rows go to others. One that did not die has ended its rows."""
        worker = self._workers.pop(name, None)
        if worker is None or not self._is_running:
            return
        if died:
            self._quarantine.count(worker, self._shares.of(name))
        self._shares.leave(name)
        for number, row_task in worker.open.items():
            self._lose(worker, number, row_task)
        rows = worker.open.values()
        alone = self._quarantine.held_back(rows) if self._source.is_by_row else []
        self._source.give_back(worker.items.values(), [r for r in rows if r not in alone])
        self._limits.forget(name)
        self._reshare_soon()
        self.feed_all()
        self._expect_workers(error)
        self._notice_end()

    def _lose(self, worker: WorkerState, number: int, row_task: RowTask) -> None:
        """Handle a row that was at a worker that is gone."""
        row_task.bill(worker.spent.get(number))
        error = WorkerLostError(f"the worker {worker.name} died with this row in flight")
        self._limits.leave_all(worker, row_task, error)
        if self.controls.stop_reason is not None:
            self._outcomes.cut_short(row_task)
            return
        is_guilty = self._quarantine.is_guilty(number)
        if self._quarantine.hit(number):
            row_task.error = error
        for _ in range(worker.running[number]):
            self._reported.in_flight -= 1
            if not is_guilty:
                self._emit(AttemptFailed(row_task.row, row_task.attempts, error, 0.0, 0.0))
        if is_guilty:
            self._outcomes.fail(row_task)

    def receive(self, name: str, report: Report) -> None:
        """Handle a report of a worker."""
        worker = self._workers.get(name)
        if worker is None or not self._is_running:
            return
        if not worker.is_ready:
            worker.is_ready, worker.offset_s = True, self.elapsed_s()
            self._timers.cancel("nobody")
            self._reshare_soon()
        for event in report.events:
            self._reported.enter(worker, event, self._loop.time())
        if report.limits is not None:
            self._limits.learn(report.limits)
            self.command_all()
        if report.requests:
            self._limits.request(name, list(report.requests))
            self._let_in()
        freed = report.in_force is not None and self._shares.confirm(name, report.in_force)
        if freed or self._source.is_empty:
            self._reshare_soon()
        if report.over and (report.crash is not None or self.controls.stop_reason is None):
            self.worker_left(name, report.crash, died=False)
        if self._limits.request_again(worker):
            self._let_in()
        self._feed(worker)
        self._notice_end()

    def item_acknowledged(self, name: str, number: int, error: BaseException | None = None) -> None:
        """A partition is finished, or failed with `error`."""
        worker = self._workers.get(name)
        item = None if worker is None else worker.items.pop(number, None)
        if worker is None or item is None:
            return
        if error is not None:
            for row in item.row_tasks.keys() & worker.open.keys():
                self._outcomes.settle(worker.open.pop(row), "not_run")
            self.controls.stop(getattr(error, "reason", "crashed"), error, now=False)
        self._feed(worker)
        self._notice_end()

    def _cannot_send(self, name: str, item: WorkItem, error: BaseException) -> None:
        self._loop.call_soon(self.item_unsendable, name, item, error)

    def item_unsendable(self, name: str, item: WorkItem, error: BaseException) -> None:
        """A work item cannot be sent. Its rows are sent one by one, and only the row that cannot be
        sent fails."""
        worker = self._workers.get(name)
        if worker is None:
            return
        row_tasks = [r for n, r in item.row_tasks.items() if worker.open.pop(n, None) is not None]
        worker.items.pop(item.number, None)
        is_stopping = self.controls.stop_reason is not None
        if len(row_tasks) > 1 and not is_stopping:
            self._quarantine.set_aside(row_tasks)
        for row_task in row_tasks:
            if is_stopping:
                self._outcomes.settle(row_task, "not_run")
            elif len(row_tasks) == 1:
                row_task.error = TransferError(
                    f"the inputs cannot be sent to a worker: {type(error).__name__}: {error}"
                )
                self._outcomes.fail(row_task)
        self.feed_all()
        self._notice_end()

    # -- the outcomes of rows -------------------------------------------------------------------

    def row_succeeded(self, row_task: RowTask, answer: Answer) -> None:
        """A worker has an answer; the row is settled once the cache has stored the answer."""
        if not self._config.remembers or answer.cached:
            self._outcomes.settle(row_task, "ok", answer)
            return
        task = self._loop.create_task(self._remember(row_task, answer))
        self._writes.add(task)
        task.add_done_callback(self._written)

    async def _remember(self, row_task: RowTask, answer: Answer) -> None:
        try:
            await self._source.keep(row_task, answer)
        except Exception as error:
            self.controls.stop("store", error, now=False)
        self._outcomes.settle(row_task, "ok", answer)

    def _written(self, task: asyncio.Task[None]) -> None:
        self._writes.discard(task)
        self._notice_end()

    def row_failed(self, worker: WorkerState, row_task: RowTask) -> None:
        """A row failed at a worker; no attempt follows."""
        worker.failed += 1
        self._outcomes.fail(row_task)
        self._command(worker)
        self._timers.later("command", _RESHARE_S, self.command_all)  # all allowances shrink

    def row_given_back(self, row_task: RowTask) -> None:
        """A worker that ends by itself gives a row back; another worker gets the row."""
        self._source.give_back([], [row_task])
        self.feed_all()

    def _row_settled(
        self, row_task: RowTask, status: Status, answer: Answer | None, stopping: bool
    ) -> None:
        self._source.settled(row_task, status, answer, stopping)

    def _let_in(self) -> None:
        if self.controls.is_held or not self._is_running:
            return
        try:
            granted = self._limits.let_in()
        except Exception as error:
            self.controls.stop(getattr(error, "reason", "crashed"), error, now=False)
            return
        for name, numbers in granted.items():
            self._command(self._workers[name], granted=numbers)

    # -- commands and shares --------------------------------------------------------------------

    def command_all(self, *, beat: bool = False) -> None:
        """Send each worker its command, if the command has changed or for a `beat`."""
        for worker in self._workers.values():
            self._command(worker, beat=beat)

    def _command(
        self, worker: WorkerState, *, granted: Sequence[int] = (), beat: bool = False
    ) -> None:
        controls = self.controls
        command = Command(
            self._shares.of(worker.name),
            controls.is_paused,
            controls.drops_stragglers,
            None if controls.stop_reason is None else "now" if controls.cancels else "soft",
            self._failure_allowance(worker),
            self._limits.is_limited,
        )
        if granted or beat or command != worker.last_command:
            worker.last_command = command
            self._link.command(worker.name, command._replace(granted=granted))

    def _failure_allowance(self, worker: WorkerState) -> int | None:
        """How many rows may fail at a worker before it must wait for a new command: its share of
        the failures left, so that all workers together never exceed the limit."""
        failure = self._config.failure
        limit, total = failure.max_failures, self._config.total or failure.least
        if limit is None or (isinstance(limit, float) and total is None):
            return None
        most = limit if isinstance(limit, int) else math.floor(limit * (total or 0))
        left = max(0, most - self._outcomes.n_failed)
        return worker.failed + left // max(1, len(self._workers))

    def _reshare_soon(self) -> None:
        self._timers.later("reshare", _RESHARE_S, self._reshare)

    def _reshare(self) -> None:
        has_more = not self._source.is_empty and self.controls.stop_reason is None
        attempts_a_row = 2 if self._config.may_hedge else 1
        wanted = {
            w.name: self.controls.max_workers if has_more else attempts_a_row * len(w.open)
            for w in self._workers.values()
            if w.is_ready
        }
        for name in self._shares.split(self.controls.max_workers, wanted):
            self._command(self._workers[name])
            if self._limits.request_again(self._workers[name]):
                self._let_in()
            self._feed(self._workers[name])

    def feed_all(self) -> None:
        """Send rows to all workers that have room."""
        for worker in self._dispatcher.by_load():
            self._feed(worker)
        self._notice_end()

    def _feed(self, worker: WorkerState) -> None:
        if not self.controls.is_held and self._is_running:
            self._dispatcher.feed(worker)
