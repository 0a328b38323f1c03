"""How a run is controlled while it goes on."""

from __future__ import annotations

from collections.abc import Callable

from ..core.events import SettingsChanged


class RunControls:
    """The settings of a run under way. An engine holds one, and so does a cluster's coordinator.

    All methods but `stop_taking` are for the thread of the run's loop; they may be called before
    the run begins.

    Args:
        max_workers: rows in flight, to begin with.
        changed: called after each change of a setting.
        cancel: called to cancel the rows in flight.
        released: called with a row's number; all rows below it are finished.

    Attributes:
        max_workers: rows in flight at most.
        is_paused: whether no row may start until `resume`.
        drops_stragglers: whether rows are cancelled that take much longer than the others.
        stop_reason: why the run stops, None while it does not; `stop_error` is the error behind it.
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
        """Change the number of rows in flight; surplus rows in flight finish first."""
        self.max_workers = n
        self._changed()

    def pause(self) -> None:
        """Start nothing new; rows in flight finish."""
        self.is_paused = True
        self._changed()

    def resume(self) -> None:
        """Go on after `pause`."""
        self.is_paused = False
        self._changed()

    def drop_stragglers(self) -> None:
        """From now on cancel rows that are under way for much longer than the others took."""
        if not self.drops_stragglers:
            self.drops_stragglers = True
            self._changed()

    def stop(self, reason: str, error: BaseException | None = None, *, now: bool) -> None:
        """Start nothing new, and cancel what is in flight if `now`. The first reason counts."""
        if self.stop_reason is None:
            self.stop_reason, self.stop_error = reason, error
        if now:
            self.cancels = True
            self._cancel()
        self._changed()

    def release(self, number: int) -> None:
        """All rows below this number are finished, so that later ones may be pulled."""
        self._released(number)

    def stop_taking(self) -> None:
        """Start nothing new. From any thread: a module that blocks the loop also keeps the other
        controls waiting, and must not be called again before they take effect."""
        self._takes_nothing = True

    def event(self) -> SettingsChanged:
        """The settings as they are now."""
        return SettingsChanged(
            self.max_workers, self.is_paused, self.drops_stragglers, self.stop_reason
        )
