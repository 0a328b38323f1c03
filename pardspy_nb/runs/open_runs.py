"""The runs of this process: the latest one, and those that are still open when it ends."""

from __future__ import annotations

import atexit
import os
import time
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .run import Run

_LEAVE_S = 2.0  # the interpreter's exit waits this long for runs that nobody waits for
open_runs: weakref.WeakSet[Run] = weakref.WeakSet()
_last: Run | None = None

if hasattr(os, "register_at_fork"):  # a forked process has no part in its parent's runs
    os.register_at_fork(after_in_child=open_runs.clear)


def last_run() -> Run | None:
    """The run started last in this process, None before the first."""
    return _last


def set_last(run: Run | None) -> Run | None:
    """From now on this is the run started last. Returns the one that was it before."""
    global _last
    before, _last = _last, run
    return before


@atexit.register
def _leave() -> None:
    """Cancel the runs that are still open, so that displays and stores get their final state."""
    until = time.monotonic() + _LEAVE_S
    left = list(open_runs)
    for run in left:
        run.cancel()
    for run in left:
        run.leave(max(0.0, until - time.monotonic()))
