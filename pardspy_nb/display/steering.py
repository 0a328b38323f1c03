"""What the buttons of a panel do, whatever draws them."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..core.error_groups import ErrorGroup

if TYPE_CHECKING:
    from .progress import RunProgress

_STEP = 1.25  # one click on a workers button multiplies or divides by this
_MOST_STORIES = 8  # of a panel: each takes some work


class Controls(Protocol):
    """What a panel needs of a run. The actions return at once and work from any thread."""

    max_workers: int

    @property
    def can_retry(self) -> bool:
        """Whether failed rows can be asked again at the end."""

    def pause(self) -> None:
        """Start nothing new; rows in flight finish."""

    def resume(self) -> None:
        """Start new rows again."""

    def drop_stragglers(self) -> None:
        """From now on, cancel rows that take much longer than the others."""

    def cancel(self) -> None:
        """Stop now."""

    def retry_failed(self, error: ErrorGroup) -> None:
        """Ask a group's rows again, once the other rows are through."""

    def story(self, group: ErrorGroup) -> str | None:
        """What became of a group's first row, in short; None if it cannot be told."""


class Button(NamedTuple):
    """A button: `kind` names it in code, `tip` says what it does, `icon` is Font Awesome's."""

    kind: str
    name: str
    tip: str
    icon: str
    act: Callable[[], None]


class Steering:
    """The buttons of one run. Their actions draw nothing: a kernel may call them from a thread.

    Attributes:
        state: the run's state, as of the last painting.
    """

    def __init__(self, controls: Controls) -> None:
        self._controls = controls
        self._stories: dict[tuple[str, str], str | None] = {}
        self._again: set[tuple[str, str]] = set()  # groups that are asked again
        self.state: RunProgress | None = None

    @property
    def buttons(self) -> list[Button]:
        """The buttons, in their order."""
        stop = self._controls
        return [
            Button(
                "pause", "Pause", "Start no new rows; rows in flight finish", "pause", self._toggle
            ),
            Button("fewer", "Fewer workers", "A fifth fewer rows in flight", "minus", self._slower),
            Button("more", "More workers", "A quarter more rows in flight", "plus", self._faster),
            Button(
                "finish",
                "Finish without stragglers",
                "Cancel every row that takes more than twice as long as nine rows in ten did",
                "forward",
                stop.drop_stragglers,
            ),
            Button(
                "cancel",
                "Cancel (or ■ Interrupt)",
                "Stop now; finished rows are kept",
                "stop",
                stop.cancel,
            ),
        ]

    def is_off(self, kind: str, state: RunProgress) -> bool:
        """Whether a button can do nothing now."""
        if state.asks_again:  # the retry has buttons of its own
            return True
        if kind in ("pause", "cancel"):
            return state.stopping is not None
        if kind == "fewer":
            return self._controls.max_workers <= 1
        return kind == "finish" and (state.dropping or not state.latencies_ms)

    def retry_button(self, group: ErrorGroup) -> Button | None:
        """The button that asks a group's rows again; None if that is not possible."""
        if not self._controls.can_retry:
            return None
        tip = "Ask the rows of this group again, once the other rows are through"
        return Button("retry", "Retry these", tip, "repeat", partial(self._retry, group))

    def is_asked_again(self, group: ErrorGroup) -> bool:
        """Whether a group's rows are asked again, once the other rows are through."""
        return group.key in self._again

    def story(self, group: ErrorGroup) -> str | None:
        """What became of a group's first row, in short."""
        if group.key not in self._stories and len(self._stories) < _MOST_STORIES:
            self._stories[group.key] = self._controls.story(group)
        return self._stories.get(group.key)

    def _retry(self, group: ErrorGroup) -> None:
        if not self.is_asked_again(group):
            self._again.add(group.key)
            self._controls.retry_failed(group)

    def _toggle(self) -> None:
        if self.state is not None and self.state.paused:
            self._controls.resume()
        else:
            self._controls.pause()

    def _faster(self) -> None:
        now = self._controls.max_workers
        self._controls.max_workers = max(now + 1, int(now * _STEP))

    def _slower(self) -> None:
        now = self._controls.max_workers
        self._controls.max_workers = max(1, min(now - 1, int(now / _STEP)))
