"""What is known of the notebook kernel we may be in. The one place that knows its quirks."""

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
    """Whether this is a notebook's kernel that has ipywidgets."""
    return in_kernel() and importlib.util.find_spec("ipywidgets") is not None


def current_cell() -> int | None:
    """The number of the cell that runs now, None outside IPython."""
    return getattr(_shell(), "execution_count", None)


def clicks_arrive(wait_mode: WaitMode, shown_s: float) -> bool:
    """Whether a click reaches us while the run lasts, `shown_s` seconds after its panel came up.

    A run in the background leaves the kernel free. Otherwise the kernel must handle widget
    messages beside the cell (subshells, ipykernel 7), and for a blocking call the page must
    have asked it to, which JupyterLab 4.4 and later do when the first widget comes up.
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
    except Exception:  # not its public face; without it we do not know, and do not scare
        return True


def let_clicks_through(widget: Any) -> None:
    """Have this widget's clicks handled beside a blocked cell.

    ipykernel 7.4 routes what comes back on a comm to the shell that last wrote to it, for us
    the one that is busy with the cell. Forgetting that leaves the page's own choice, a
    subshell. The attribute is private; `tests/test_browser.py` notices when it goes.
    """
    getattr(widget.comm, "__dict__", {}).pop("_reply_subshell_id", None)
