"""Facts about the notebook kernel that this process may be. Only this module handles its quirks."""

from __future__ import annotations

import importlib.util
import sys
from typing import Any, Literal

_PAGE_ASKS_S = 2.0
WaitMode = Literal["blocking", "awaited", "background"]


def _shell() -> Any:
    ipython = sys.modules.get("IPython")
    return ipython.get_ipython() if ipython else None


def in_kernel() -> bool:
    """Whether this process is a notebook's kernel."""
    return hasattr(_shell(), "kernel")


def has_widgets() -> bool:
    """Whether this process is a notebook's kernel and has ipywidgets."""
    return in_kernel() and importlib.util.find_spec("ipywidgets") is not None


def current_cell() -> int | None:
    """The number of the cell that runs now, None outside IPython."""
    return getattr(_shell(), "execution_count", None)


def clicks_arrive(wait_mode: WaitMode, shown_s: float) -> bool:
    """Whether a click reaches this process while the run lasts, `shown_s` seconds after the panel
    appeared.

    A run in the background leaves the kernel free. Otherwise the kernel must handle widget
    messages while the cell runs (subshells, ipykernel 7). For a blocking call the page must also
    have asked for a subshell; JupyterLab 4.4 and later ask when the first widget appears.
    """
    if wait_mode == "background":
        return True
    thread = getattr(getattr(_shell(), "kernel", None), "shell_channel_thread", None)
    if thread is None:
        return False
    if wait_mode == "awaited" or shown_s < _PAGE_ASKS_S:
        return True
    try:
        return bool(thread.manager.list_subshell())
    except Exception:  # a private interface; if it is gone, show no warning
        return True


def let_clicks_through(widget: Any) -> None:
    """Make the kernel handle this widget's clicks while a cell blocks.

    ipykernel 7.4 routes a comm's incoming messages to the shell that last wrote to the comm: in
    this case the shell that is busy with the cell. Deleting that record leaves the choice to the
    page, which chooses a subshell. The attribute is private;
    `tests/integration/test_browser.py` fails when it disappears.
    """
    getattr(widget.comm, "__dict__", {}).pop("_reply_subshell_id", None)
