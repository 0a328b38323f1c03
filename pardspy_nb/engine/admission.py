"""Several gates as one: an attempt starts once none of them makes it wait."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..core.events import Answer, Row
from .protocols import UNTIL_ONE_LEAVES, Limiter


class Admission:
    """The gates of one run, and whether they are shut now.

    Args:
        call_later: the loop's.
        opened: called when a shut gate may have opened.

    Attributes:
        shut: a row was made to wait, and nothing has changed since.
    """

    def __init__(
        self,
        gates: Sequence[Limiter],
        call_later: Callable[..., object],
        opened: Callable[[], None],
    ) -> None:
        self._gates, self._call_later, self._opened = gates, call_later, opened
        self.shut = False
        self._inside = 0
        self._times_shut = 0  # timers of earlier times are void

    def admit(self, row: Row, now: float, *, shut: bool = True) -> bool:
        """Whether an attempt starts now; else the gates are shut, unless they are not to be.
        Their errors are passed on."""
        wait_s = 0.0
        for gate in self._gates:
            wait_s = max(wait_s, gate.wait_s(row, now))
        if wait_s == 0:
            self._inside += 1
            for gate in self._gates:
                gate.enter(row, now)
            return True
        if wait_s == UNTIL_ONE_LEAVES and not self._inside:
            raise RuntimeError("a gate waits for an attempt to leave, and there is none")
        if shut:
            self.shut = True
            self._times_shut += 1
            if wait_s != UNTIL_ONE_LEAVES:
                self._call_later(wait_s, self._open, self._times_shut)
        return False

    def leave(self, row: Row, outcome: Answer | BaseException | None, now: float) -> None:
        """An attempt is over."""
        self._inside -= 1
        for gate in self._gates:
            gate.leave(row, outcome, now)
        if self.shut:
            self._open(self._times_shut)

    def open(self) -> None:
        """A gate may let rows through again, for a reason of its own."""
        self._open(self._times_shut)

    def _open(self, time: int) -> None:
        if self.shut and time == self._times_shut:
            self.shut = False
            self._opened()
