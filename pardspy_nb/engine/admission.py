"""Admission of attempts: an attempt starts once no limiter makes it wait."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from ..core.events import Answer, Row
from .protocols import UNTIL_ONE_LEAVES, Limiter


class Admission:
    """Asks the limiters of one run whether an attempt may start now.

    Args:
        limiters: the limiters, which are asked in order.
        call_later: the loop's `call_later`.
        opened: called when an attempt may be let in again.

    Attributes:
        is_closed: whether a limiter made a row wait, and no limiter may have changed its answer
            since.
    """

    def __init__(
        self,
        limiters: Sequence[Limiter],
        call_later: Callable[..., object],
        opened: Callable[[], None],
    ) -> None:
        self._limiters, self._call_later, self._opened = limiters, call_later, opened
        self.is_closed = False
        self._inside = 0
        self._times_closed = 0  # a timer of an earlier closing has no effect

    def admit(self, row: Row, now: float, *, closes: bool = True) -> bool:
        """Whether an attempt at this row starts now.

        If the attempt must wait and `closes` is true, no other row is let in before this wait is
        over. Errors of the limiters are passed on.

        Raises:
            RuntimeError: a limiter waits for an attempt to leave, but no attempt is under way.
        """
        wait_s = 0.0
        for limiter in self._limiters:
            wait_s = max(wait_s, limiter.wait_s(row, now))
        if wait_s == 0:
            self._inside += 1
            for limiter in self._limiters:
                limiter.enter(row, now)
            return True
        if wait_s == UNTIL_ONE_LEAVES and not self._inside:
            raise RuntimeError("a limiter waits for an attempt to leave, but none is under way")
        if closes:
            self.is_closed = True
            self._times_closed += 1
            if wait_s != UNTIL_ONE_LEAVES:
                self._call_later(wait_s, self._open, self._times_closed)
        return False

    def leave(self, row: Row, outcome: Answer | BaseException | None, now: float) -> None:
        """An attempt is over."""
        self._inside -= 1
        for limiter in self._limiters:
            limiter.leave(row, outcome, now)
        self.open()

    def open(self) -> None:
        """Allow attempts again: a limiter may have changed its answer."""
        self._open(self._times_closed)

    def _open(self, times_closed: int) -> None:
        if self.is_closed and times_closed == self._times_closed:
            self.is_closed = False
            self._opened()
