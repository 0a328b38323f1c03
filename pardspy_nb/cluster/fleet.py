"""A run over many processes: each has an engine of its own, and this is what they have in common.

Rows go out in parcels as sites have room; what happens to them comes back. Workers are shared out
and rebalanced, attempts under a limit are let in one by one, and failures and costs add up here, so
all limits are the run's. Rows of a site that dies go to the others.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter, deque
from collections.abc import Callable, Sequence
from typing import Any, Protocol

from ..budget import Budget
from ..clock import Clock
from ..errors import AttemptError, PardspyError
from ..events import (
    Answer,
    AttemptFailed,
    AttemptLost,
    Event,
    Row,
    RowFinished,
    RowStarted,
    RunFinished,
    RunStarted,
    RunSteered,
    Status,
)
from ..gates import Gates
from ..hooks import Gate, Memory
from ..lineup import Flight
from ..lm import Bound
from ..pace import Pace
from ..policy import FailurePolicy, is_overloaded, is_rate_limited
from .shares import Shares
from .sources import Parcel, Source
from .wire import Ask, Orders, Report

_BEAT_S = 2.0  # between words to sites that hear nothing else
_RESHARE_S = 0.02
_CANCEL_S = 0.4  # how long sites have to tell what became of their rows: a run ends in a second
_AHEAD_S, _LEAST_AHEAD = 0.5, 4  # rows at a site beyond those in flight: for so long, at least
_SUSPECT, _GUILTY = 2, 3  # sites that died with a row in flight: then it is asked alone; fails
_NOBODY_S = 60.0  # without any site before a run is given up


class ClusterError(PardspyError):
    """The cluster has no worker that can run the module."""


class WorkerLostError(AttemptError):
    """A worker process died while a row was in flight there."""

    retryable = True
    may_be_billed = True


class Link(Protocol):
    """The way to the sites. It calls the fleet's `joined`, `left`, `heard` and `delivered`, on the
    loop's thread; what is sent to a site arrives in order."""

    def open(self, fleet: Fleet) -> None:
        """Begin to tell of sites."""

    def send(self, site: str, parcel: Parcel) -> None:
        """Bring a parcel to a site."""

    def tell(self, site: str, orders: Orders) -> None:
        """Bring orders to a site."""


class _Member:
    """A site of the fleet, and what is there."""

    __slots__ = (
        "count", "counted_at", "failed", "inside", "later", "name", "offset_s", "open", "parcels", "rate", "ready",
        "running", "spent", "told",
    )  # fmt: skip

    def __init__(self, name: str) -> None:
        self.name, self.ready, self.offset_s = name, False, 0.0
        self.parcels: dict[int, Parcel] = {}
        self.open: dict[int, Flight] = {}  # rows there, by number
        self.running: Counter[int] = Counter()  # attempts under way, by the rows' numbers
        self.spent: dict[int, Any] = {}  # usage of failed attempts there
        self.failed = 0  # rows
        self.inside = 0  # attempts let in
        self.later: list[Ask] = []  # for when fewer are
        self.told: Orders | None = None
        self.count, self.counted_at, self.rate = 0, 0.0, 0.0  # rows settled; of late, a second

    def settled_one(self, now: float) -> None:
        """A row is settled there."""
        self.count += 1
        if now - self.counted_at >= _AHEAD_S:
            self.rate = self.count / (now - self.counted_at) if self.counted_at else 0.0
            self.count, self.counted_at = 0, now


class Fleet:
    """Runs a source's rows at the sites of a link: a `hooks.Runner`.

    Args:
        total: the number of rows, None if it is not known.
        max_workers: attempts under way, at all sites together.
        rpm, tpm, max_cost_usd: limits of all sites together.
        memory: what remembers rows here; None where sites do so themselves, or nobody.
    """

    def __init__(
        self, source: Source, link: Link, emit: Callable[[Event], None], *, clock: Clock,
        total: int | None, max_workers: int, failure: FailurePolicy, rpm: float | None = None,
        tpm: float | None = None, max_cost_usd: float | None = None, memory: Memory | None = None,
    ) -> None:  # fmt: skip
        self._source, self._link, self._emit, self._clock = source, link, emit, clock
        self._total, self._workers, self._failure = total, max_workers, failure
        self._memory = memory
        self._told: dict[int, Ask] = {}  # what sites said of rows that wait to be let in
        self._pace = Pace(rpm, tpm, lambda row: self._told[row.number].size)
        gates: list[Gate] = [self._pace]
        if max_cost_usd is not None:
            gates.append(Budget(max_cost_usd, self._bound_of))
        self._gate_list, self._limited = gates, (rpm, tpm, max_cost_usd) != (None, None, None)
        self._gates: Gates | None = None
        self._asks: deque[tuple[str, Ask]] = deque()
        self._inside: Counter[int] = Counter()  # attempts let in, by the rows' numbers
        self._members: dict[str, _Member] = {}
        self._shares = Shares()
        self._losses: Counter[int] = Counter()  # sites that died with a row in flight
        self._suspects: deque[Flight] = deque()
        self._alone = 0  # rows sent alone
        self._keeping: set[asyncio.Task[None]] = set()
        self._timers: dict[str, asyncio.TimerHandle] = {}
        self._paused = self._dropping = self._began = self._halted = self._now = False
        self._stop_reason: str | None = None
        self._stop_error: BaseException | None = None
        self._failures = self._settled = self._running = self._max_in_flight = 0
        self._elapsed_s = 0.0

    # -- control (on the loop's thread; before `run` too): see `hooks.Steerable` ----------------

    def set_workers(self, n: int) -> None:
        self._workers = n
        self._steered()

    def pause(self) -> None:
        self._paused = True
        self._steered()

    def resume(self) -> None:
        self._paused = False
        self._steered()

    def drop_stragglers(self) -> None:
        self._dropping = True
        self._steered()

    def stop(self, reason: str, error: BaseException | None = None, *, now: bool) -> None:
        if self._stop_reason is None:
            self._stop_reason, self._stop_error = reason, error
        self._now = self._now or now
        if now and self._began:
            self._later("cancel", _CANCEL_S, self._settle_all)
        self._steered()

    def release(self, number: int) -> None:
        self._source.release(number)
        self._feed_all()

    def halt(self) -> None:
        """See `hooks.Runner`."""
        self._halted = True

    def ends_now(self) -> list[Event]:
        """See `hooks.Runner`."""
        here = [*self._open_flights(), *self._source.close(), *self._suspects]
        open_ = [f for f in dict.fromkeys(here) if not f.settled]
        ends: list[Event] = [f.finished("cancelled" if f.attempts else "not_run") for f in open_]
        return [*ends, self._finished("cancelled", None)]

    def _open_flights(self) -> list[Flight]:
        return [f for m in list(self._members.values()) for f in list(m.open.values())]

    def _finished(self, reason: str, error: BaseException | None) -> RunFinished:
        most = min(self._max_in_flight, self._most_workers) if self._began else 0
        return RunFinished(reason, error, self._elapsed(), most, self._clock.utc_s())

    def _elapsed(self) -> float:
        return self._loop.time() - self._start if self._began else 0.0

    def _steered(self) -> None:
        self._most_workers = max(getattr(self, "_most_workers", 0), self._workers)
        if self._began:
            steered = RunSteered(self._workers, self._paused, self._dropping, self._stop_reason)
            self._emit(steered)
            self._reshare()
            self._tell_all()
            self._feed_all()
            self._notice_end()

    # -- the run ------------------------------------------------------------------------------

    async def run(self) -> None:
        """See `hooks.Runner`."""
        self._loop = asyncio.get_running_loop()
        self._start = self._loop.time()
        self._idle = asyncio.Event()
        self._began = True
        self._gates = Gates(self._gate_list, self._loop.call_later, self._let_in)
        self._emit(RunStarted(self._total, self._clock.utc_s()))
        self._source.open(self._loop, self._feed_all, self._source_broke, self._settle)
        self._steered()
        if not self._idle.is_set():
            self._link.open(self)
            self._beat()
            self._expect_somebody()
        await self._idle.wait()
        for timer in self._timers.values():
            timer.cancel()
        end = self._finished(self._stop_reason or "done", self._stop_error)
        self._began = False
        for flight in (*self._source.close(), *self._suspects):
            self._settle(flight, "cancelled" if flight.attempts else "not_run")
        self._emit(end)
        for member in self._members.values():
            self._link.tell(member.name, Orders(0, stop="soft"))

    def _source_broke(self, error: BaseException, reason: str = "source") -> None:
        self.stop(reason, error, now=False)

    def _later(self, name: str, after_s: float, action: Callable[[], None]) -> None:
        """Do something once, after a while; what is already to be done is not put off."""
        if name in self._timers:
            return

        def act() -> None:
            del self._timers[name]
            action()

        self._timers[name] = self._loop.call_later(after_s, act)

    def _beat(self) -> None:
        self._tell_all(beat=True)
        self._later("beat", _BEAT_S, self._beat)

    def _expect_somebody(self, error: BaseException | None = None) -> None:
        """Give up if there is no site for too long."""
        if error is not None and not self._members:
            self._give_up(error)
        elif not any(member.ready for member in self._members.values()):
            self._later("nobody", _NOBODY_S, self._give_up)

    def _give_up(self, error: BaseException | None = None) -> None:
        if not any(member.ready for member in self._members.values()):
            why = ClusterError(f"no worker of the cluster has been there for {_NOBODY_S:g} s; look "
                               "at client.dashboard_link, or scale the cluster")  # fmt: skip
            self.stop("cluster", error or why, now=True)

    def _notice_end(self) -> None:
        if not self._began or self._keeping or any(m.open for m in self._members.values()):
            return
        if any(m.parcels for m in self._members.values()):
            return
        is_empty = self._source.is_empty and not self._suspects
        if self._stop_reason is not None or is_empty:
            self._idle.set()

    def _settle_all(self) -> None:
        """The sites have had their time: rows that are open end here."""
        for member in self._members.values():
            for flight in list(member.open.values()):
                self._settle(flight, "cancelled" if flight.attempts else "not_run")
            member.open.clear()
            member.parcels.clear()
        self._notice_end()

    # -- sites --------------------------------------------------------------------------------

    def joined(self, site: str) -> None:
        """A site is there; it is sent nothing before its first report."""
        if self._began and self._stop_reason is None:
            self._members[site] = _Member(site)
            self._later("tell", _RESHARE_S, self._tell_all)

    def left(self, site: str, error: BaseException | None = None) -> None:
        """A site is gone: its rows go to others."""
        member = self._members.pop(site, None)
        if member is None or not self._began:
            return
        # of rows that begun a moment ago nothing has been heard
        unheard = [n for n, flight in member.open.items() if not member.running[n]]
        self._losses.update(unheard[: self._shares.of(site)])
        self._shares.leave(site)
        for number, flight in member.open.items():
            self._lose(member, number, flight)
        suspects = [f for n, f in member.open.items() if self._is_suspect(n, f)]
        self._suspects.extend(suspects)
        others = [f for f in member.open.values() if f not in suspects]
        self._source.give_back(member.parcels.values(), others)
        self._asks = deque((at, ask) for at, ask in self._asks if at != site)
        self._reshare_soon()
        self._feed_all()
        self._expect_somebody(error)
        self._notice_end()

    def _is_suspect(self, number: int, flight: Flight) -> bool:
        return self._losses[number] >= _SUSPECT and not flight.settled and self._source.is_by_row

    def _lose(self, member: _Member, number: int, flight: Flight) -> None:
        """A row was at a site that is gone."""
        flight.bill(member.spent.get(number))
        error = WorkerLostError(f"the worker {member.name} died with this row in flight")
        if self._stop_reason is not None:
            self._leave(member, flight, error)
            self._settle(flight, "cancelled" if flight.attempts else "not_run")
            return
        if member.running[number] or self._losses[number]:
            flight.error = error
        for _ in range(member.running[number]):
            self._running -= 1
            self._losses[number] += 1
            if self._losses[number] < _GUILTY:
                self._emit(AttemptFailed(flight.row, flight.attempts, error, 0.0, 0.0))
        self._leave(member, flight, error)
        if self._losses[number] >= _GUILTY:
            self._failed(flight)

    def heard(self, site: str, report: Report) -> None:
        """A site reports."""
        member = self._members.get(site)
        if member is None or not self._began:
            return
        if not member.ready:
            member.ready, member.offset_s = True, self._elapsed()
            if "nobody" in self._timers:
                self._timers.pop("nobody").cancel()
            self._reshare_soon()
        for event in report.events:
            self._enter(member, event)
        if report.limits is not None:
            self._pace.learn(report.limits)
            self._limit()
        if report.asks:
            self._asks.extend((site, ask) for ask in report.asks)
            self._let_in()
        freed = report.in_force is not None and self._shares.confirm(site, report.in_force)
        if freed or self._source.is_empty:
            self._reshare_soon()
        if report.over and (report.crash is not None or self._stop_reason is None):
            self.left(site, report.crash)
        self._ask_again(member)
        self._feed(member)
        self._notice_end()

    def delivered(self, site: str, number: int, error: BaseException | None = None) -> None:
        """A parcel that is more than its rows is done with; or it could not be."""
        member = self._members.get(site)
        parcel = None if member is None else member.parcels.pop(number, None)
        if member is None or parcel is None:
            return
        if error is not None:
            for row in parcel.flights.keys() & member.open.keys():
                self._settle(member.open.pop(row), "not_run")
            self.stop(getattr(error, "reason", "crashed"), error, now=False)
        self._feed(member)
        self._notice_end()

    # -- what became of rows --------------------------------------------------------------------

    def _enter(self, member: _Member, event: Any) -> None:
        number = event.row
        flight = member.open.get(number)
        if flight is None:
            return
        if isinstance(event, RowFinished):
            self._row_finished(member, number, flight, event)
        elif isinstance(event, RowStarted):
            if not flight.attempts:
                flight.queued_s = self._elapsed()
            flight.attempts += 1
            member.running[number] += 1
            self._running += 1
            self._max_in_flight = max(self._max_in_flight, self._running)
            self._tell_of(RowStarted(flight.row, flight.attempts), flight)
        else:
            member.running[number] -= 1
            self._running -= 1
            self._attempt_over(member, number, flight, event)

    def _attempt_over(self, member: _Member, number: int, flight: Flight, event: Any) -> None:
        outcome: BaseException = asyncio.CancelledError()
        if isinstance(event, AttemptFailed):
            outcome = flight.error = event.error
            usage, before = getattr(outcome, "usage", None), member.spent.get(number)
            if usage is not None:
                member.spent[number] = usage if before is None else before + usage
            self._tell_of(event._replace(row=flight.row, attempt=flight.attempts), flight)
            self._heed(outcome)
        else:
            self._tell_of(AttemptLost(flight.row, event.attempt), flight)
        self._leave_once(member, flight, outcome)

    def _tell_of(self, event: Event, flight: Flight) -> None:
        if not flight.settled:  # a parcel may be brought a second time
            self._emit(event)

    def _heed(self, error: BaseException) -> None:
        """An endpoint that asks to wait asks all sites."""
        wait_s = getattr(error, "retry_after_s", None)
        if wait_s and (is_rate_limited(error) or is_overloaded(error)) and not self._limited:
            self._pace.leave(Row(-1, 0, 0, {}), error, self._loop.time())
            self._limit()

    def _row_finished(
        self, member: _Member, number: int, flight: Flight, event: RowFinished
    ) -> None:
        del member.open[number]
        member.settled_one(self._loop.time())
        self._running -= member.running.pop(number, 0)
        member.spent.pop(number, None)
        if event.attempts:
            is_first = event.attempts == flight.attempts
            if is_first and event.queued_ms is not None:
                flight.queued_s = member.offset_s + event.queued_ms / 1e3
            flight.started_at = event.started_at if is_first else flight.started_at
            flight.latency_s = (event.latency_ms or 0.0) / 1e3
            flight.waited_s += (event.waited_ms or 0.0) / 1e3
        flight.bill(event.usage)
        if event.error is not None or event.status == "ok":
            flight.error = event.error
        outcome: Answer | BaseException | None = event.answer or event.error
        self._leave(member, flight, outcome if event.attempts else None)
        if event.status == "ok" and event.answer is not None:
            self._succeeded(flight, event.answer)
        elif event.status == "failed":
            member.failed += 1
            self._failed(flight)
            self._tell(member)
            self._later("tell", _RESHARE_S, self._tell_all)  # there is less to share out
        elif event.status == "cancelled" or self._stop_reason is not None:
            self._settle(flight, event.status)
        else:  # a site that ends by itself: for another
            self._source.give_back([], [flight])
            self._feed_all()

    def _succeeded(self, flight: Flight, answer: Answer) -> None:
        if self._memory is None or answer.cached:
            self._settle(flight, "ok", answer)
            return
        task = self._loop.create_task(self._keep(flight, answer))
        self._keeping.add(task)
        task.add_done_callback(self._kept)

    async def _keep(self, flight: Flight, answer: Answer) -> None:
        try:
            await self._source.keep(flight, answer)
        except Exception as error:
            self.stop("store", error, now=False)
        self._settle(flight, "ok", answer)

    def _kept(self, task: asyncio.Task[None]) -> None:
        self._keeping.discard(task)
        self._notice_end()

    def _failed(self, flight: Flight) -> None:
        """Decide what a failed row means for the run."""
        error = flight.error
        again = flight.settled
        self._settle(flight, "failed")
        if again:
            return
        if self._failure.fail_fast:
            self.stop("fail_fast", error, now=True)
        elif getattr(error, "fatal", False):
            self.stop("fatal", error, now=False)
        elif self._failure.exceeded(self._failures, self._settled, self._total):
            self.stop("failures", error, now=False)

    def _settle(self, flight: Flight, status: Status, answer: Answer | None = None) -> None:
        if flight.settled:
            return
        self._settled += 1
        self._failures += status == "failed"
        flight.settled = True
        if answer is not None and answer.cached:
            flight.bill(answer.usage)
        self._emit(flight.finished(status, answer))
        self._source.settled(flight, status, answer, self._stop_reason is not None)

    # -- limits -------------------------------------------------------------------------------

    def _bound_of(self, row: Row) -> Bound:
        bound = self._told[row.number].bound
        assert bound is not None
        return bound

    def _limit(self) -> None:
        """From now on sites ask before each attempt."""
        if not self._limited:
            self._limited = True
            self._tell_all()

    def _let_in(self) -> None:
        """Let attempts in, in the order in which they were asked for."""
        granted: dict[str, list[int]] = {}
        while self._asks and not (self._paused or self._halted or self._stop_reason):
            site, ask = self._asks[0]
            member = self._members.get(site)
            flight = None if member is None else member.open.get(ask.number)
            if member is not None and flight is not None:
                if member.inside >= self._shares.of(site):  # it could not use it now
                    member.later.append(ask)
                elif self._admits(member, flight, ask):
                    granted.setdefault(site, []).append(ask.number)
                else:
                    break
            self._asks.popleft()
        for site, numbers in granted.items():
            self._tell(self._members[site], granted=numbers)

    def _ask_again(self, member: _Member) -> None:
        """A site has room, or more of it, for what it asked before."""
        if member.later and member.inside < self._shares.of(member.name):
            self._asks.extend((member.name, ask) for ask in member.later)
            member.later = []
            self._let_in()

    def _admits(self, member: _Member, flight: Flight, ask: Ask) -> bool:
        assert self._gates is not None
        self._told[ask.number] = ask
        if self._gates.shut:
            return False
        try:
            if not self._gates.admit(flight.row, self._loop.time()):
                return False
        except Exception as error:
            self.stop(getattr(error, "reason", "crashed"), error, now=False)
            return False
        self._inside[flight.row.number] += 1
        member.inside += 1
        return True

    def _leave_once(
        self, member: _Member, flight: Flight, outcome: Answer | BaseException | None
    ) -> None:
        number = flight.row.number
        if self._inside[number] and self._gates is not None:
            self._inside[number] -= 1
            member.inside -= 1
            self._gates.leave(flight.row, outcome, self._loop.time())

    def _leave(
        self, member: _Member, flight: Flight, outcome: Answer | BaseException | None
    ) -> None:
        """All that was let in of a row is over; of two attempts one has the outcome."""
        while self._inside[flight.row.number]:
            self._leave_once(member, flight, outcome)
            outcome = asyncio.CancelledError()
        del self._inside[flight.row.number]
        self._told.pop(flight.row.number, None)

    # -- what sites are told --------------------------------------------------------------------

    def _tell_all(self, *, beat: bool = False) -> None:
        for member in self._members.values():
            self._tell(member, beat=beat)

    def _tell(self, member: _Member, *, granted: Sequence[int] = (), beat: bool = False) -> None:
        stop = None if self._stop_reason is None else "now" if self._now else "soft"
        orders = Orders(
            self._shares.of(member.name), self._paused, self._dropping, stop,  # type: ignore[arg-type]
            self._tolerated(member), self._limited,
        )  # fmt: skip
        if granted or beat or orders != member.told:
            member.told = orders
            self._link.tell(member.name, orders._replace(granted=granted))

    def _tolerated(self, member: _Member) -> int | None:
        """Failures of its own that a site lets pass without being told: its share of what is
        left, so that all together pass no more."""
        limit, total = self._failure.max_failures, self._total or self._failure.least
        if limit is None or (isinstance(limit, float) and total is None):
            return None
        most = limit if isinstance(limit, int) else math.floor(limit * (total or 0))
        return member.failed + max(0, most - self._failures) // max(1, len(self._members))

    def _reshare_soon(self) -> None:
        self._later("reshare", _RESHARE_S, self._reshare)

    def _reshare(self) -> None:
        more = not self._source.is_empty and self._stop_reason is None
        ready = [m for m in self._members.values() if m.ready]
        wanted = {m.name: self._workers if more else len(m.open) for m in ready}
        for site in self._shares.split(self._workers, wanted):
            self._tell(self._members[site])
            self._ask_again(self._members[site])
            self._feed(self._members[site])

    # -- what sites are sent --------------------------------------------------------------------

    def _feed_all(self) -> None:
        for member in sorted(self._members.values(), key=lambda m: len(m.open)):
            self._feed(member)
        self._notice_end()

    def _feed(self, member: _Member) -> None:
        """Send a site rows while it has room for some."""
        if self._stop_reason is not None or self._halted or self._paused or not self._began:
            return
        room = self._room(member)
        if room <= 0 or member.name not in self._members:
            return
        if self._suspects and not member.open:
            flight = self._suspects.popleft()
            self._alone += 1
            parcel: Parcel | None = Parcel(-self._alone, {flight.row.number: flight})
        else:
            parcel = self._source.take(room)
        if parcel is not None:
            member.parcels[parcel.number] = parcel
            member.open |= parcel.flights
            self._link.send(member.name, parcel)
            if not parcel.is_told:
                del member.parcels[parcel.number]

    def _room(self, member: _Member) -> int:
        share, here = self._shares.of(member.name), len(member.open)
        is_for_one = (
            any(self._losses[n] >= _SUSPECT for n in member.open) if self._losses else False
        )
        if not member.ready or share == 0 or is_for_one:
            return 0
        ahead = max(_LEAST_AHEAD, share // 4, math.ceil(_AHEAD_S * member.rate))
        if here > share + ahead // 2:
            return 0
        room = share + ahead - here
        if (left := self._source.left) is None:
            return room
        # as guided self-scheduling does (Polychronopoulos and Kuck, 1987): less towards the end
        fair = math.ceil(left / (2 * len(self._members)))
        return min(room, max(share - here, fair))
