"""Small HTML for the panel and the summary: no script, every string from data escaped.

The HTML must be readable in JupyterLab's light and dark themes, at a width of 520 px, and after
other programs have removed parts of it: JupyterLab removes SVG and CSS variables from notebooks
that are not trusted yet, and code hosts remove all styles. Therefore text inherits its colour,
all other colours are visible on light and on dark, and figures are text. Pictures only repeat the
figures: as inline SVG while a run lasts, and in the final HTML as images, which are not removed.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterable, Mapping, Sequence
from html import escape
from itertools import pairwise
from typing import Any

from ..core.error_groups import ErrorGroup
from ..core.intervals import wilson
from ..core.metrics import Latency
from ..core.plain_text import writable
from ..core.usage import Usage

BLUE, GREEN, ORANGE, GREY = "#3b82d6", "#3a9b4e", "#cf5f17", "#8a8f98"
_FONT = "font-family:system-ui,sans-serif;font-size:13px;line-height:1.45"
_FAINT = "opacity:.72;font-size:11px"
_NO_MATH = "tex2jax_ignore mathjax_ignore"  # else JupyterLab reads text between two $ as math
_BINS = 30
MOST_GROUPS = 8
MOST_LABELS = 10
_LONG_TAIL = 30  # times the median
_LEAST_POINTS = 4  # of a picture over time
_NEARLY = 0.9  # of a budget
_MESSAGE_CHARS = 200


def number(value: float | None, pattern: str = "{:,.0f}") -> str:
    """A figure for people; a dash if the value is unknown."""
    return "–" if value is None else pattern.format(value)


def dollars(value: float | None) -> str:
    """US dollars, with enough digits to see small sums."""
    if value is None:
        return "unknown"
    return f"${value:,.2f}" if value >= 1 or not value else f"${value:.3g}"


def saved(usage: Usage | None) -> str:
    """The cost that cached rows avoided: in dollars, or in tokens if that is zero or unknown."""
    if usage is not None and usage.cost_usd:
        return dollars(usage.cost_usd)
    return f"{number(usage.total_tokens if usage else None)} tokens"


def duration(seconds: float | None) -> str:
    """A time for people: `420 ms`, `2.4 s`, `12 s`, `3 min 20 s`, `2 h 5 min`."""
    if seconds is None:
        return "–"
    if seconds < 1:
        return f"{seconds * 1e3:.0f} ms"
    if seconds < 10:
        return f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60} s"
    return f"{whole // 3600} h {whole % 3600 // 60} min"


def share(low: float, value: float, high: float) -> str:
    """A share with its interval: `82% (77–86%)`."""
    return f"{value:.0%} ({100 * low:.0f}–{high:.0%})"


def accuracies(
    judged: Mapping[str, tuple[int, int]] | None, unanswered: Mapping[str, int] | None
) -> list[tuple[str, str]]:
    """Shares of right labels with their 95 % intervals, as (name, text): of answered rows, and of
    all rows where some lack an answer."""
    shown = []
    for name, (right, n) in (judged or {}).items():
        title = "accuracy" if len(judged or ()) == 1 else f"{name} accuracy"
        lack = (unanswered or {}).get(name, 0)
        if n:
            shown.append((f"{title}, answered" if lack else title, share(*wilson(right, n))))
        if n and lack:
            shown.append((f"{title}, all", share(*wilson(right, n + lack))))
    return shown


def frequent(counts: Mapping[Any, int]) -> tuple[list[tuple[Any, int]], str]:
    """The labels to show, and words about the others: up to ten in their own order; of more, the
    ten most frequent ones."""
    if len(counts) <= MOST_LABELS:
        return list(counts.items()), ""
    ranked = sorted(counts.items(), key=lambda one: -one[1])
    rest = ranked[MOST_LABELS:]
    rows = sum(n for _, n in rest)
    return ranked[:MOST_LABELS], f"and {len(rest):,} more with {rows:,} rows"


def milliseconds(value: float | None) -> str:
    """A latency for people: `0.52 ms`, `87 ms`, `6.41 s`."""
    if value is None:
        return "–"
    return (
        f"{value:.2g} ms"
        if value < 10
        else f"{value:.0f} ms"
        if value < 1000
        else f"{value / 1e3:.3g} s"
        if value < 100_000
        else duration(value / 1e3)
    )


def text(parts: Iterable[str], style: str = "") -> str:
    """The parts in a block with the common font."""
    return f'<div class="{_NO_MATH}" style="{_FONT};{style}">{"".join(parts)}</div>'


def box(parts: Iterable[str], edge: str) -> str:
    """`text` with a coloured edge."""
    return text(
        parts, f"max-width:760px;border-left:3px solid {edge};padding:2px 0 2px 12px;margin:4px 0"
    )


def figures(pairs: Iterable[tuple[str, str]]) -> str:
    """Named figures in a grid; they become one line of text if styles are removed."""
    gap = '<span style="display:none"> · </span>'
    cells = gap.join(
        f'<span><span style="{_FAINT};display:block">{escape(name)} </span>'
        f'<b style="font-weight:600">{escape(value)}</b></span>'
        for name, value in pairs
    )
    return (
        '<div style="display:grid;grid-template-columns:repeat(auto-fit,minmax(6.1em,1fr));'
        f'gap:5px 10px;margin:6px 0;font-variant-numeric:tabular-nums">{cells}</div>'
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A small table: the first column aligned left, the others right."""
    cells = [
        "".join(
            f'<td style="text-align:{"right" if i else "left"};padding:1px 14px 1px 0;'
            f'{_FAINT if faint else "font-size:13px"}">{escape(cell)}</td>'
            for i, cell in enumerate(row)
        )
        for faint, row in ((True, head), *((False, row) for row in rows))
    ]
    lines = "".join(f'<tr style="background:none">{line}</tr>' for line in cells)
    return (
        '<table style="border-collapse:collapse;margin:6px 0;font-variant-numeric:tabular-nums">'
        f"{lines}</table>"
    )


def progress_bar(ok: int, failed: int, cancelled: int, total: int | None, words: str) -> str:
    """Settled rows as shares of all rows; a screen reader reads `words`."""
    whole = max(1, total or ok + failed + cancelled)
    done = ok + failed + cancelled
    parts = "".join(
        f'<div style="width:{100 * n / whole:.3f}%;background-color:{colour}"></div>'
        for n, colour in ((ok, GREEN), (failed, ORANGE), (cancelled, GREY))
        if n
    )
    return (
        f'<div role="progressbar" aria-label="rows done" aria-valuemin="0" aria-valuemax="{whole}" '
        f'aria-valuenow="{done}" aria-valuetext="{escape(words)}" style="display:flex;height:8px;'
        f'border-radius:4px;overflow:hidden;background:rgba(128,128,128,.25);margin:4px 0">'
        f"{parts}</div>"
    )


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
    end = milliseconds(top) + (f", slowest {milliseconds(slowest)}" if slowest > top else "")
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
        f'<span style="{_FAINT}">{escape(title)}</span>{drawing}'
        f'<div style="{_FAINT};display:flex;justify-content:space-between">'
        f"<span>{escape(ends[0])} </span><span>{escape(ends[1])}</span></div></div>"
    )


def meter(part: float, whole: float, words: str) -> str:
    """How much of something is used up; a screen reader reads `words`."""
    share_used = min(1.0, part / whole) if whole else 1.0
    colour = ORANGE if share_used > _NEARLY else GREY
    return (
        f'<div role="meter" aria-label="{escape(words)}" aria-valuemin="0" aria-valuemax="100" '
        f'aria-valuenow="{100 * share_used:.0f}" style="height:4px;border-radius:2px;overflow:'
        f'hidden;background:rgba(128,128,128,.25);margin:2px 0"><div style="height:4px;width:'
        f'{100 * share_used:.1f}%;background:{colour}"></div></div>'
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
        f'<div style="flex:1 1 220px;min-width:200px;max-width:480px"><span style="{_FAINT}">'
        f"{escape(name)} </span>"
        '<div style="display:grid;grid-template-columns:minmax(4em,auto) 1fr auto;gap:1px 8px;'
        f'align-items:center;font-size:12px;font-variant-numeric:tabular-nums">{rows}</div>'
        f"{faint(rest) if rest else ''}</div>"
    )


def _opened(label: Any, rows: Sequence[Any] | None) -> str:
    """A label, which opens to names of rows."""
    name = escape(shortened(str(label), 60))
    return f"<details><summary>{name}</summary>{_rows(rows)}</details>" if rows else name


def _rows(labels: Sequence[Any]) -> str:
    shown = ", ".join(shortened(str(label), 24) for label in labels)
    return f'<span style="{_FAINT}">rows {escape(shown)}</span>'


def pictures(parts: Iterable[str]) -> str:
    """Histogram and bars, side by side if there is room."""
    shown = "".join(parts)
    return f'<div style="display:flex;flex-wrap:wrap;gap:6px 24px">{shown}</div>' if shown else ""


def error_list(groups: Sequence[ErrorGroup], stories: Mapping[str, str] | None = None) -> str:
    """Failures by error: the number of rows, an example row, its message. A group opens to its
    first rows, to what tells more of them, and to the story of its first row."""
    if not groups:
        return ""
    lines = [error_group(g, (stories or {}).get(repr(g.example))) for g in groups[:MOST_GROUPS]]
    return (
        f'<div style="margin-top:6px">{"".join(lines)}{further_errors(groups[MOST_GROUPS:])}</div>'
    )


def error_group(group: ErrorGroup, story: str | None) -> str:
    """One line of `error_list`."""
    g = group
    return (
        '<details style="overflow-wrap:anywhere;font-size:12px"><summary>'
        f'<b style="color:{ORANGE}">{g.rows:,} × {escape(g.error_type)}</b>, e.g. row '
        f"{escape(shortened(str(g.example), 60))}: {escape(shortened(g.message))}</summary>"
        f'<div style="padding-left:1.2em">{_rows(g.labels)}'
        + (f" and {g.rows - len(g.labels):,} more" if g.rows > len(g.labels) else "")
        + f'<div style="{_FAINT}">{escape(_told(g))}</div>{_story(g, story)}</div></details>'
    )


def further_errors(groups: Sequence[ErrorGroup]) -> str:
    """How many rows are in groups that have no line of their own; empty if there are none."""
    rest = sum(g.rows for g in groups)
    return f'<div style="font-size:12px">and {rest:,} more of other kinds</div>' if rest else ""


def _story(group: ErrorGroup, text: str | None) -> str:
    if text is None:
        return ""
    row = shortened(str(group.example), 60)
    return f"<details><summary>{escape(f'row {row}')}</summary>{passage('', text)}</details>"


def _told(group: ErrorGroup) -> str:
    row = repr(group.example) if len(repr(group.example)) < 60 else "…"
    return (
        f"df.parallel.row({row}) tells what was sent and what came back; "
        f"df.parallel.retry_failed(error={group.error_type!r}) asks these rows again"
    )


def note(words: str, *, colour: str = "inherit", spoken: bool = False) -> str:
    """A line of text. With `spoken`, screen readers read the line when it appears."""
    role = ' role="status"' if spoken else ""
    return f'<div{role} style="color:{colour};margin:2px 0">{escape(words)}</div>' if words else ""


def passage(title: str, words: str) -> str:
    """A titled text, unchanged, with its line breaks."""
    return (
        f'<div style="{_FAINT};margin-top:6px">{escape(title)}</div><pre style="margin:1px 0;'
        "padding:4px 8px;white-space:pre-wrap;overflow-wrap:anywhere;font-size:12px;"
        f'background:rgba(128,128,128,.12);border-radius:4px">{escape(writable(words))}</pre>'
    )


def faint(words: str) -> str:
    """A line of small print."""
    return f'<div style="{_FAINT};margin-top:4px;overflow-wrap:anywhere">{escape(words)}</div>'


def shortened(message: str, most: int = _MESSAGE_CHARS) -> str:
    """A text from data on one line of at most `most` characters."""
    flat = " ".join(message[: 2 * most].split())
    return flat if len(message) <= most else flat[: most - 1] + "…"
