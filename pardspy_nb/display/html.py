"""Small HTML for the panel and the summary: no script, every string from data escaped.

The HTML must be readable in JupyterLab's light and dark themes, at a width of 520 px, and after
other programs have removed parts of it: JupyterLab removes SVG and CSS variables from notebooks
that are not trusted yet, and code hosts remove all styles. Therefore text inherits its colour,
all other colours are visible on light and on dark, and figures are text.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from html import escape
from typing import Any

from ..core.error_groups import ErrorGroup
from ..core.intervals import wilson
from ..core.plain_text import writable
from ..core.usage import Usage

BLUE, GREEN, ORANGE, GREY = "#3b82d6", "#3a9b4e", "#cf5f17", "#8a8f98"
_FONT = "font-family:system-ui,sans-serif;font-size:13px;line-height:1.45"
FAINT = "opacity:.72;font-size:11px"
_NO_MATH = "tex2jax_ignore mathjax_ignore"  # else JupyterLab reads text between two $ as math
MOST_GROUPS = 8
MOST_LABELS = 10
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
        f'<span><span style="{FAINT};display:block">{escape(name)} </span>'
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
            f'{FAINT if faint else "font-size:13px"}">{escape(cell)}</td>'
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


def row_names(labels: Sequence[Any]) -> str:
    """Names of rows in small print."""
    shown = ", ".join(shortened(str(label), 24) for label in labels)
    return f'<span style="{FAINT}">rows {escape(shown)}</span>'


def error_list(groups: Sequence[ErrorGroup], stories: Mapping[str, str] | None = None) -> str:
    """Failures by error: the number of rows, an example row, its message. A group opens to its
    first rows, to what tells more of them, and to the story of its first row."""
    if not groups:
        return ""
    lines = [error_group(g, (stories or {}).get(repr(g.example))) for g in groups[:MOST_GROUPS]]
    return (
        f'<div style="margin-top:6px">{"".join(lines)}{further_errors(groups[MOST_GROUPS:])}</div>'
    )


def error_count(group: ErrorGroup) -> str:
    """How many rows have this error, to stand before `error_group`."""
    return f'<b style="color:{ORANGE};font-size:12px">{group.rows:,} × </b>'


def error_group(group: ErrorGroup, story: str | None, *, counted: bool = True) -> str:
    """One line of `error_list`, which opens to its first rows and one row's story; not `counted`,
    it stays the same while further rows fail."""
    g = group
    count = f"{g.rows:,} × " if counted else ""
    hidden = g.rows - len(g.labels)
    more = (f" and {hidden:,} more" if counted else " and more") if hidden > 0 else ""
    return (
        '<details style="overflow-wrap:anywhere;font-size:12px"><summary>'
        f'<b style="color:{ORANGE}">{count}{escape(g.error_type)}</b>, e.g. row '
        f"{escape(shortened(str(g.example), 60))}: {escape(shortened(g.message))}</summary>"
        f'<div style="padding-left:1.2em">{row_names(g.labels)}{more}'
        f'<div style="{FAINT}">{escape(_told(g))}</div>{_story(g, story)}</div></details>'
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


def line(parts: Iterable[str]) -> str:
    """Parts side by side, as far as there is room."""
    return f'<div style="display:flex;flex-wrap:wrap;gap:0 1.2em">{"".join(parts)}</div>'


def passage(title: str, words: str) -> str:
    """A titled text, unchanged, with its line breaks."""
    return (
        f'<div style="{FAINT};margin-top:6px">{escape(title)}</div><pre style="margin:1px 0;'
        "padding:4px 8px;white-space:pre-wrap;overflow-wrap:anywhere;font-size:12px;"
        f'background:rgba(128,128,128,.12);border-radius:4px">{escape(writable(words))}</pre>'
    )


def faint(words: str) -> str:
    """A line of small print."""
    return f'<div style="{FAINT};margin-top:4px;overflow-wrap:anywhere">{escape(words)}</div>'


def shortened(message: str, most: int = _MESSAGE_CHARS) -> str:
    """A text from data on one line of at most `most` characters."""
    flat = " ".join(message[: 2 * most].split())
    return flat if len(message) <= most else flat[: most - 1] + "…"
