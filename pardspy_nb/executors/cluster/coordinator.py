"""A run over many processes: each has an engine of its own, and this is what they have in common.

Rows go out in parcels as sites have room; what happens to them comes back. Workers are shared out
and rebalanced, attempts under a limit are let in one by one, and failures and costs add up here, so
all limits are the run's. Rows of a site that dies go to the others.
"""

from __future__ import annotations

import asyncio
import math
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ...core.clock import Clock
from ...core.errors import PardspyError
from ...core.events import (
    Answer,
    AttemptFailed,
    AttemptLost,
    Event,
    RowFinished,
    RowStarted,
    RunFinished,
    RunStarted,
    SettingsChanged,
    Status,
)
from ...engine.controls import RunControls
from ...engine.policies import FailurePolicy
from ...engine.protocols import Cache
from ...engine.row_task import RowTask
from .fair_share import FairShare
from .messages import Command, Report, TransferError
from .quarantine import Quarantine, WorkerLostError
from .shared_limits import SharedLimits
from .timers import Timers
from .work_queue import WorkItem, WorkQueue
from .worker_state import RATE_S, WorkerState

_BEAT_S = 2.0  # between words to sites that hear nothing else
_RESHARE_S = 0.02
_CANCEL_S = 0.4  # how long sites have to tell what became of their rows: a run ends in a second
_LEAST_AHEAD = 4  # rows at a site beyond those in flight
_NOBODY_S = 60.0  # without any site before a run is given up


class ClusterError(PardspyError):
    """The cluster has no worker that can run the module."""


class Link(Protocol):
    """The way to the sites. It calls the fleet's `joined`, `left`, `heard` and `delivered`, on the
    loop's thread; what is sent to a site arrives in order."""

    def open(self, fleet: Coordinator) -> None:
        """Begin to tell of sites."""

    def send(self, site: str, parcel: WorkItem) -> None:
        """Bring a parcel to a site."""

    def tell(self, site: str, orders: Command) -> None:
        """Bring orders to a site."""


class Coordinator(RunControls):
    """Runs a source's rows at the sites of a link: a `protocols.Runner`.

    Args:
        total: the number of rows, None if it is not known.
        max_workers: attempts under way, at all sites together.
        rpm, tpm, max_cost_usd: limits of all sites together.
        cache: what remembers rows here; None where sites do so themselves, or nobody.
        duplicates: sites may ask a row twice (`hedge`), and need workers for that at the end, too.
    """

    def __init__(
        self,
        source: WorkQueue,
        link: Link,
        emit: Callable[[Event], None],
        *,
        clock: Clock,
        total: int | None,
        max_workers: int,
        failure: FailurePolicy,
        rpm: float | None = None,
        tpm: float | None = None,
        max_cost_usd: float | None = None,
        cache: Cache | None = None,
        duplicates: bool = False,
    ) -> None:
        super().__init__(max_workers)
        self._most_there = 2 if duplicates else 1  # attempts at a row at once
        self._source, self._link, self._emit, self._clock = source, link, emit, clock
        self._total, self._failure, self._remembers = total, failure, cache is not None
        self._members: dict[str, WorkerState] = {}
        self._shares, self._losses, self._timers = FairShare(), Quarantine(), Timers()
        self._entry = SharedLimits(
            rpm, tpm, max_cost_usd, self._members, self._shares.of, self._let_in
        )
        self._keeping: set[asyncio.Task[None]] = set()
        self._dropping = self._began = self._now = False
        self._failures = self._settled = self._running = self._max_in_flight = 0
        self._most_workers = max_workers

    # -- more control (see `RunControls` and `protocols.Controllable`) ---

    def drop_stragglers(self) -> None:
        self._dropping = True
        self._settings_changed()

    def stop(self, reason: str, error: BaseException | None = None, *, now: bool) -> None:
        self._note_stop(reason, error)
        self._now = self._now or now
        if now and self._began:
            self._timers.later("cancel", _CANCEL_S, self._settle_all)
        self._settings_changed()

    def release(self, number: int) -> None:
        self._source.release(number)
        self._feed_all()

    def abandoned_events(self) -> list[Event]:
        """See `protocols.Runner`."""
        here = [*self._open_row_tasks(), *self._source.close(), *self._losses.close()]
        open_ = [f for f in dict.fromkeys(here) if not f.settled]
        ends: list[Event] = [f.finished("cancelled" if f.attempts else "not_run") for f in open_]
        return [*ends, self._finished("cancelled", None)]

    def _open_row_tasks(self) -> list[RowTask]:
        return [f for m in list(self._members.values()) for f in list(m.open.values())]

    def _finished(self, reason: str, error: BaseException | None) -> RunFinished:
        most = min(self._max_in_flight, self._most_workers) if self._began else 0
        return RunFinished(reason, error, self._elapsed(), most, self._clock.utc_s())

    def _elapsed(self) -> float:
        return self._loop.time() - self._start if self._began else 0.0

    def _settings_changed(self) -> None:
        self._most_workers = max(self._most_workers, self._workers_wanted)
        if self._began:
            steered = SettingsChanged(
                self._workers_wanted, self._paused, self._dropping, self._stop_reason
            )
            self._emit(steered)
            self._reshare()
            self._tell_all()
            self._let_in()
            self._feed_all()
            self._notice_end()

    # -- the run ------------------------------------------------------------------------------

    async def run(self) -> None:
        """See `protocols.Runner`."""
        self._loop = asyncio.get_running_loop()
        self._start = self._loop.time()
        self._idle = asyncio.Event()
        self._began = True
        self._entry.open(self._loop)
        self._emit(RunStarted(self._total, self._clock.utc_s()))
        self._source.open(self._loop, self._feed_all, self._source_broke, self._settle)
        self._settings_changed()
        if not self._idle.is_set():
            self._link.open(self)
            self._beat()
            self._expect_somebody()
        await self._idle.wait()
        self._timers.close()
        end = self._finished(self._stop_reason or "done", self._stop_error)
        self._began = False
        for row_task in (*self._source.close(), *self._losses.close()):
            self._settle(row_task, "cancelled" if row_task.attempts else "not_run")
        self._emit(end)
        for member in self._members.values():
            self._link.tell(member.name, Command(0, stop="soft"))

    def _source_broke(self, error: BaseException, reason: str = "source") -> None:
        self.stop(reason, error, now=False)

    def _beat(self) -> None:
        self._tell_all(beat=True)
        self._timers.later("beat", _BEAT_S, self._beat)

    def _expect_somebody(self, error: BaseException | None = None) -> None:
        """Give up if there is no site for too long."""
        if error is not None and not self._members:
            self._give_up(error)
        elif not any(member.ready for member in self._members.values()):
            self._timers.later("nobody", _NOBODY_S, self._give_up)

    def _give_up(self, error: BaseException | None = None) -> None:
        if not any(member.ready for member in self._members.values()):
            why = ClusterError(
                f"no worker of the cluster has been there for {_NOBODY_S:g} s; look "
                "at client.dashboard_link, or scale the cluster"
            )
            self.stop("cluster", error or why, now=True)

    def _notice_end(self) -> None:
        if not self._began or self._keeping or any(m.open for m in self._members.values()):
            return
        if any(m.parcels for m in self._members.values()):
            return
        is_empty = self._source.is_empty and self._losses.is_empty
        if self._stop_reason is not None or is_empty:
            self._idle.set()

    def _settle_all(self) -> None:
        """The sites have had their time: rows that are open end here."""
        for member in self._members.values():
            for row_task in list(member.open.values()):
                self._settle(row_task, "cancelled" if row_task.attempts else "not_run")
            member.open.clear()
            member.parcels.clear()
        self._notice_end()

    # -- sites --------------------------------------------------------------------------------

    def joined(self, site: str) -> bool:
        """A site may be there soon; whether it is wanted. It is sent nothing before its first
        report."""
        if not self._began or self._stop_reason is not None or self._idle.is_set():
            return False
        self._members[site] = WorkerState(site)
        self._timers.later("tell", _RESHARE_S, self._tell_all)
        return True

    def left(self, site: str, error: BaseException | None = None, *, died: bool = True) -> None:
        """A site is gone: its rows go to others. Unless it died it ended them first."""
        member = self._members.pop(site, None)
        if member is None or not self._began:
            return
        if died:
            self._losses.count(member, self._shares.of(site))
        self._shares.leave(site)
        for number, row_task in member.open.items():
            self._lose(member, number, row_task)
        alone = self._losses.held_back(member.open.values()) if self._source.is_by_row else []
        others = [f for f in member.open.values() if f not in alone]
        self._source.give_back(member.parcels.values(), others)
        self._entry.forget(site)
        self._reshare_soon()
        self._feed_all()
        self._expect_somebody(error)
        self._notice_end()

    def _lose(self, member: WorkerState, number: int, row_task: RowTask) -> None:
        """A row was at a site that is gone."""
        row_task.bill(member.spent.get(number))
        error = WorkerLostError(f"the worker {member.name} died with this row in flight")
        self._entry.leave_all(member, row_task, error)
        if self._stop_reason is not None:
            self._settle(row_task, "cancelled" if row_task.attempts else "not_run")
            return
        guilty = self._losses.is_guilty(number)
        if self._losses.hit(number):
            row_task.error = error
        for _ in range(member.running[number]):
            self._running -= 1
            if not guilty:
                self._emit(AttemptFailed(row_task.row, row_task.attempts, error, 0.0, 0.0))
        if guilty:
            self._failed(row_task)

    def heard(self, site: str, report: Report) -> None:
        """A site reports."""
        member = self._members.get(site)
        if member is None or not self._began:
            return
        if not member.ready:
            member.ready, member.offset_s = True, self._elapsed()
            self._timers.cancel("nobody")
            self._reshare_soon()
        for event in report.events:
            self._enter(member, event)
        if report.limits is not None:
            self._entry.learn(report.limits)
            self._tell_all()
        if report.asks:
            self._entry.ask(site, list(report.asks))
            self._let_in()
        freed = report.in_force is not None and self._shares.confirm(site, report.in_force)
        if freed or self._source.is_empty:
            self._reshare_soon()
        if report.over and (report.crash is not None or self._stop_reason is None):
            self.left(site, report.crash, died=False)
        if self._entry.ask_again(member):
            self._let_in()
        self._feed(member)
        self._notice_end()

    def delivered(self, site: str, number: int, error: BaseException | None = None) -> None:
        """A parcel that is more than its rows is done with; or it could not be."""
        member = self._members.get(site)
        parcel = None if member is None else member.parcels.pop(number, None)
        if member is None or parcel is None:
            return
        if error is not None:
            for row in parcel.row_tasks.keys() & member.open.keys():
                self._settle(member.open.pop(row), "not_run")
            self.stop(getattr(error, "reason", "crashed"), error, now=False)
        self._feed(member)
        self._notice_end()

    def returned(self, site: str, parcel: WorkItem, error: BaseException) -> None:
        """A parcel's rows cannot be sent: the one that cannot fails, once it is known which."""
        member = self._members.get(site)
        if member is None:
            return
        row_tasks = [f for n, f in parcel.row_tasks.items() if member.open.pop(n, None) is not None]
        member.parcels.pop(parcel.number, None)
        if len(row_tasks) > 1 and self._stop_reason is None:
            self._losses.set_aside(row_tasks)
        for row_task in row_tasks:
            if self._stop_reason is not None:
                self._settle(row_task, "not_run")
            elif len(row_tasks) == 1:
                words = f"the inputs cannot be sent to a worker: {type(error).__name__}: {error}"
                row_task.error = TransferError(words)
                self._failed(row_task)
        self._feed_all()
        self._notice_end()

    # -- what became of rows --------------------------------------------------------------------

    def _enter(self, member: WorkerState, event: Any) -> None:
        number = event.row
        row_task = member.open.get(number)
        if row_task is None:
            return
        if isinstance(event, RowFinished):
            self._row_finished(member, number, row_task, event)
        elif isinstance(event, RowStarted):
            if not row_task.attempts:
                row_task.queued_s = self._elapsed()
            row_task.attempts += 1
            member.running[number] += 1
            self._running += 1
            self._max_in_flight = max(self._max_in_flight, self._running)
            self._tell_of(RowStarted(row_task.row, row_task.attempts), row_task)
        else:
            member.running[number] -= 1
            self._running -= 1
            self._attempt_over(member, number, row_task, event)

    def _attempt_over(
        self, member: WorkerState, number: int, row_task: RowTask, event: Any
    ) -> None:
        outcome: BaseException = asyncio.CancelledError()
        if isinstance(event, AttemptFailed):
            outcome = row_task.error = event.error
            member.spend(number, getattr(outcome, "usage", None))
            self._tell_of(event._replace(row=row_task.row, attempt=row_task.attempts), row_task)
            self._heed(outcome)
        else:
            self._tell_of(AttemptLost(row_task.row, event.attempt), row_task)
        self._entry.leave(member, row_task, outcome)

    def _tell_of(self, event: Event, row_task: RowTask) -> None:
        if not row_task.settled:  # a parcel may be brought a second time
            self._emit(event)

    def _heed(self, error: BaseException) -> None:
        before = self._entry.is_limited
        self._entry.heed(error)
        if self._entry.is_limited != before:
            self._tell_all()

    def _row_finished(
        self, member: WorkerState, number: int, row_task: RowTask, event: RowFinished
    ) -> None:
        running = member.settle(number, self._loop.time())
        self._running -= running
        for _ in range(running - 1):  # of a row that was asked twice; their ends come later
            self._tell_of(AttemptLost(row_task.row, row_task.attempts), row_task)
        if event.attempts:
            is_first = event.attempts == row_task.attempts
            if is_first and event.queued_ms is not None:
                row_task.queued_s = member.offset_s + event.queued_ms / 1e3
            row_task.started_at = event.started_at if is_first else row_task.started_at
            row_task.latency_s = (event.latency_ms or 0.0) / 1e3
            row_task.waited_s += (event.waited_ms or 0.0) / 1e3
        row_task.bill(event.usage)
        if event.error is not None or event.status == "ok":
            row_task.error = event.error
        outcome: Answer | BaseException | None = event.answer or event.error
        self._entry.leave_all(member, row_task, outcome if event.attempts else None)
        if event.status == "ok" and event.answer is not None:
            self._succeeded(row_task, event.answer)
        elif event.status == "failed":
            member.failed += 1
            self._failed(row_task)
            self._tell(member)
            self._timers.later("tell", _RESHARE_S, self._tell_all)  # there is less to share out
        elif self._stop_reason is not None or (event.status == "cancelled" and self._dropping):
            self._settle(row_task, event.status)
        else:  # a site that ends by itself: for another
            self._source.give_back([], [row_task])
            self._feed_all()

    def _succeeded(self, row_task: RowTask, answer: Answer) -> None:
        if not self._remembers or answer.cached:
            self._settle(row_task, "ok", answer)
            return
        task = self._loop.create_task(self._keep(row_task, answer))
        self._keeping.add(task)
        task.add_done_callback(self._kept)

    async def _keep(self, row_task: RowTask, answer: Answer) -> None:
        try:
            await self._source.keep(row_task, answer)
        except Exception as error:
            self.stop("store", error, now=False)
        self._settle(row_task, "ok", answer)

    def _kept(self, task: asyncio.Task[None]) -> None:
        self._keeping.discard(task)
        self._notice_end()

    def _failed(self, row_task: RowTask) -> None:
        """Decide what a failed row means for the run."""
        error = row_task.error
        if row_task.settled:  # of a part that was run again
            return
        self._settle(row_task, "failed")
        ending = self._failure.ending(error, self._failures, self._settled, self._total)
        if ending is not None:
            self.stop(ending[0], error, now=ending[1])

    def _settle(self, row_task: RowTask, status: Status, answer: Answer | None = None) -> None:
        if row_task.settled:
            return
        self._settled += 1
        self._failures += status == "failed"
        row_task.settled = True
        if answer is not None and answer.cached:
            row_task.bill(answer.usage)
        self._emit(row_task.finished(status, answer))
        self._source.settled(row_task, status, answer, self._stop_reason is not None)

    def _let_in(self) -> None:
        if self._is_held or not self._began:
            return
        try:
            granted = self._entry.let_in()
        except Exception as error:
            self.stop(getattr(error, "reason", "crashed"), error, now=False)
            return
        for site, numbers in granted.items():
            self._tell(self._members[site], granted=numbers)

    # -- what sites are told --------------------------------------------------------------------

    def _tell_all(self, *, beat: bool = False) -> None:
        for member in self._members.values():
            self._tell(member, beat=beat)

    def _tell(
        self, member: WorkerState, *, granted: Sequence[int] = (), beat: bool = False
    ) -> None:
        stop = None if self._stop_reason is None else "now" if self._now else "soft"
        orders = Command(
            self._shares.of(member.name),
            self._paused,
            self._dropping,
            stop,  # type: ignore[arg-type]
            self._tolerated(member),
            self._entry.is_limited,
        )
        if granted or beat or orders != member.told:
            member.told = orders
            self._link.tell(member.name, orders._replace(granted=granted))

    def _tolerated(self, member: WorkerState) -> int | None:
        """Failures of its own that a site lets pass without being told: its share of what is
        left, so that all together pass no more."""
        limit, total = self._failure.max_failures, self._total or self._failure.least
        if limit is None or (isinstance(limit, float) and total is None):
            return None
        most = limit if isinstance(limit, int) else math.floor(limit * (total or 0))
        return member.failed + max(0, most - self._failures) // max(1, len(self._members))

    def _reshare_soon(self) -> None:
        self._timers.later("reshare", _RESHARE_S, self._reshare)

    def _reshare(self) -> None:
        more = not self._source.is_empty and self._stop_reason is None
        ready = [m for m in self._members.values() if m.ready]
        wanted = {
            m.name: self._workers_wanted if more else self._most_there * len(m.open) for m in ready
        }
        for site in self._shares.split(self._workers_wanted, wanted):
            self._tell(self._members[site])
            if self._entry.ask_again(self._members[site]):
                self._let_in()
            self._feed(self._members[site])

    # -- what sites are sent --------------------------------------------------------------------

    def _feed_all(self) -> None:
        for member in sorted(self._members.values(), key=lambda m: len(m.open)):
            self._feed(member)
        self._notice_end()

    def _feed(self, member: WorkerState) -> None:
        """Send a site rows while it has room for some."""
        if self._is_held or not self._began:
            return
        room = self._room(member)
        if room <= 0 or member.name not in self._members:
            return
        alone = None if member.open else self._losses.take()
        parcel = alone or self._source.take(room)
        if parcel is not None:
            member.send(parcel)
            try:
                self._link.send(member.name, parcel)
            except Exception as error:  # inputs of the user's own classes
                self._loop.call_soon(self.returned, member.name, parcel, error)

    def _room(self, member: WorkerState) -> int:
        share, here = self._shares.of(member.name), len(member.open)
        if not member.ready or share == 0 or self._losses.keeps_busy(member):
            return 0
        ahead = max(_LEAST_AHEAD, share // 4, math.ceil(RATE_S * member.rate))
        if here > share + ahead // 2:
            return 0
        room = share + ahead - here
        if (left := self._source.left) is None:
            return room
        # as guided self-scheduling does (Polychronopoulos and Kuck, 1987): less towards the end
        fair = math.ceil(left / (2 * len(self._members)))
        return min(room, max(share - here, fair))
