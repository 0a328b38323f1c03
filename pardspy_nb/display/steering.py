"""What the buttons of a panel do, whatever draws them."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple, Protocol

if TYPE_CHECKING:
    from .progress import RunProgress

_STEP = 1.25  # one click on a workers button multiplies or divides by this


class Controls(Protocol):
    """The actions of a panel's buttons on a run. Each returns at once and works from any thread."""

    max_workers: int

    def pause(self) -> None:
        """Start nothing new; rows in flight finish."""

    def resume(self) -> None:
        """Start new rows again."""

    def drop_stragglers(self) -> None:
        """From now on, cancel rows that take much longer than the others."""

    def cancel(self) -> None:
        """Stop now."""


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
        if kind in ("pause", "cancel"):
            return state.stopping is not None
        if kind == "fewer":
            return self._controls.max_workers <= 1
        return kind == "finish" and (state.dropping or not state.latencies_ms)

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
