"""The static summary of a run: small HTML without script, and the same in text."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

from .metrics import ParallelMetrics

ErrorGroup = tuple[str, int, Any, str]

_CELL = (
    '<div style="padding:4px 10px 4px 0"><div style="font-size:11px;opacity:.7">{}</div>'
    '<div style="font-size:15px;font-variant-numeric:tabular-nums">{}</div></div>'
)
_MAX_GROUPS = 8


def number(value: float | None, pattern: str = "{:,.0f}") -> str:
    """A figure for people; a dash where it is unknown."""
    return "–" if value is None else pattern.format(value)


def dollars(value: float | None) -> str:
    """US dollars, with enough digits to see small sums."""
    return (
        "unknown"
        if value is None
        else f"${value:,.2f}"
        if value >= 1 or not value
        else f"${value:.4g}"
    )


def figures(metrics: ParallelMetrics) -> list[tuple[str, str]]:
    """The figures worth showing, as (name, text)."""
    usage, latency = metrics.usage, metrics.latency
    shown = [
        ("rows", f"{metrics.total:,}"),
        ("ok", f"{metrics.successes:,}"),
        ("failed", f"{metrics.failures:,}"),
    ]
    unfinished = metrics.not_run + metrics.cancelled
    shown += [("not finished", f"{unfinished:,}")] if unfinished else []
    shown += [("time", f"{metrics.elapsed_s:,.1f} s"), ("rows/s", f"{metrics.rows_per_s:,.1f}")]
    tokens = usage.total_tokens if usage else None
    shown += [("tokens", number(tokens)), ("cost", dollars(usage.cost_usd) if usage else "–")]
    names = (("min", latency.min_ms), ("avg", latency.avg_ms), ("p50", latency.p50_ms),
             ("p90", latency.p90_ms), ("p99", latency.p99_ms), ("max", latency.max_ms))  # fmt: skip
    return shown + [(f"{n} latency", number(v, "{:,.0f} ms")) for n, v in names if v is not None]


class Summary:
    """What `df.parallel.summary()` returns; shows itself as HTML in a notebook."""

    def __init__(
        self, metrics: ParallelMetrics, groups: Sequence[ErrorGroup], notice: str = ""
    ) -> None:
        self.metrics, self.groups, self.notice = metrics, groups, notice

    def _repr_html_(self) -> str:
        cells = "".join(_CELL.format(escape(n), escape(v)) for n, v in figures(self.metrics))
        parts = [
            '<div style="font-family:system-ui,sans-serif;max-width:760px;'
            'border-left:3px solid #3b7dd8;padding-left:12px;margin:4px 0">',
            f'<div style="color:#c2560c"><b>{escape(self.notice)}</b></div>' if self.notice else "",
            '<div style="display:grid;grid-template-columns:repeat(auto-fit,minmax(7.5em,1fr))">',
            f"{cells}</div>",
        ]
        for kind, count, row, message in self.groups[:_MAX_GROUPS]:
            parts.append(
                f'<div style="font-size:12px;margin-top:4px"><b>{count:,} × {escape(kind)}</b>, '
                f"e.g. row {escape(str(row))}: {escape(message[:200])}</div>"
            )
        return "".join([*parts, "</div>"])

    def __repr__(self) -> str:
        lines = [self.notice] if self.notice else []
        lines += [f"{name:>14}  {text}" for name, text in figures(self.metrics)]
        for kind, count, row, message in self.groups[:_MAX_GROUPS]:
            lines.append(f"{count:,} × {kind}, e.g. row {row}: {message[:200]}")
        return "\n".join(lines)
