"""What a run's events add up to: one accumulated state, and the figures drawn from it."""

from __future__ import annotations

import time
from array import array
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from .events import AttemptFailed, Event, RowFinished, RowStarted, RunFinished, RunStarted
from .usage import Usage


@dataclass(frozen=True)
class Latency:
    """Milliseconds of the successful rows' calls; None when no row succeeded."""

    min_ms: float | None = None
    avg_ms: float | None = None
    max_ms: float | None = None
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None

    @classmethod
    def of(cls, values_ms: Iterable[float]) -> Latency:
        """The figures of these latencies; percentiles interpolate linearly (numpy's default)."""
        import numpy as np

        values = np.asarray(values_ms, dtype=float)
        if not len(values):
            return cls()
        p50, p90, p99 = (float(p) for p in np.percentile(values, [50, 90, 99]))
        low, mean, high = float(values.min()), float(values.mean()), float(values.max())
        return cls(low, mean, high, p50, p90, p99)


@dataclass(frozen=True)
class ParallelMetrics:
    """Counts, latency, time and usage of a run.

    `total` counts rows (samples counted singly); `cached` rows came from memory; `not_run`
    were never started; `usage` is None when nothing reported any.
    """

    total: int
    successes: int
    failures: int
    cached: int
    not_run: int
    cancelled: int
    latency: Latency
    elapsed_s: float
    rows_per_s: float
    usage: Usage | None
    max_in_flight: int

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts and numbers, fit for JSON."""
        return asdict(self)


class Tally:
    """The accumulated state of a run: constant work per event."""

    def __init__(self) -> None:
        self.total: int | None = None
        self.done = self.ok = self.failed = self.cancelled = self.not_run = self.in_flight = 0
        self.retries = self.max_in_flight = 0
        self.usage: Usage | None = None
        self.started = self.finished = False
        self.latencies_ms = array("d")
        self._began = time.monotonic()
        self._elapsed_s: float | None = None

    def add(self, event: Event) -> None:
        """Fold one event in."""
        if isinstance(event, RowStarted):
            self.in_flight += 1
        elif isinstance(event, RowFinished):
            self._finish(event)
        elif isinstance(event, AttemptFailed):
            self.in_flight -= 1
            self.retries += 1
        elif isinstance(event, RunStarted):
            self.total = event.total
            self.started = True
            self._began = time.monotonic()
        elif isinstance(event, RunFinished):
            self.finished = True
            self.in_flight = 0
            self._elapsed_s = event.elapsed_s
            self.max_in_flight = event.max_in_flight

    def _finish(self, event: RowFinished) -> None:
        if event.usage is not None:
            self.usage = event.usage if self.usage is None else self.usage + event.usage
        if event.status == "not_run":
            self.not_run += 1
            return
        self.done += 1
        if event.status == "ok":
            self.ok += 1
            self.in_flight -= 1
            self.latencies_ms.append(event.latency_ms or 0.0)
        elif event.status == "failed":
            self.failed += 1
            self.in_flight -= 1
        else:
            self.cancelled += 1

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began, or that it took."""
        return time.monotonic() - self._began if self._elapsed_s is None else self._elapsed_s

    @property
    def rows_per_s(self) -> float:
        """Settled rows a second."""
        return self.done / self.elapsed_s if self.done and self.elapsed_s > 0 else 0.0

    def metrics(self) -> ParallelMetrics:
        """The figures as they stand now."""
        total = self.total if self.total is not None else self.done + self.not_run
        return ParallelMetrics(
            total=total,
            successes=self.ok,
            failures=self.failed,
            cached=0,
            not_run=total - self.done,
            cancelled=self.cancelled,
            latency=Latency.of(self.latencies_ms),
            elapsed_s=self.elapsed_s,
            rows_per_s=self.rows_per_s,
            usage=self.usage,
            max_in_flight=self.max_in_flight,
        )
