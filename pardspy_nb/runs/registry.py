"""Remembers the latest runs of this process, so that their frames can be retried, and rows tell
their stories."""

from __future__ import annotations

from ..core.options import Options
from ..modules.module import Module
from .attempts import FailedAttempts

_MOST_RUNS = 100  # `retry_failed` finds the modules of this many runs
_modules: dict[str, tuple[Module, Options]] = {}  # by run id, oldest first
_attempts: dict[str, FailedAttempts] = {}


def register(run: str, module: Module, options: Options, attempts: FailedAttempts) -> None:
    """Keep a run's module and options, and its failed attempts. Beyond `_MOST_RUNS` runs the oldest
    one is dropped."""
    _modules[run], _attempts[run] = (module, options), attempts
    if len(_modules) > _MOST_RUNS:
        oldest = next(iter(_modules))
        del _modules[oldest], _attempts[oldest]


def attempts_of(run: str | None) -> FailedAttempts | None:
    """The failed attempts of a run of this process; None if the run is not kept."""
    return _attempts.get(run) if run is not None else None


def module_of(run: str | None) -> tuple[Module, Options] | None:
    """The module and options of a run of this process; None if the run is not kept."""
    return _modules.get(run) if run is not None else None
