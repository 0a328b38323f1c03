"""The static summary of a run, as small HTML without script and as text."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from ..core.error_groups import ErrorGroup, ErrorGroups
from ..core.metrics import ParallelMetrics
from ..core.plain_text import printable
from ..tables.frame import class_outputs, label_counts, metrics_of
from ..tables.names import own_names
from . import html, pictures
from .html import dollars, duration, milliseconds, number, saved
from .progress import MOST_EXAMPLES

if TYPE_CHECKING:
    import pandas as pd

_MAX_GROUPS = 8
_RETRY = "df.parallel.retry_failed() runs them again, retry_failed(error='…') one kind of them."
_HOPELESS = (
    "Rows known as hopeless were declined or too long in an earlier run, and were not asked; "
    "retry_hopeless=True asks them."
)


@dataclass(frozen=True)
class Summary:
    """The result of `df.parallel.summary()`; a notebook shows it as HTML.

    Attributes:
        metrics: the run's figures.
        groups: failed rows by error, largest group first.
        latencies_ms: the latencies of the successful calls, for the histogram.
        counts: rows per label, by class output.
        examples: names of the first rows of each label, by class output.
        stories: what became of the first row of some groups, by the `repr` of its label.
        settings: the run's settings, as (name, text).
        ended: why the run ended (see `events.RunFinished`).
        can_continue: whether a repeated call would pay only for the missing rows.
        where: the place that holds the rows, empty if they are lost.
        stages: of a cascade, which model answered how many rows and what it saved, as (name, text).
        name: what the run was called, empty if it has no name.
        trouble: why the run could not start or broke down; then nothing else is shown.
    """

    metrics: ParallelMetrics
    groups: Sequence[ErrorGroup] = ()
    latencies_ms: Sequence[float] = ()
    counts: Mapping[str, Mapping[Any, int]] = field(default_factory=dict)
    settings: Sequence[tuple[str, str]] = ()
    can_continue: bool = False
    ended: str = ""
    where: str = "the frame"
    stages: Sequence[tuple[str, str]] = ()
    trouble: str = ""
    name: str = ""
    examples: Mapping[str, Mapping[Any, Sequence[Any]]] = field(default_factory=dict)
    stories: Mapping[str, str] = field(default_factory=dict)

    @property
    def notice(self) -> str:
        """A sentence about rows that have neither answer nor error; empty if there are none."""
        m = self.metrics
        if self.trouble or not (m.cancelled or m.not_run):
            return ""
        others = (("failed", m.failures), ("cancelled", m.cancelled), ("not run", m.not_run))
        rest = ", ".join(f"{n:,} {name}" for name, n in others if n)
        again = " Run the same call again to continue from here." if self.can_continue else ""
        how = "Stopped before the end" if m.not_run else "Ended without every row"
        how = "Stopped at max_cost_usd" if self.ended == "budget" else how
        where = f" and in {self.where}" if self.where else ""
        see = " (see its status column)" if self.where else ""
        return f"{how}: {m.successes:,} of {m.total:,} rows are done{where}; {rest}{see}.{again}"

    @property
    def figures(self) -> list[tuple[str, str]]:
        """The figures worth showing, as (name, text)."""
        m = self.metrics
        usage, latency = m.usage, m.latency
        shown = [("rows", f"{m.total:,}"), ("ok", f"{m.successes:,}")]
        shown += [("failed", f"{m.failures:,}")]
        others = (
            ("cached", m.cached),
            ("cancelled", m.cancelled),
            ("not run", m.not_run),
            ("skipped (blank)", m.skipped),
            ("known hopeless", m.hopeless),
            ("asked twice", m.duplicates),
            ("repaired", m.repaired),
        )
        shown += [(name, f"{n:,}") for name, n in others if n]
        shown += html.accuracies(m.judged, m.unanswered)
        knows = m.saved is not None and (m.saved.cost_usd or m.saved.total_tokens is not None)
        shown += [("saved", saved(m.saved))] if m.cached and knows else []
        shown += [("time", duration(m.elapsed_s)), ("rows/s", f"{m.rows_per_s:,.1f}")]
        shown += [("tokens", number(usage.total_tokens if usage else None))]
        shown += [("cost", dollars(usage.cost_usd) if usage else "–")]
        shown += self.stages
        times = (
            ("min", latency.min_ms),
            ("avg", latency.avg_ms),
            ("p50", latency.p50_ms),
            ("p90", latency.p90_ms),
            ("p99", latency.p99_ms),
            ("max", latency.max_ms),
        )
        return shown + [(f"{n} latency", milliseconds(v)) for n, v in times if v is not None]

    def _repr_html_(self) -> str:
        if self.trouble:
            return html.box([html.note(self.trouble, spoken=True)], html.ORANGE)
        colour = html.ORANGE if self.notice else "inherit"
        failed = f"; {self.metrics.failures:,} failed" if self.metrics.failures else ""
        state = self.notice or f"Done in {duration(self.metrics.elapsed_s)}{failed}."
        state = f"{self.name} · {state}" if self.name else state
        return html.box(
            [
                html.note(state, colour=colour, spoken=True),
                html.figures(self.figures),
                pictures.side_by_side(
                    [
                        *filter(None, [pictures.histogram(self.latencies_ms)]),
                        *(
                            pictures.label_counts(name, of, self.examples.get(name))
                            for name, of in self.counts.items()
                        ),
                    ]
                ),
                html.error_list(self.groups, self.stories),
                html.faint(_RETRY) if self.groups else "",
                html.faint(_HOPELESS) if self.metrics.hopeless else "",
                html.faint(", ".join(f"{name} {text}" for name, text in self.settings)),
            ],
            html.ORANGE if self.notice or self.metrics.failures else html.GREEN,
        )

    def __repr__(self) -> str:
        if self.trouble:
            return self.trouble
        lines = [line for line in (self.name, self.notice) if line]
        lines += [f"{name:>14}  {text}" for name, text in self.figures]
        for name, counts in self.counts.items():
            shown, rest = html.frequent(counts)
            words = [f"{html.shortened(str(k), 60)} {n:,}" for k, n in shown]
            lines.append(f"{name:>14}  {', '.join([*words, *filter(None, [rest])])}")
        for g in self.groups[:_MAX_GROUPS]:
            row = html.shortened(str(g.example), 60)
            message = html.shortened(g.message)
            lines.append(f"{g.rows:,} × {g.error_type}, e.g. row {row}: {message}")
        lines += [_HOPELESS] if self.metrics.hopeless else []
        return printable("\n".join(lines))


def summarize(df: pd.DataFrame) -> Summary:
    """The summary of the run that made `df`."""
    about = df.attrs.get("pardspy", {})
    plain = own_names(df)
    failed, ok = plain[plain["status"] == "failed"], plain[plain["status"] == "ok"]
    groups = ErrorGroups()
    for error_type, message, index in zip(
        failed["error_type"], failed["error"], failed.index, strict=True
    ):
        groups.add(error_type, message, index)
    return Summary(
        metrics_of(df),
        groups.largest_first(),
        ok.loc[~ok["cached"].eq(True), "latency_ms"].tolist(),
        {name: label_counts(df, name).to_dict() for name in class_outputs(df)},
        _settings(about),
        bool(about.get("remembers")),
        about.get("ended") or "",
        stages=_stages(about.get("cascade")),
        name=about.get("options", {}).get("name") or "",
        examples={name: _examples(df, name) for name in class_outputs(df)},
    )


def _examples(df: pd.DataFrame, name: Any) -> dict[Any, list[Any]]:
    """Names of the first rows of each label."""
    answered = df[name].dropna()
    first = answered[answered.groupby(answered, observed=True).cumcount() < MOST_EXAMPLES]
    found: dict[Any, list[Any]] = {}
    for row, label in first.items():
        found.setdefault(label, []).append(row)
    return found


def _stages(cascade: Mapping[str, Any] | None) -> list[tuple[str, str]]:
    """What became of a cascade, as (name, text)."""
    if cascade is None:
        return []
    each, last = cascade["stages"], cascade["stages"][-1]
    shown: list[tuple[str, str]] = []
    for stage, accept, pilot in zip(each, cascade["accept"], cascade["pilot"], strict=False):
        how = "nothing was sure enough" if accept is None or accept > 1 else f"sure ≥ {accept:.3g}"
        if pilot is not None:
            how += f"; pilot of {pilot['rows']:,} rows"
        number = len(shown) + 1
        kept = f"{stage['answered']:,} of {stage['asked']:,} answers kept ({how})"
        shown.append((f"{number}. {html.shortened(stage['model'], 30)}", kept))
    last_name = f"{len(each)}. {html.shortened(last['model'], 30)}"
    shown.append((last_name, f"{last['answered']:,} rows"))
    usd, tokens = cascade["saved_usd"], cascade["saved_tokens"]
    if usd or tokens:
        word = "saved" if (usd or tokens) > 0 else "cost more"
        how_much = dollars(abs(usd)) if usd else f"{abs(tokens):,.0f} tokens"
        shown.append((f"{word} by the cascade", how_much))
    return shown


def _settings(about: Mapping[str, Any]) -> list[tuple[str, str]]:
    """The run's settings, without those that are off or have no effect."""
    options = about.get("options", {})
    names = (
        "max_workers",
        "max_failures",
        "max_attempts",
        "repeat",
        "timeout_s",
        "fail_fast",
        "only_successful",
        "max_cost_usd",
    )
    shown = [(name, about.get(name)) for name in ("model", "module", "form")]
    shown += [(n, options.get(n)) for n in names]
    if options and options.get("max_failures") is None:
        shown.append(("max_failures", "any number"))
    return [
        (name, str(value))
        for name, value in shown
        if not (value is None or value is False or (name == "repeat" and value == 1))
    ] + [(name, f"is in {column}") for name, column in about.get("renamed", {}).items()]
