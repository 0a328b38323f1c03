"""Estimates the use of a run from a pilot of some of its rows."""

from __future__ import annotations

import math
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from statistics import fmean, variance
from typing import Any

from ..core.events import Row
from ..core.intervals import Interval, Z, wilson
from ..core.options import Options, takes_options
from ..core.usage import Usage
from ..display import html
from ..modules.acceptance import pilot_size
from ..modules.module import Module, from_module
from ..modules.provenance import Sources
from ..store.cache import open_cache
from ..tables.results import Result
from ..tables.rows import read_rows
from .plan import plan_run
from .run import Run

_ASSUMED_WORKERS = 32  # for "auto", whose number is known only during the run


@dataclass(frozen=True)
class Estimate:
    """The result of `estimate`; a notebook shows it as HTML.

    Attributes:
        rows: the rows of the whole run, each sample counted as one.
        remembered: rows that cost nothing because their answers are in the store; the pilot's rows
            are among them.
        equal: rows that cost nothing because they equal another row of the run.
        to_ask: the other rows.
        pilot: the pilot's frame.
        pilot_cost_usd: the cost of the pilot just now.
        tokens, cost_usd, time_s: the use of the rows still to be asked; None if the pilot does not
            tell. The time is for `workers`.
        failure_rate: the share of rows that fail after all their attempts.
        workers: the number of workers that `time_s` assumes.
    """

    rows: int
    remembered: int
    equal: int
    to_ask: int
    pilot: Any
    pilot_cost_usd: float | None
    tokens: Interval | None
    cost_usd: Interval | None
    time_s: Interval | None
    failure_rate: Interval
    workers: int

    @property
    def figures(self) -> list[tuple[str, str, str]]:
        """The figures, as (name, expected, 95 % interval)."""
        spared = (("remembered", self.remembered), ("equal rows", self.equal))
        shown = [("rows", f"{self.rows:,}", "")]
        shown += [(name, f"{n:,}", "") for name, n in spared if n]
        shown += [("to ask", f"{self.to_ask:,}", "")]
        shown += [
            ("tokens", *_in_words(self.tokens, html.number)),
            ("cost", *_in_words(self.cost_usd, html.dollars)),
            (f"time, {self.workers} workers", *_in_words(self.time_s, html.duration)),
            ("failed rows", *_in_words(self.failure_rate, "{:.1%}".format)),
        ]
        return shown

    @property
    def _pilot_words(self) -> str:
        cost = html.dollars(self.pilot_cost_usd)
        return f"From a random pilot of {len(self.pilot):,} rows, which cost {cost}"

    def __repr__(self) -> str:
        lines = (f"{n:>20}  {x:<10} {between}".rstrip() for n, x, between in self.figures)
        return "\n".join([f"{self._pilot_words}; 95 % intervals:", *lines])

    def _repr_html_(self) -> str:
        head = ("", "expected", "95 % interval")
        return html.box(
            [html.note(f"{self._pilot_words}."), html.table(head, self.figures)], html.BLUE
        )


def _in_words(interval: Interval | None, words: Any) -> tuple[str, str]:
    if interval is None:
        return "unknown", ""
    low, expected, high = map(words, interval)
    return expected, "" if low == high else f"{low} to {high}"


@takes_options
def estimate(
    module: Any, inputs: Any, *, sample: int = 20, seed: int = 0, **options: Any
) -> Estimate:
    """Run a random pilot and project tokens, cost, time and failures of the whole run.

    The pilot's answers go into the store as usual, so the run itself does not pay for these rows
    again. With the same `seed` a second estimate costs nothing. Rows that are remembered or equal
    to others are projected to cost nothing.

    A sum over the R rows still to be asked is projected as R times the mean of the n asked rows,
    plus or minus t(n-1) · s · sqrt(R + R²/n) (the prediction interval of a sum; rows are taken as
    independent). The failure rate has Wilson's interval.

    Args:
        module, inputs: as in `run_parallel`, but no iterator.
        sample: the number of rows of the pilot; for a cascade, at least the number of its own.
        seed: decides which rows are in the pilot.
        options: the options of the planned run; see `Options`.

    Raises:
        ValueError: no rows, fewer than 2 rows in the pilot, or an iterator (its rows are unknown).
        ParallelError: the pilot ended early, as in `run_parallel`.
    """
    described, given = from_module(module), Options.of(options)
    described = described.with_confidence() if given.confidence else described
    if sample < 2:
        raise ValueError(f"sample must be at least 2, got {sample!r}")
    batch = read_rows(inputs, described.inputs, described.outputs, given)
    if not batch.total:
        raise ValueError("estimate needs rows it can choose from: pass a list, a table or a path")
    rows = [row for row in batch.rows if not row.is_blank]
    is_staged = described.router is not None and not described.router.is_decided
    if is_staged:  # asked of all models; it tells how many answers of the first are kept
        sample = max(sample, pilot_size(len(rows)))
        described = replace(described, router=described.source.router(pilot=sample))
    chosen = sorted(random.Random(seed).sample(range(len(rows)), min(sample, len(rows))))
    pilot = replace(batch, rows=iter([rows[i] for i in chosen]), total=len(chosen))
    options_of_pilot = replace(
        given, max_failures=None, fail_fast=False, return_all=True, only_successful=False
    )
    run = Run(plan_run(described, pilot, options_of_pilot))
    df = run.start().result()
    spared = _spared(rows, described, given)
    auto = described.known_workers or _ASSUMED_WORKERS
    workers = auto if given.max_workers == "auto" else given.max_workers
    adjust = described.router.projected(len(rows)) if is_staged else None
    return _project(df, run, workers, len(rows), *spared, adjust)


def _spared(rows: Sequence[Row], module: Module, options: Options) -> tuple[int, int]:
    """The number of remembered rows, and the number of other rows that equal another row."""
    cache = open_cache(options, module, Sources(module, options.cache_key), total=len(rows))
    if cache is None:
        return 0, 0
    try:
        keys = [cache.key(row) for row in rows]
        known = set() if cache.store is None else cache.store.get_many(filter(None, keys)).keys()
        if module.router is not None and cache.store is not None:  # free if the last one knows it
            last = [cache.key(row._replace(stage=len(module.each) - 1)) for row in rows]
            answered = cache.store.get_many(filter(None, last)).keys()
            pairs = zip(keys, last, strict=True)
            known = {own for own, of_last in pairs if own in known and of_last in answered}  # type: ignore[misc]
    finally:
        cache.close()
    new = [key for key in keys if key is None or key not in known]
    distinct = len({key for key in new if key is not None}) + new.count(None)
    return len(keys) - len(new), len(new) - distinct


def _project(
    df: Any,
    run: Run,
    workers: int,
    rows: int,
    remembered: int,
    equal: int,
    adjust: Callable[[int, Usage], Usage] | None,
) -> Estimate:
    settled = list(run.results)
    used = [_used(f) for f in settled]
    if adjust is not None:
        used = [u and adjust(f.number, u) for f, u in zip(settled, used, strict=True)]
    if not any(f.status == "ok" for f in settled):
        used = [None for _ in settled]  # failures do not tell what answers cost
    times = [
        u.latency_ms / 1e3
        if (f.origin or adjust) and u
        else 0.0
        if math.isnan(f.latency_ms)
        else f.latency_ms / 1e3
        for f, u in zip(settled, used, strict=True)
    ]
    to_ask = rows - remembered - equal
    time_s = _sum_of(times, to_ask)
    failed = sum(f.status == "failed" for f in settled)
    workers = min(workers, max(1, to_ask))
    return Estimate(
        rows=rows,
        remembered=remembered,
        equal=equal,
        to_ask=to_ask,
        pilot=df,
        pilot_cost_usd=run.metrics.usage.cost_usd if run.metrics.usage else None,
        tokens=_sum_of([u.total_tokens if u else None for u in used], to_ask),
        cost_usd=_sum_of([u.cost_usd if u else None for u in used], to_ask),
        time_s=time_s and Interval(*(s / workers for s in time_s)),
        failure_rate=wilson(failed, len(settled)),
        workers=workers,
    )


def _used(f: Result) -> Usage | None:
    """The usage of asking a row. A failed row that reported no usage was not billed."""
    if f.origin is not None:
        usage: Usage | None = f.origin.usage
        return usage
    return f.usage if f.usage is not None or f.status == "ok" else Usage()


def _sum_of(seen: Sequence[float | None], rows: int) -> Interval | None:
    """The projected sum over `rows` further rows; None if a value in `seen` is not known."""
    known = [value for value in seen if value is not None]
    if not rows:
        return Interval(0.0, 0.0, 0.0)
    if len(known) < max(2, len(seen)):
        return None
    n, mean = len(known), fmean(known)
    spread = _t(n - 1) * math.sqrt(variance(known) * (rows + rows * rows / n))
    return Interval(max(0.0, mean * rows - spread), mean * rows, mean * rows + spread)


def _t(freedom: int) -> float:
    """The 97.5 % quantile of Student's t (Abramowitz and Stegun 26.7.5; from a table up to
    three degrees of freedom, where the expansion is poor)."""
    exact = {1: 12.706, 2: 4.303, 3: 3.182}
    if freedom in exact:
        return exact[freedom]
    z, v = Z, freedom
    return (
        z
        + (z**3 + z) / (4 * v)
        + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
        + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3)
    )
