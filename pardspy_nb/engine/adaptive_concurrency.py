"""`max_workers="auto"`: the run measures how many rows in flight an endpoint can serve.

The limit follows congestion control (TCP's slow start and congestion avoidance, RFC 5681; Inspect
AI does the same for models). The limit doubles each round trip while no sign of trouble appears.
A 429 cuts the limit once for all attempts that were sent before the cut. 5xx, timeouts and broken
connections hold the limit for a while. The limit returns to its previous value where more rows in
flight only make each row slower.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from statistics import fmean, median
from typing import Literal, NamedTuple

from ..core.events import (
    AttemptFailed,
    AttemptLost,
    Event,
    RowFinished,
    RowStarted,
    StagePassed,
)
from .policies import is_overloaded, is_rate_limited

MOST = 512  # sockets are limited, too; only an explicit `max_workers` may be higher
_CUT = 0.9  # a cut leaves this share of the rows that were let in
_CHECKED_FROM = 16  # throughput is not measured with fewer rows in flight: the noise is too high
_WORTH = 1.2  # the least gain in throughput that justifies twice the rows in flight (2 at best)
_QUICKER = 0.7  # below this share of its old latency an endpoint is no longer saturated
_PATIENCE, _MOST_PATIENT = 20, 320  # round trips before one more row is tried after a 429
_MOST_PATIENT_S = 120.0
_CALM_S, _CALM_ROUNDS = 1.0, 2.0  # no growth for so long after trouble: seconds, round trips
_LATEST = 64  # latencies that are kept
_COHORT = 32  # the least number of attempts from which a throughput is measured
_SETTLED = 0.9  # this share of a cohort is enough: the slowest attempts are not waited for
_TRIES = 2  # the limit holds after so many increases that brought too little throughput


class _Start(NamedTuple):
    """The start of an attempt: its time, whether all workers were busy, and its cohort."""

    at: float
    all_busy: bool
    cohort: int


class _Cohort:
    """The first attempts begun at one number of rows in flight.

    All of these attempts count: quick attempts end first, and would alone make the number look
    better than it is.
    """

    def __init__(self, name: int, size: int) -> None:
        self.name, self._open, self._size = name, size, size
        self._latencies_s: list[float] = []

    def takes(self) -> bool:
        """Add one more attempt to the cohort; False if the cohort is complete."""
        if self._open == 0:
            return False
        self._open -= 1
        return True

    def add(self, latency_s: float | None) -> None:
        """One attempt of the cohort is over. `latency_s` is None if the attempt did not succeed."""
        if latency_s is None:
            self._size -= 1
        else:
            self._latencies_s.append(latency_s)

    def usual_s(self) -> float | None:
        """The mean latency of the quickest 90 % of the attempts, None until so many are over."""
        if self._open or len(self._latencies_s) < max(1.0, _SETTLED * self._size):
            return None
        return fmean(sorted(self._latencies_s)[: max(1, int(_SETTLED * self._size))])


class AdaptiveConcurrency:
    """Derives from a run's events how many rows should be in flight.

    Attributes:
        limit: the number of rows that should be in flight, from 1 to `most`.
    """

    def __init__(self, start: int, most: int = MOST) -> None:
        self.limit, self._most = max(1, min(start, most)), most
        self._mode: Literal["doubling", "probing", "holding"] = "doubling"
        self._in_flight = 0
        self._began: dict[int, list[_Start]] = {}  # attempts under way, by row number
        self._cut_at = self._calm_until = -1.0
        self._successes = 0  # with all workers busy, since the limit last changed
        self._ceiling = 0  # rows that were let in while other rows were refused
        self._crowd = 0  # rows in flight when the refusals began
        self._patience = _PATIENCE
        self._latest_s: deque[float] = deque(maxlen=_LATEST)
        self._goal = _CHECKED_FROM  # the limit at which throughput is measured next
        self._cohort: _Cohort | None = None  # the attempts measured at `_goal`
        self._cohorts = self._not_worth = 0
        self._throughput = 0.0  # rows a second at the previous goal
        self._held_s = 0.0  # the latency when the limit began to hold

    def observe(
        self,
        event: Event,
        loop: asyncio.AbstractEventLoop,
        follow: Callable[[AdaptiveConcurrency], None],
    ) -> None:
        """Take an event in, and have `follow` called if the limit has changed.

        A lower limit holds at once: where refusals cost no time, one worker could meet many of
        them in one turn of the loop.
        """
        before = self.limit
        if self.see(event, loop.time()):
            if self.limit < before:
                follow(self)
            else:
                loop.call_soon(follow, self)

    def see(self, event: Event, now: float) -> bool:
        """Take an event in. Returns whether the limit has changed. `now` is monotonic seconds."""
        limit = self.limit
        if isinstance(event, RowStarted):
            self._in_flight += 1
            all_busy = self._in_flight >= self.limit
            cohort = self._cohort.name if self._cohort and all_busy and self._cohort.takes() else 0
            start = _Start(now, all_busy, cohort)
            self._began.setdefault(event.row.number, []).append(start)
        elif isinstance(event, RowFinished):
            took_ms = event.latency_ms if event.status == "ok" else None
            latency_s = None if took_ms is None else took_ms / 1e3
            begun = self._ended(event.row.number, latency_s) if event.attempts else None
            if begun is not None and latency_s is not None:
                self._succeeded(begun, latency_s, now)
            elif begun is not None and event.status == "failed":
                self._failed(event.error, begun, now)
        elif isinstance(event, AttemptFailed):
            self._failed(event.error, self._ended(event.row.number), now)
        elif isinstance(event, AttemptLost):
            self._ended(event.row.number)
        elif isinstance(event, StagePassed):
            latency_s = None if event.latency_ms is None else event.latency_ms / 1e3
            begun = self._ended(event.row.number, latency_s) if event.was_asked else None
            if begun is not None and latency_s is not None:
                self._succeeded(begun, latency_s, now)
        if self.limit != limit:
            self._successes = 0
        return self.limit != limit

    def _ended(self, number: int, latency_s: float | None = None) -> _Start | None:
        """An attempt is over; it succeeded if `latency_s` is given."""
        started = self._began.get(number)
        if started is None:
            return None  # no attempt was under way: the row was cancelled before its retry
        self._in_flight -= 1
        start = started.pop(0)
        if not started:
            del self._began[number]
        if self._cohort and start.cohort == self._cohort.name:
            self._cohort.add(latency_s)
        return start

    # -- signs that fewer rows should be in flight ----------------------------------------------

    def _failed(self, error: BaseException | None, start: _Start | None, now: float) -> None:
        if error is None or start is None:
            return
        if is_rate_limited(error):
            self._refused(start.at, now)
        elif is_overloaded(error):
            self._calm_until = now + max(_CALM_S, _CALM_ROUNDS * self._usual_s())

    def _refused(self, began: float, now: float) -> None:
        """Handle a 429. All refusals of one round trip are one episode.

        The first refusal cuts the limit. The other refusals only show how many rows are let in.
        If few rows are let in, their number was not the cause (but a limit a minute, or a bad
        moment), and the limit may rise again as quickly as at first.
        """
        let_in = max(1, self._in_flight)
        if began > self._cut_at and now >= self._cut_at + self._usual_s():
            self._episode(let_in, now)
        self.limit = min(self.limit, let_in)
        self._ceiling = let_in if 2 * let_in >= self._crowd else self._most

    def _episode(self, let_in: int, now: float) -> None:
        if self._mode == "probing" and self.limit > self._ceiling:
            self._patience = min(2 * max(self._patience, _PATIENCE), _MOST_PATIENT)
        crowd = min(self.limit, let_in + 1)
        # a cut during a recovery lowers the target of the recovery only a little
        recovering = self._mode == "probing" and self.limit < self._crowd // 2
        self._crowd = max(crowd, int(_CUT * self._crowd)) if recovering else crowd
        self._cut_at, self._mode, self._cohort = now, "probing", None
        self.limit = max(1, int(_CUT * min(self.limit, let_in)))

    def _usual_s(self) -> float:
        return median(self._latest_s) if self._latest_s else 0.0

    # -- signs that more rows may be in flight --------------------------------------------------

    def _succeeded(self, start: _Start, latency_s: float, now: float) -> None:
        self._latest_s.append(latency_s)
        if not start.all_busy or now < self._calm_until:
            return
        self._successes += 1
        if self._mode == "doubling":
            self._double()
        elif self._mode == "probing":
            self._probe()
        elif self._successes >= _LATEST and self._usual_s() < _QUICKER * self._held_s:
            self._mode, self._goal = "doubling", 2 * self.limit

    def _double(self) -> None:
        if self.limit < self._goal:
            self.limit += self.limit < self._most
            return
        if self._cohort is None:
            self._cohorts += 1
            self._cohort = _Cohort(self._cohorts, max(_COHORT, self._goal))
        usual_s = self._cohort.usual_s()
        if usual_s is None:
            return
        self._cohort = None
        throughput = self._goal / max(usual_s, 1e-9)  # Little's law
        if throughput >= _WORTH * self._throughput:
            self._throughput, self._goal = throughput, 2 * self._goal
            return
        self._goal //= 2
        self.limit, self._throughput = self._goal, 0.0  # the previous limit, measured again
        self._not_worth += 1
        if self._not_worth == _TRIES:
            self._mode, self._held_s, self._not_worth = "holding", usual_s / 2, 0

    def _probe(self) -> None:
        """Raise the limit by one, in three phases.

        Up to half of the rows in flight at which 429s began, each success raises the limit. Up to
        the number of rows that were let in, each round trip raises the limit. Beyond that number
        the limit rises only after several round trips (`_patience`). If the number of rows let in
        is unknown, and twice the rows are in flight by now, the 429s came from a bad moment, and
        the limit doubles again.
        """
        if self.limit < self._crowd // 2:
            self.limit += 1
            return
        if self._ceiling == self._most and self.limit >= 2 * self._crowd:
            self._mode, self._goal, self._throughput = "doubling", 2 * self.limit, 0.0
            return
        patient = min(self._patience, max(1.0, _MOST_PATIENT_S / max(self._usual_s(), 1e-3)))
        rounds = 1 if self.limit < self._ceiling else patient
        if self._successes >= rounds * self.limit:
            if self.limit > self._ceiling:  # the last increase was let in: more may be
                self._patience = max(1, self._patience // 4)
            self.limit += self.limit < self._most
