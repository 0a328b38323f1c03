"""A worker engine: an engine that gets its rows and commands from the coordinator."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from itertools import islice
from typing import Any

from ...core.clock import Clock
from ...core.events import (
    Event,
    Preparing,
    Row,
    RowFinished,
    RunFinished,
    RunStarted,
    SettingsChanged,
)
from ...core.options import Options
from ...engine.engine import Engine
from ...engine.policies import FailurePolicy
from ...engine.protocols import Cache
from ...engine.rate_limit_headers import HeardLimits, Limits
from ...engine.row_queue import NOT_YET
from ...modules.invocation import Caller
from ...modules.module import Module
from ..engine_factory import calling, engine_config, make_engine, prepare
from .messages import AttemptRequest, Command, Report
from .remote_limiter import RemoteLimiter

_GATHER_S = 0.01  # events are sent together, with at most this delay
SILENCE_S = 60.0  # without a command for so long, the run counts as dead: nobody waits


class Feed:
    """The source of an engine's rows, to which rows are added during the run."""

    def __init__(self) -> None:
        self.rows: deque[Row] = deque()

    def __iter__(self) -> Feed:
        return self

    def __next__(self) -> Any:
        return self.rows.popleft() if self.rows else NOT_YET


class WorkerEngine:
    """Runs the rows that the coordinator sends. Call its methods on the thread of its event loop.

    Args:
        send: takes each report; must be quick.
        cache: remembers answers at this worker; None if the coordinator remembers them.
    """

    def __init__(
        self,
        module: Module,
        options: Options,
        send: Callable[[Report], None],
        *,
        clock: Clock,
        cache: Cache | None = None,
    ) -> None:
        self._module, self._options, self._send = module, options, send
        self._clock, self._cache = clock, cache
        self._feed = Feed()
        self._limiter = RemoteLimiter(self._request, self._upcoming)
        self._command = Command(0)
        self._failed = 0  # rows that failed
        self._kept: dict[int, Callable[[RowFinished], None]] = {}  # by row number
        self._counted = {n for n, of in module.outputs.items() if of.labels is not None}
        self._confirmed: int | None = None
        self._events: list[Event] = []
        self._requests: list[AttemptRequest] = []
        self._headers = HeardLimits()
        self._limits_seen: Limits | None = None
        self._flush_at: asyncio.TimerHandle | None = None
        self._engine: Engine | None = None
        self._caller: Caller | None = None
        self._end: RunFinished | None = None
        self._last_command_at = 0.0
        self._stopped = self._is_paused = self._holds = False

    async def run(self) -> None:
        """Run until a command to stop arrives, or until no command comes for too long."""
        self._loop = asyncio.get_running_loop()
        self._last_command_at = self._loop.time()
        crash: BaseException | None = None
        try:
            await self._run()
            if self._end is not None and self._end.reason in ("crashed", "source", "store"):
                crash = self._end.error
        except BaseException as error:
            crash = error
        self._emit_rest()
        self._flush(over=True, crash=crash)

    async def _run(self) -> None:
        async with calling(self._module, self._options, self._hear) as caller:
            await prepare(self._module)
            self._caller = caller
            config = engine_config(
                self._module,
                self._options,
                total=None,
                max_workers=1,
                failure=FailurePolicy(None, self._options.fail_fast),
            )
            self._engine = make_engine(
                self._module,
                caller,
                self._feed,
                self._emit,
                config,
                self._clock,
                self._cache,
                [self._limiter],
            )
            self._engine.controls.set_workers(0)
            self._watch()
            self._loop.call_soon(self._begin)
            await self._engine.run()

    def _begin(self) -> None:
        """Report for the first time, and follow the latest command."""
        self._confirm(0)
        command, self._command = self._command, Command(0)
        self.obey(command)

    # -- rows and commands --------------------------------------------------------------------

    def add(self, rows: Iterable[Row], keep: Callable[[RowFinished], None] | None = None) -> None:
        """Run these rows, too.

        If the worker keeps the results, `keep` is called with the end of each row, and reports
        hold only the outputs that the run counts.
        """
        rows = list(rows)
        self._feed.rows.extend(rows)
        if keep is not None:
            self._kept |= dict.fromkeys((row.number for row in rows), keep)
        if self._stopped:
            self._emit_rest()
        elif self._engine is not None:
            self._engine.wake()

    def obey(self, command: Command) -> None:
        """Follow a command from now on. A stop is final: the command of a run's end takes another
        way, so older commands may arrive after it."""
        before = self._command
        if before.stop is not None:
            command = command._replace(
                stop="now" if "now" in (before.stop, command.stop) else "soft"
            )
        self._command = command
        engine = self._engine
        if engine is None:
            return  # `_begin` follows the command once there is an engine
        self._last_command_at = self._loop.time()
        self._limiter.must_request = command.must_request
        self._limiter.grant(command.granted)
        if command.share != before.share:
            engine.controls.set_workers(command.share)
        if command.failure_allowance is None or self._failed <= command.failure_allowance:
            self._holds = False
        self._pause(command.is_paused or self._holds)
        if command.drops_stragglers:
            engine.controls.drop_stragglers()
        if command.stop is not None:
            self._stop(now=command.stop == "now")
        engine.wake()
        self._settle_share()

    def _pause(self, paused: bool) -> None:
        if self._engine is not None and paused != self._is_paused:
            self._is_paused = paused
            controls = self._engine.controls
            (controls.pause if paused else controls.resume)()

    def _stop(self, *, now: bool) -> None:
        self._stopped = True
        if self._engine is not None:
            self._engine.controls.stop("cancelled", now=now)

    def _emit_rest(self) -> None:
        while self._feed.rows:
            row = self._feed.rows.popleft()
            self._emit(RowFinished(row, "not_run", None, None, 0, *[None] * 5))

    def _check_failures(self) -> None:
        """After more failures than allowed, start no rows until a command allows more."""
        failure_allowance = self._command.failure_allowance
        if failure_allowance is not None and self._failed > failure_allowance:
            self._holds = True
            self._pause(True)

    def _watch(self) -> None:
        if self._loop.time() - self._last_command_at > SILENCE_S:
            self._stop(now=True)
        self._loop.call_later(SILENCE_S / 4, self._watch)

    # -- events and reports -------------------------------------------------------------------

    def _emit(self, event: Event) -> None:
        if isinstance(event, RunFinished):
            self._end = event
            return
        if isinstance(event, Preparing | RunStarted | SettingsChanged):
            return
        self._failed += isinstance(event, RowFinished) and event.status == "failed"
        self._events.append(self._reported(event)._replace(row=event.row.number))
        self._flush_soon()
        self._check_failures()
        self._settle_share()

    def _reported(self, event: Any) -> Any:
        keep = self._kept.pop(event.row.number, None) if isinstance(event, RowFinished) else None
        if keep is None:
            return event
        keep(event)
        if event.answer is None:
            return event
        outputs = {n: v for n, v in event.answer.outputs.items() if n in self._counted}
        return event._replace(answer=event.answer._replace(outputs=outputs, text=None))

    def _request(self, rows: list[Row]) -> None:
        assert self._caller is not None
        bounded = self._options.max_cost_usd is not None
        for row in rows:
            bound = self._caller.worst_case(row) if bounded else None
            self._requests.append(AttemptRequest(row.number, self._caller.size(row), bound))
        self._flush_soon()

    @property
    def _in_flight(self) -> int:
        return 0 if self._engine is None else self._engine.in_flight

    def _upcoming(self) -> Sequence[Row]:
        room = max(0, self._command.share - self._in_flight - 1)
        rows = islice(self._feed.rows, room)
        if self._cache is None or self._engine is None:
            return list(rows)
        # rows that will wait for an equal one make no attempt
        return self._engine.next_to_ask(rows)

    def _hear(self, headers: Mapping[str, str]) -> None:
        heard = self._headers.of(headers)
        if heard is not None and heard != self._limits_seen:
            self._limits_seen = heard
            self._loop.call_soon_threadsafe(self._tell_limits)

    def _tell_limits(self) -> None:
        self._flush(limits=self._limits_seen)

    def _settle_share(self) -> None:
        """Confirm the share in force: a smaller share once no more rows than that are in flight."""
        keeps_to = max(self._command.share, self._in_flight)
        if self._confirmed is not None and keeps_to != self._confirmed:
            self._confirm(keeps_to)

    def _confirm(self, in_force: int) -> None:
        self._confirmed = in_force
        self._flush_soon()

    def _flush_soon(self) -> None:
        if self._flush_at is None:
            self._flush_at = self._loop.call_later(_GATHER_S, self._flush)

    def _flush(self, **more: Any) -> None:
        if self._flush_at is not None:
            self._flush_at.cancel()
            self._flush_at = None
        report = Report(self._events, self._requests, self._confirmed, **more)
        self._events, self._requests = [], []
        self._send(report)
