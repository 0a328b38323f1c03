"""How many rows each worker may have in flight; all shares together never exceed the run's limit.

A share grows only after other shares have shrunk: a worker's old share counts until the worker
confirms the new share. The limit is split evenly, and what one worker cannot use goes to the others
(max-min fairness: Bertsekas and Gallager, "Data Networks", 1992, section 6.5.2).
"""

from __future__ import annotations

from collections.abc import Mapping


class FairShare:
    """The shares of workers, by name."""

    def __init__(self) -> None:
        self._given: dict[str, int] = {}
        self._in_force: dict[str, int] = {}  # the share that a worker may still follow

    def of(self, worker: str) -> int:
        """The share that a worker was given."""
        return self._given.get(worker, 0)

    def leave(self, worker: str) -> None:
        """A worker is gone, and its attempts with it."""
        self._given.pop(worker, None)
        self._in_force.pop(worker, None)

    def confirm(self, worker: str, in_force: int) -> bool:
        """A worker confirms the share that it follows. Returns whether this frees a part."""
        if worker not in self._given:
            return False
        before, self._in_force[worker] = self._in_force[worker], max(in_force, self._given[worker])
        return self._in_force[worker] < before

    def split(self, n: int, wanted: Mapping[str, int]) -> dict[str, int]:
        """Split `n` rows in flight anew. Returns the shares that change.

        `wanted` holds how many rows each worker could have in flight.
        """
        goal = apportioned(n, wanted)
        changed = {}
        for worker, share in goal.items():
            if share < self._given.get(worker, 0):
                self._given[worker] = changed[worker] = share
        free = n - sum(self._in_force.values())
        for worker, share in goal.items():
            given = self._given.setdefault(worker, 0)
            used = self._in_force.setdefault(worker, 0)
            more = min(share, used + max(0, free))
            if more > given:
                self._given[worker] = changed[worker] = more
                free -= max(0, more - used)
                self._in_force[worker] = max(used, more)
        return changed


def apportioned(n: int, wanted: Mapping[str, int]) -> dict[str, int]:
    """Split `n` into even shares; no worker gets more than `wanted`."""
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
