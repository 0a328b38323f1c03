"""Remembers the latest runs of this process, so that their frames can be retried."""

from __future__ import annotations

from ..core.options import Options
from ..modules.module import Module

_MOST_RUNS = 100  # `retry_failed` finds the modules of this many runs
_modules: dict[str, tuple[Module, Options]] = {}  # by run id, oldest first


def register(run: str, module: Module, options: Options) -> None:
    """Keep a run's module and options. Beyond `_MOST_RUNS` runs the oldest one is dropped."""
    _modules[run] = (module, options)
    if len(_modules) > _MOST_RUNS:
        del _modules[next(iter(_modules))]


def module_of(run: str | None) -> tuple[Module, Options] | None:
    """The module and options of a run of this process; None if the run is not kept."""
    return _modules.get(run) if run is not None else None
