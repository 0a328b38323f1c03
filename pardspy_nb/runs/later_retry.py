"""Failed rows that are asked again once the other rows of their run are through."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, Protocol

from ..core.error_groups import ErrorGroup
from ..core.errors import ParallelError
from ..display.notebook import WaitMode

AskAgain = Callable[..., Any]  # see `retry.ask_again`


class _Run(Protocol):
    def cancel(self) -> None: ...


class LaterRetry:
    """What a run is to ask again at its end.

    Args:
        ask: see `retry.ask_again`; None if this run asks nothing again.

    Attributes:
        is_running: whether the rows are being asked again now.
        has_run: whether rows were asked again.
    """

    def __init__(self, ask: AskAgain | None) -> None:
        self._ask = ask
        self._asked: list[str | ErrorGroup | None] = []
        self._run: _Run | None = None
        self.is_running = self.has_run = False

    @property
    def is_possible(self) -> bool:
        """Whether failed rows can be asked again."""
        return self._ask is not None

    @property
    def is_asked(self) -> bool:
        """Whether there is something to ask again."""
        return bool(self._asked)

    def ask(self, error: str | ErrorGroup | None) -> None:
        """Note which failed rows are meant; see `retry_failed`. May be called from any thread."""
        self._asked.append(error)

    def drop(self) -> None:
        """Ask nothing again that is not done yet. May be called from any thread."""
        self._asked.clear()
        if self._run is not None:
            self._run.cancel()

    def run(self, df: Any, wait_mode: WaitMode, name: str | None) -> None:
        """Ask the rows again, into their places in `df`. A retry that ends early says so. `name` is
        that of the run."""
        options = {"name": f"{name}, asked again" if name else "asked again"}
        while self._asked and self._ask is not None:
            error = self._asked.pop(0)
            self.is_running = self.has_run = True
            try:
                self._ask(df, None, error, options, wait_mode, self._began)
            except (ParallelError, ValueError) as trouble:
                warnings.warn(f"the failed rows were not all asked again: {trouble}", stacklevel=2)
            finally:
                self.is_running, self._run = False, None

    def _began(self, run: _Run) -> None:
        self._run = run
