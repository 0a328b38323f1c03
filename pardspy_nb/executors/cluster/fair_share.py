"""How many rows each worker may have in flight, so that all together never exceed the run's number.

A share that grows waits until others have shrunk: a worker's old share counts until the worker
confirms the new one. The number is split evenly, and what one worker cannot use goes to the others
(max-min fairness: Bertsekas and Gallager, "Data Networks", 1992, section 6.5.2).
"""

from __future__ import annotations

from collections.abc import Mapping


class FairShare:
    """The shares of workers, by name."""

    def __init__(self) -> None:
        self._given: dict[str, int] = {}
        self._in_force: dict[str, int] = {}  # what a worker may still be keeping to

    def of(self, worker: str) -> int:
        """The share a worker was given."""
        return self._given.get(worker, 0)

    def leave(self, worker: str) -> None:
        """A worker is gone, with all that it had under way."""
        self._given.pop(worker, None)
        self._in_force.pop(worker, None)

    def confirm(self, worker: str, in_force: int) -> bool:
        """A worker confirms the share that it keeps to; returns whether that frees some."""
        if worker not in self._given:
            return False
        before, self._in_force[worker] = self._in_force[worker], max(in_force, self._given[worker])
        return self._in_force[worker] < before

    def split(self, n: int, wanted: Mapping[str, int]) -> dict[str, int]:
        """The shares that change, now that workers want so many."""
        goal = apportioned(n, wanted)
        changed = {}
        for worker, share in goal.items():
            if share < self._given.get(worker, 0):
                self._given[worker] = changed[worker] = share
        free = n - sum(self._in_force.values())
        for worker, share in goal.items():
            here = self._given.setdefault(worker, 0)
            used = self._in_force.setdefault(worker, 0)
            more = min(share, used + max(0, free))
            if more > here:
                self._given[worker] = changed[worker] = more
                free -= max(0, more - used)
                self._in_force[worker] = max(used, more)
        return changed


def apportioned(n: int, wanted: Mapping[str, int]) -> dict[str, int]:
    """A number in shares that are even, as far as they are wanted."""
    shares = dict.fromkeys(wanted, 0)
    left = n
    open_ = [worker for worker, most in wanted.items() if most > 0]
    while left and open_:
        each = max(1, left // len(open_))
        for worker in open_[:left]:
            more = min(each, wanted[worker] - shares[worker])
            shares[worker] += more
            left -= more
        open_ = [worker for worker in open_ if shares[worker] < wanted[worker]]
    return shares
