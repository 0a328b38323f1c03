"""Several modules or models over the same rows, side by side."""

from __future__ import annotations

import importlib
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import pandas as pd

from ..core.intervals import Z
from ..core.options import takes_options
from ..core.usage import total
from ..display import html, notebook
from ..display.html import dollars, milliseconds
from ..runs.api import needs_cache_key, run_parallel
from ..tables.frame import class_outputs, metrics_of
from .evaluate import Evaluation, evaluate

_QUALITY = ("accuracy", "low", "high", "accuracy_all", "macro_f1", "kappa")


class Comparison(pd.DataFrame):
    """The result of `compare`: one row per module, by its name. A notebook shows it as HTML.

    Columns: `rows`, `ok`, `failed`, `skipped`; with true labels `accuracy` (of answered rows),
    `low`, `high` (Wilson, 95 %), `accuracy_all` (a row without an answer is wrong, a skipped one
    does not count), `macro_f1` and `kappa` (of answered rows); `cost_usd` and `total_tokens` (what
    the rows cost when they were asked, remembered rows included), `p50_ms`, `p90_ms` (of rows asked
    now), `elapsed_s`.

    Attributes:
        frames: each module's result, by name.
        evaluations: each module's `Evaluation`, by name; empty without true labels.
        tests: one row per pair of modules: `a`, `b`, `only_a`, `only_b` (rows that only this
            module has right), `difference` of `accuracy_all` (a minus b) with `low`, `high` (95 %,
            Wald for pairs), `p_value` (McNemar's exact test, two-sided) and `p_holm` (the p-value
            adjusted for the number of pairs by Holm's method). Without true labels `a`, `b` and
            `agreement`.
    """

    _metadata: ClassVar[list[str]] = ["frames", "evaluations", "tests"]
    frames: dict[str, pd.DataFrame]
    evaluations: dict[str, Evaluation]
    tests: pd.DataFrame

    @property
    def _constructor(self) -> type[pd.DataFrame]:
        return pd.DataFrame

    def _display_(self) -> Any:
        """What marimo shows, which would show a plain table else."""
        return notebook.as_marimo(self._repr_html_())

    def _repr_html_(self) -> str:
        judged = "accuracy" in self
        quality = ["accuracy", "95 %", "of all rows", "macro F1", "kappa"] if judged else []
        lines = []
        for name, row in self.iterrows():
            good = (
                [
                    f"{row['accuracy']:.1%}",
                    f"{100 * row['low']:.0f}–{row['high']:.0%}",
                    f"{row['accuracy_all']:.1%}",
                    f"{row['macro_f1']:.2f}",
                    f"{row['kappa']:.2f}",
                ]
                if judged
                else []
            )
            times = [
                milliseconds(None if pd.isna(row[p]) else row[p]) for p in ("p50_ms", "p90_ms")
            ]
            cost = dollars(None if pd.isna(row["cost_usd"]) else row["cost_usd"])
            lines.append([str(name), *good, f"{int(row['failed']):,}", cost, *times])
        head = ["module", *quality, "failed", "cost", "p50", "p90"]
        return html.box([html.table(head, lines), *map(html.note, self._sentences())], html.BLUE)

    def _sentences(self) -> Iterator[str]:
        t: Any
        for t in self.tests.itertuples():
            if "p_value" not in self.tests:
                yield f"{t.a} and {t.b} agree on {t.agreement:.1%} of the rows both answered."
                continue
            yield (
                f"{t.a} minus {t.b}: {100 * t.difference:+.1f} points ({100 * t.low:+.1f} to "
                f"{100 * t.high:+.1f}); only {t.a} is right on {t.only_a:,} rows, only {t.b} on "
                f"{t.only_b:,}: p = {t.p_holm:.2g}"
            )


@takes_options
def compare(
    modules: Mapping[str, Any], inputs: Any, *, pred: str | None = None, **options: Any
) -> Comparison:
    """Run several modules over the same rows, one after the other, and compare them.

    Args:
        modules: by name.
        inputs: as in `run_parallel`, but no iterator, because the rows are needed more than once.
        pred: the output to compare; None for the only class output.
        options: see `Options`. `truth` gives the true labels and needs scikit-learn
            (`pardspy_nb[evaluate]`). Failed rows do not end a run unless `max_failures` is given.

    Raises:
        ValueError: fewer than two modules, an iterator, samples (`repeat`), or bad input.
        ParallelError: as in `run_parallel`; the answers of the earlier modules are in the store.
    """
    if isinstance(modules, list | tuple):
        raise ValueError("compare shows modules by name: {'a': predict_a, 'b': predict_b}")
    if not isinstance(modules, Mapping) or len(modules) < 2:
        raise ValueError("compare needs at least two modules: {'a': predict_a, 'b': predict_b}")
    if isinstance(inputs, Iterator):
        raise ValueError("compare needs the rows more than once; pass list(rows)")
    if options.get("repeat", 1) != 1:
        raise ValueError("compare takes one sample a row; compare the votes of runs with evaluate")
    given = {"max_failures": None, **options}
    truth = options.get("truth")
    if isinstance(truth, Mapping):
        if pred is None and len(truth) != 1:
            raise ValueError(f"pass pred= with the output to compare, one of {list(truth)}")
        pred = pred or next(iter(truth))
        if pred not in truth:
            raise ValueError(f"truth has no labels of {pred!r}; it has {list(truth)}")
        truth = truth[pred]
    if truth is not None:  # a missing package should be found before anything is paid
        importlib.import_module("scipy.stats")
        importlib.import_module("sklearn.metrics")
    key = options.get("cache_key")
    frames = {}
    for name, module in modules.items():
        # modules that only a cache_key vouches for are told apart by their names
        is_told_apart = key is None or not needs_cache_key(module)
        mine = given if is_told_apart else {**given, "cache_key": f"{key} of {name}"}
        mine = {"name": str(name), **mine}
        frames[name] = run_parallel(module, inputs, **mine)
    if len({len(df) for df in frames.values()}) > 1:
        raise ValueError("the results have different rows; leave out return_all, only_successful")
    evaluations = {}
    if truth is not None:
        evaluations = {name: evaluate(df, truth, pred) for name, df in frames.items()}
    comparison = Comparison([_line(df, evaluations.get(n)) for n, df in frames.items()])
    comparison.index = pd.Index(list(frames), name="module")
    comparison.frames, comparison.evaluations = frames, evaluations
    comparison.tests = _tests(frames, evaluations, pred)
    return comparison


def _line(df: pd.DataFrame, evaluation: Evaluation | None) -> dict[str, Any]:
    metrics = metrics_of(df)
    usage = total([metrics.usage, metrics.saved])
    line: dict[str, Any] = {
        "rows": metrics.total,
        "ok": metrics.successes,
        "failed": metrics.failures,
        "skipped": metrics.skipped,
    }
    if evaluation is not None:
        whole = evaluation[evaluation["label"].isna()].set_index("metric")
        line |= {name: whole.loc[name, "value"] for name in _QUALITY if name in whole.index}
        line |= {bound: whole.loc["accuracy", bound] for bound in ("low", "high")}
        line |= {name: line.pop(name) for name in _QUALITY}  # in this order
    return line | {
        "cost_usd": usage.cost_usd if usage else None,
        "total_tokens": usage.total_tokens if usage else None,
        "p50_ms": math.nan if metrics.latency.p50_ms is None else metrics.latency.p50_ms,
        "p90_ms": math.nan if metrics.latency.p90_ms is None else metrics.latency.p90_ms,
        "elapsed_s": metrics.elapsed_s,
    }


def _tests(
    frames: Mapping[str, pd.DataFrame], evaluations: Mapping[str, Evaluation], pred: str | None
) -> pd.DataFrame:
    pairs = list(itertools.combinations(frames, 2))
    if not evaluations:
        return pd.DataFrame(
            [
                {"a": a, "b": b, "agreement": _agreement(frames[a], frames[b], pred)}
                for a, b in pairs
            ]
        )
    tests = pd.DataFrame([_mcnemar(a, b, evaluations) for a, b in pairs])
    tests["p_holm"] = _holm(tests["p_value"].tolist())
    return tests


def _mcnemar(a: str, b: str, evaluations: Mapping[str, Evaluation]) -> dict[str, Any]:
    """McNemar's exact test (McNemar 1947): of the rows that only one module has right, does either
    module have significantly more than half? The interval of the difference is Wald's for pairs
    (Agresti 2013, 11.1.1)."""
    from scipy.stats import binomtest

    left, right = evaluations[a].correct, evaluations[b].correct
    only_a, only_b, n = int((left & ~right).sum()), int((right & ~left).sum()), len(left)
    differ = only_a + only_b
    p_value = float(binomtest(only_a, differ).pvalue) if differ else 1.0
    shift = (only_a - only_b) / n
    half = Z * math.sqrt(max(0.0, differ - (only_a - only_b) ** 2 / n)) / n
    return {
        "a": a,
        "b": b,
        "only_a": only_a,
        "only_b": only_b,
        "difference": shift,
        "low": shift - half,
        "high": shift + half,
        "p_value": p_value,
    }


def _holm(p_values: list[float]) -> list[float]:
    """Holm's step-down adjustment (Holm 1979)."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, highest = [0.0] * len(p_values), 0.0
    for rank, i in enumerate(order):
        highest = max(highest, min(1.0, (len(p_values) - rank) * p_values[i]))
        adjusted[i] = highest
    return adjusted


def _agreement(left: pd.DataFrame, right: pd.DataFrame, pred: str | None) -> float:
    name = pred or next(iter(class_outputs(left)), None)
    if name is None:
        raise ValueError("pass pred= with the output to compare")
    a, b = (df[name].astype(object).reset_index(drop=True) for df in (left, right))
    both = a.notna() & b.notna()
    return float((a[both] == b[both]).mean())
