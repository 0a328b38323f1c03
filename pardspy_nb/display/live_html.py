"""A run under way as HTML: what every face of the panel shows, in the same words and order."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from ..core.error_groups import ErrorGroup
from ..core.metrics import Latency
from . import html, pictures
from .html import dollars, duration, milliseconds, number, saved
from .steering import Steering

if TYPE_CHECKING:
    from .progress import RunProgress

_STOPPING = {
    "cancelled": "Cancelling",
    "failures": "Too many failures: rows in flight finish",
    "fail_fast": "A row failed: stopping",
    "fatal": "Stopping, because every further row would fail alike",
    "outage": "The endpoint asks for a longer wait than outage_s: rows in flight finish",
    "source": "The input broke: rows in flight finish",
    "store": "The store failed: rows in flight finish",
    "budget": "At max_cost_usd: rows in flight finish",
    "cluster": "No worker of the cluster is left",
    "target": "The output cannot be written: rows in flight finish",
}


def head_html(state: RunProgress) -> str:
    """The state in words, the bar, and the figures."""
    title = title_text(state)
    bar = html.progress_bar(
        state.ok, state.failed, state.cancelled + state.skipped, state.total, title
    )
    waits = "" if not state.started else state.waits_for or ""
    # side by side, so that nothing below moves when the run begins or ceases to wait
    parts = [html.line([html.note(title), html.note(waits, colour=html.ORANGE, spoken=True)]), bar]
    cost = state.usage.cost_usd if state.usage else None
    if state.max_cost_usd and cost is not None:
        words = f"{dollars(cost)} of max_cost_usd={dollars(state.max_cost_usd)}"
        parts.append(html.meter(cost, state.max_cost_usd, words))
    return html.text([*parts, html.figures(live_figures(state))])


def title_text(state: RunProgress) -> str:
    """`Running: 12 of 40 rows (30%)`, after the run's name."""
    return f"{state.name} · {_state_text(state)}" if state.name else _state_text(state)


def _state_text(state: RunProgress) -> str:
    of = f" of {state.total:,}" if state.total is not None else ""
    share = f" ({state.done / state.total:.0%})" if state.total else ""
    rows = f"{state.done:,}{of} rows{share}"
    if not state.started:
        return (state.waits_for or "Starting") + ("; paused" if state.paused else "")
    if state.asks_again:
        return f"Asking failed rows again, after {rows}"
    if state.finished:
        return f"Finishing: {rows}"
    if state.stopping:
        return f"{_STOPPING.get(state.stopping, 'Stopping')}: {rows}"
    if state.paused:
        return f"Paused: {rows}" + (", rows in flight finish" if state.in_flight else "")
    return ("Running, without stragglers: " if state.dropping else "Running: ") + rows


def live_figures(state: RunProgress) -> list[tuple[str, str]]:
    """The figures of a run under way, as (name, text)."""
    usage, latency = state.usage, Latency.of(state.shown_latencies_ms())
    limit = "" if state.max_cost_usd is None else f" of {dollars(state.max_cost_usd)}"
    return [
        ("done", f"{state.done:,}"),
        ("running", f"{state.in_flight:,}"),
        ("waiting", number(state.waiting)),
        ("retrying", f"{state.backing_off:,}"),
        ("failed", f"{state.failed:,}"),
        *([("skipped", f"{state.skipped:,}")] if state.skipped else []),
        *([("repaired", f"{state.repaired:,}")] if state.repaired else []),
        ("cached", f"{state.cached:,}"),
        *([("saved", saved(state.saved))] if state.cached else []),
        *html.accuracies(state.judged, state.unanswered),
        ("workers", f"{state.max_workers:,}"),
        ("rows/s", f"{state.recent_rows_per_s:,.1f}"),
        ("time left", duration(state.eta_s)),
        ("tokens", number(usage.total_tokens if usage else None)),
        ("cost", (dollars(usage.cost_usd) if usage else "–") + limit),
        ("cost at end", "–" if (cost := state.projected_cost_usd) is None else dollars(cost)),
        ("p50", milliseconds(latency.p50_ms)),
        ("p90", milliseconds(latency.p90_ms)),
        ("p99", milliseconds(latency.p99_ms)),
    ]


def body_html(state: RunProgress, hint: str) -> str:
    """Latency histogram, rows a second over time, label counts."""
    shown = [
        pictures.histogram(state.shown_latencies_ms(), live=True),
        pictures.rate_picture(state.history, live=True),
        *(
            pictures.label_counts(name, of, live=True)
            for name, of in state.counts.items()
            if any(of.values())
        ),
    ]
    return html.text(
        [html.note(hint, colour=html.ORANGE), pictures.side_by_side(filter(None, shown))]
    )


def errors_html(groups: Sequence[ErrorGroup], steering: Steering) -> str:
    """Failures by error, which open to their rows and a row's story; empty without failures."""
    stories = {repr(group.example): steering.story(group) for group in groups}
    told = {row: story for row, story in stories.items() if story is not None}
    return html.text([html.error_list(groups, told)]) if groups else ""
