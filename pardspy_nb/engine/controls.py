"""How a run is set while it goes on, for whatever runs it."""

from __future__ import annotations

from abc import ABC, abstractmethod


class RunControls(ABC):
    """The controls that an engine and a cluster's coordinator have in common (see
    `protocols.Controllable`). Used on the thread of the run's loop, also before it runs.

    Args:
        max_workers: attempts under way, to begin with.
    """

    def __init__(self, max_workers: int) -> None:
        self._workers_wanted = max_workers
        self._paused = self._takes_nothing = False
        self._stop_reason: str | None = None
        self._stop_error: BaseException | None = None

    @abstractmethod
    def _settings_changed(self) -> None:
        """Something was set: tell of it, and act on it."""

    def set_workers(self, n: int) -> None:
        """Change the number of rows in flight; surplus rows in flight finish first."""
        self._workers_wanted = n
        self._settings_changed()

    def pause(self) -> None:
        """Start nothing new; rows in flight finish."""
        self._paused = True
        self._settings_changed()

    def resume(self) -> None:
        """Go on after `pause`."""
        self._paused = False
        self._settings_changed()

    def stop_taking(self) -> None:
        """Start nothing new. From any thread: a module that blocks the loop keeps the other
        controls waiting, and would be called again before they are heard."""
        self._takes_nothing = True

    def _note_stop(self, reason: str, error: BaseException | None) -> None:
        """The first reason counts."""
        if self._stop_reason is None:
            self._stop_reason, self._stop_error = reason, error

    @property
    def _is_held(self) -> bool:
        """Whether nothing new may start."""
        return self._stop_reason is not None or self._takes_nothing or self._paused
