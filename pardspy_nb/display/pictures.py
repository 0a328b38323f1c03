"""Small pictures for the panel and the summary, which repeat what the text beside them says.

They are inline SVG while a run lasts. In the final HTML they are images, because pages remove SVG
from notebooks that they do not trust.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any

from ..core.metrics import Latency
from .html import (
    BLUE,
    FAINT,
    GREEN,
    GREY,
    duration,
    faint,
    frequent,
    milliseconds,
    row_names,
    shortened,
)

_BINS = 30
_LONG_TAIL = 30  # times the median
_LEAST_POINTS = 4  # of a picture over time


def _drawing(shapes: str, width: int, height: int, words: str, live: bool) -> str:
    """SVG shapes stretched to the available width, as inline SVG or as an image. `words` describe
    the drawing for a screen reader; empty if the text beside the drawing says the same."""
    size = f'viewBox="0 0 {width} {height}" preserveAspectRatio="none"'
    if live:
        role = f'role="img" aria-label="{escape(words)}"' if words else 'aria-hidden="true"'
        size += f' width="100%" height="{height}" style="display:block"'
        return f"<svg {size} {role}>{shapes}</svg>"
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" {size}>{shapes}</svg>'
    return (
        f'<img alt="{escape(words)}" style="display:block;width:100%;height:{height}px" '
        f'src="data:image/svg+xml;base64,{b64encode(svg.encode()).decode()}">'
    )


def histogram(values_ms: Sequence[float], *, live: bool = False) -> str:
    """Latencies as thirty bars from 0 to just above p99 (at most three times p90), and slower calls
    in the last bar; where the slowest takes thirty times the median, on a logarithmic axis."""
    import numpy as np

    values = np.asarray(values_ms, dtype=float)
    values = values[np.isfinite(values)]
    if not len(values):
        return ""
    latency = Latency.of(values)
    slowest = float(values.max())
    p50, p90, p99 = (float(p) for p in np.percentile(values, [50, 90, 99]))
    is_log = p99 > _LONG_TAIL * max(p50, 1e-3)
    # an outlier must not hide the rest
    top = slowest if is_log else max(min(1.1 * p99, 3 * p90, slowest), 1e-3)
    low = max(float(values.min()), top * 1e-6) if is_log else 0.0
    edges = np.geomspace(low, top, _BINS + 1) if is_log else np.linspace(0, top, _BINS + 1)
    counts, _ = np.histogram(np.clip(values, edges[0], edges[-1]), bins=edges)
    scale = 48 / counts.max()
    path = "".join(
        f"M{i * 10 + 0.5} 48v{-max(1.0, n * scale):.1f}h9V48z" for i, n in enumerate(counts) if n
    )
    figures = (("p50", latency.p50_ms), ("p90", latency.p90_ms), ("p99", latency.p99_ms))
    words = ", ".join(f"{name} {milliseconds(value)}" for name, value in figures)
    end, last = milliseconds(top), milliseconds(slowest)
    end += f", slowest {last}" if last != end else ""
    places = np.interp([p50, p90], edges, np.linspace(0, 300, _BINS + 1))
    marks = "".join(
        f'<path d="M{place:.1f} 0V48" stroke="{GREY}" stroke-width="2" stroke-dasharray="3 3"/>'
        for place in places
    )
    title = f"Latency histogram of {len(values)} calls: {words}"
    axis = ", logarithmic axis" if is_log else ""
    return _picture(
        f"latency of {len(values):,} calls, lines at p50 and p90{axis}",
        _drawing(f'<path d="{path}" fill="{BLUE}"/>{marks}', 300, 48, title, live),
        (milliseconds(low) if is_log else "0", end),
    )


def rate_picture(history: Sequence[tuple[float, int, int]], *, live: bool = False) -> str:
    """Rows a second over time as an area, and the workers as a line; each to its own highest."""
    rates = [
        (t1, (n1 - n0) / (t1 - t0), workers)
        for (t0, n0, _), (t1, n1, workers) in pairwise(history)
        if t1 > t0
    ]
    if len(rates) < _LEAST_POINTS:
        return ""
    begin, end = history[0][0], rates[-1][0]
    most, most_workers = max(r for _, r, _ in rates) or 1.0, max(w for *_, w in rates) or 1
    at = [300 * (t - begin) / (end - begin) for t, _, _ in rates]
    area = "".join(
        f"L{x:.1f} {32 - 30 * r / most:.1f}" for x, (_, r, _) in zip(at, rates, strict=True)
    )
    line = "".join(
        f"{'L' if i else 'M'}{x:.1f} {32 - 30 * w / most_workers:.1f}"
        for i, (x, (*_, w)) in enumerate(zip(at, rates, strict=True))
    )
    shapes = (
        f'<path d="M0 32{area}V32z" fill="{GREEN}" fill-opacity=".55"/>'
        f'<path d="{line}" fill="none" stroke="{GREY}" stroke-width="2"/>'
    )
    words = f"rows a second over time, {most:,.1f} at most; line: workers, {most_workers:,} at most"
    return _picture(words, _drawing(shapes, 300, 32, "", live), ("0", duration(end - begin)))


def _picture(title: str, drawing: str, ends: tuple[str, str]) -> str:
    return (
        '<div style="flex:1 1 280px;min-width:200px;max-width:480px">'
        f'<span style="{FAINT}">{escape(title)}</span>{drawing}'
        f'<div style="{FAINT};display:flex;justify-content:space-between">'
        f"<span>{escape(ends[0])} </span><span>{escape(ends[1])}</span></div></div>"
    )


def label_counts(
    name: str,
    counts: Mapping[Any, int],
    examples: Mapping[Any, Sequence[Any]] | None = None,
    *,
    live: bool = False,
) -> str:
    """Rows per label as bars, each with its number and share; a label opens to rows of its own."""
    examples = examples or {}
    whole, most = sum(counts.values()) or 1, max(counts.values(), default=0) or 1
    shown, rest = frequent(counts)
    rows = "".join(
        f'<span style="overflow-wrap:anywhere">{_opened(label, examples.get(label))} </span>'
        + _drawing(f'<path d="M0 0H{300 * n / most:.1f}V10H0z" fill="{BLUE}"/>', 300, 10, "", live)
        + f'<span style="text-align:right">{n:,} ({n / whole:.0%}) </span>'
        for label, n in shown
    )
    return (
        f'<div style="flex:1 1 220px;min-width:200px;max-width:480px"><span style="{FAINT}">'
        f"{escape(name)} </span>"
        '<div style="display:grid;grid-template-columns:minmax(4em,auto) 1fr auto;gap:1px 8px;'
        f'align-items:center;font-size:12px;font-variant-numeric:tabular-nums">{rows}</div>'
        f"{faint(rest) if rest else ''}</div>"
    )


def _opened(label: Any, rows: Sequence[Any] | None) -> str:
    """A label, which opens to names of rows."""
    name = escape(shortened(str(label), 60))
    return f"<details><summary>{name}</summary>{row_names(rows)}</details>" if rows else name


def side_by_side(parts: Iterable[str]) -> str:
    """Histogram and bars, side by side if there is room."""
    shown = "".join(parts)
    return f'<div style="display:flex;flex-wrap:wrap;gap:6px 24px">{shown}</div>' if shown else ""
