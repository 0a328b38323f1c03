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

    `total` counts rows; each sample counts as one row. `cached` rows came from the cache;
    `not_run` rows were never started. `elapsed_s` begins with the first row, so a model's start
    is not included. `rows_per_s` counts rows with a request, so neither cached nor cancelled
    rows. `usage` is None if no call reported any. `saved` is the usage of the cached rows when
    they were first answered, None without cached rows. `duplicates` counts second requests of
    slow rows (`hedge`). `judged` has, for each class output with known true labels (`truth`), how
    many answers have the true label and how many were compared, and `unanswered` how many rows with
    a true label have no answer (failed, cancelled or not run; skipped rows do not count).
    `repaired` counts answers that did not fit at first, and were repaired or requested again.
    `skipped` rows have a blank input and were not asked; of the failed rows, `hopeless` ones were
    not asked either, because an earlier run found that they are refused.
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
    skipped: int = 0
    hopeless: int = 0
    unanswered: dict[str, int] | None = None

    @property
    def accuracy(self) -> dict[str, float]:
        """The share of compared answers that have the true label, by class output."""
        return {name: right / n for name, (right, n) in (self.judged or {}).items() if n}

    @property
    def accuracy_all(self) -> dict[str, float]:
        """As `accuracy`, but of all rows with a true label: one without an answer is wrong."""
        judged, lack = self.judged or {}, self.unanswered or {}
        whole = {name: n + lack.get(name, 0) for name, (_, n) in judged.items()}
        return {name: judged[name][0] / n for name, n in whole.items() if n}

    def to_dict(self) -> dict[str, Any]:
        """Plain dicts and numbers, fit for JSON."""
        return asdict(self)
