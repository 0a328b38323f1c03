"""Facts about the notebook kernel that this process may be. Only this module handles its quirks."""

from __future__ import annotations

import importlib.util
import os
import sys
import threading
from typing import Any, Literal

_PAGE_ASKS_S = 2.0
# set by the front ends themselves
_FRONT_ENDS = {
    "COLAB_RELEASE_TAG": "Google Colab (not tried with this package)",
    "DATABRICKS_RUNTIME_VERSION": "a Databricks notebook (not tried with this package)",
    "KAGGLE_KERNEL_RUN_TYPE": "a Kaggle notebook (not tried with this package)",
    "VSCODE_PID": "VS Code (not tried with this package)",
}
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


def in_marimo() -> bool:
    """Whether this process runs a marimo notebook."""
    marimo = sys.modules.get("marimo")
    return marimo is not None and bool(marimo.running_in_notebook())


def in_marimo_thread() -> bool:
    """Whether this thread is one that marimo shows the output of, beside its main thread."""
    marimo = sys.modules.get("marimo")
    return marimo is not None and isinstance(threading.current_thread(), marimo.Thread)


def as_marimo(text: str) -> Any:
    """HTML as marimo's own object. Only marimo calls what needs it."""
    return sys.modules["marimo"].Html(text)


def thread_class() -> type[threading.Thread]:
    """The class of threads that may show something."""
    marimo: Any = sys.modules.get("marimo")
    return marimo.Thread if in_marimo() else threading.Thread


def kernel_in_words() -> str:
    """What runs this code: a kernel with its version, IPython in a terminal, or plain Python."""
    if in_marimo():
        return f"marimo {_version('marimo')}"
    if in_kernel():
        return f"a notebook's kernel, ipykernel {_version('ipykernel')}"
    return "plain Python" if _shell() is None else "IPython in a terminal"


def front_end_in_words() -> str:
    """What shows this code's output, as far as a kernel can tell."""
    for variable, name in _FRONT_ENDS.items():
        if os.environ.get(variable):
            return name
    if in_marimo():
        return "a browser, by marimo"
    if in_kernel():
        return "JupyterLab, Notebook 7 or another page (a kernel cannot tell which)"
    return "a terminal" if sys.stderr is not None and sys.stderr.isatty() else "no terminal: a log"


def troubles() -> list[str]:
    """What the panel cannot do in this kernel."""
    if in_marimo() or not in_kernel():
        return []
    version = _version("ipykernel")
    if version.startswith("7.0"):
        return ["the panel: ipykernel 7.0 crashes on updates; pip install 'ipykernel>=7.1'"]
    if version.startswith("6."):
        return [
            f"buttons of a blocking call: ipykernel {version} delivers no click while a cell runs; "
            "use start_parallel, ■ Interrupt, or pip install 'ipykernel>=7.1'"
        ]
    return []


def _version(package: str) -> str:
    return str(getattr(sys.modules.get(package), "__version__", "of unknown version"))


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
