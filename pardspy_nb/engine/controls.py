"""The controls of a run: settings that may change while the run goes on."""

from __future__ import annotations

from collections.abc import Callable

from ..core.events import SettingsChanged


class RunControls:
    """The settings of a run under way. An engine holds one, and so does a cluster's coordinator.

    Call all methods but `stop_taking` on the thread of the run's loop. They may be called before
    the run begins.

    Args:
        max_workers: the most rows in flight, when the run begins.
        changed: called after each change of a setting.
        cancel: called to cancel the rows in flight.
        released: called with a row's number when all rows with lower numbers are finished.

    Attributes:
        max_workers: the most rows in flight.
        is_paused: whether no row may start until `resume`.
        drops_stragglers: whether rows that take much longer than the others are cancelled.
        stop_reason: why the run stops, None while it goes on.
        stop_error: the error that stopped the run, None without one.
        cancels: whether a stop has cancelled the rows in flight.
    """

    def __init__(
        self,
        max_workers: int,
        *,
        changed: Callable[[], None],
        cancel: Callable[[], None],
        released: Callable[[int], None],
    ) -> None:
        self.max_workers = max_workers
        self.is_paused = self.drops_stragglers = self.cancels = False
        self.stop_reason: str | None = None
        self.stop_error: BaseException | None = None
        self._changed, self._cancel, self._released = changed, cancel, released
        self._takes_nothing = False

    @property
    def is_held(self) -> bool:
        """Whether no row may start now."""
        return self.stop_reason is not None or self._takes_nothing or self.is_paused

    def set_workers(self, n: int) -> None:
        """Change the most rows in flight. Surplus rows in flight are not cancelled: they finish."""
        self.max_workers = n
        self._changed()

    def pause(self) -> None:
        """Start no new rows; rows in flight finish."""
        self.is_paused = True
        self._changed()

    def resume(self) -> None:
        """Start new rows again after `pause`."""
        self.is_paused = False
        self._changed()

    def drop_stragglers(self) -> None:
        """From now on, cancel rows that take much longer than the finished rows took."""
        if not self.drops_stragglers:
            self.drops_stragglers = True
            self._changed()

    def stop(self, reason: str, error: BaseException | None = None, *, now: bool) -> None:
        """Start no new rows; with `now`, cancel rows in flight, too. The first reason counts."""
        if self.stop_reason is None:
            self.stop_reason, self.stop_error = reason, error
        if now:
            self.cancels = True
            self._cancel()
        self._changed()

    def broke(self, error: Exception) -> None:
        """Our own accounting broke: the run stops, and what is in hand goes on."""
        if self.stop_reason != "crashed":  # to stop calls what may have broken
            self.stop("crashed", error, now=False)

    def release(self, number: int) -> None:
        """Allow later rows to be pulled: all rows below this number are finished."""
        self._released(number)

    def stop_taking(self) -> None:
        """Start no new rows. May be called from any thread.

        A module that blocks the loop also delays the other controls. The module must not be called
        again before these controls take effect.
        """
        self._takes_nothing = True

    def event(self) -> SettingsChanged:
        """The event that reports the current settings."""
        return SettingsChanged(
            self.max_workers, self.is_paused, self.drops_stragglers, self.stop_reason
        )
