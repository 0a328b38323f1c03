"""The figures of a run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

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
        values = values[np.isfinite(values)]
        if not len(values):
            return cls()
        p50, p90, p99 = (float(p) for p in np.percentile(values, [50, 90, 99]))
        low, mean, high = float(values.min()), float(values.mean()), float(values.max())
        return cls(low, mean, high, p50, p90, p99)


@dataclass(frozen=True)
class ParallelMetrics:
    """Counts, latency, time and usage of a run.

    `total` counts rows (samples counted singly); `cached` rows came from memory; `not_run`
    were never started; `elapsed_s` runs from the first row on (a model's start is not in it),
    and `rows_per_s` counts rows that were asked, so neither cached nor cancelled ones; `usage`
    is None when nothing reported any; `saved` is what the cached rows had used when they were
    asked, None without any; `duplicates` counts second requests of slow rows (`hedge`);
    `judged` has, by class output whose true labels the run was given (`truth`), how many answers
    have the true label and how many were compared. `repaired` counts answers that did not fit as
    they came, and were read or asked for again.
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
    saved: Usage | None = None
    duplicates: int = 0
    repaired: int = 0
    judged: dict[str, tuple[int, int]] | None = None

    @property
    def accuracy(self) -> dict[str, float]:
        """The share of compared answers that have the true label, by class output."""
        return {name: right / n for name, (right, n) in (self.judged or {}).items() if n}

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts and numbers, fit for JSON."""
        return asdict(self)
