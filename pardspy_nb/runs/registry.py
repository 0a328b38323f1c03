"""The latest runs of this process, for what is asked of their frames."""

from __future__ import annotations

from ..core.options import Options
from ..modules.module import Module

_MOST_RUNS = 100  # whose modules `retry_failed` finds by itself
_modules: dict[str, tuple[Module, Options]] = {}  # by run, the latest


def register(run: str, module: Module, options: Options) -> None:
    """Note what a run was made of; the oldest run is forgotten beyond `_MOST_RUNS`."""
    _modules[run] = (module, options)
    if len(_modules) > _MOST_RUNS:
        del _modules[next(iter(_modules))]


def module_of(run: str | None) -> tuple[Module, Options] | None:
    """The module and options of one of this process's latest runs."""
    return _modules.get(run) if run is not None else None
