"""Words for a page that has lost a run's panel, because it was loaded anew while the run went on.

A page that is loaded anew shows the outputs of the saved file. In it the panel is a widget, whose
model the page asks of the kernel in vain, as long as a cell keeps the kernel busy. So another
output follows the panel. It is invisible while the one before it has the living panel, and takes
its place else. JupyterLab and Notebook 7 read these styles; other pages, whose outputs have other
names, never show the words.
"""

from __future__ import annotations

import time
from html import escape
from typing import TYPE_CHECKING

from . import html

if TYPE_CHECKING:
    from .progress import RunProgress

PANEL_CLASS = "pardspy-panel"
_OUTPUT = ".jp-OutputArea-child"


def lost_page_html(state: RunProgress, name: str) -> str:
    """The last state in words, and how to get the panel back. `name` tells this panel from
    others."""
    words = f"pardspy-lost-{name}"
    without_panel = f"{_OUTPUT}:not(:has(.{PANEL_CLASS}))"
    style = (
        f".{words}{{display:none}}"
        f"{without_panel} + {_OUTPUT} .{words}{{display:block}}"
        f"{without_panel}:has(+ {_OUTPUT} .{words}){{display:none}}"
    )
    of = "" if state.total is None else f" of {state.total:,}"
    told = (
        f"At {time.strftime('%H:%M:%S')}, {state.done:,}{of} rows were through, of which "
        f"{state.failed:,} had failed; then this page was loaded anew. "
        "pn.last_run() as a cell's value shows how the run goes on, pn.last_run().result() waits "
        "for its rows. If the kernel is gone, run this cell again: finished rows are remembered."
    )
    return f'<style>{style}</style><div class="{words}">{html.text([escape(told)])}</div>'
