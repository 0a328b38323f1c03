"""How many of a run's workers each site has, so that together they are never more than there are.

A share that grows waits until others have shrunk: a site's old share counts until it tells that it
keeps to the new one. What there is is split evenly, and what one site cannot use goes to the
others (max-min fairness: Bertsekas and Gallager, "Data Networks", 1992, section 6.5.2).
"""

from __future__ import annotations

from collections.abc import Mapping


class FairShare:
    """The shares of sites, by name."""

    def __init__(self) -> None:
        self._ordered: dict[str, int] = {}
        self._in_force: dict[str, int] = {}  # what a site may still be keeping to

    def of(self, site: str) -> int:
        """What a site was told."""
        return self._ordered.get(site, 0)

    def leave(self, site: str) -> None:
        """A site is gone, with all that it had under way."""
        self._ordered.pop(site, None)
        self._in_force.pop(site, None)

    def confirm(self, site: str, in_force: int) -> bool:
        """A site tells what it keeps to by now; whether there is more for others."""
        if site not in self._ordered:
            return False
        before, self._in_force[site] = self._in_force[site], max(in_force, self._ordered[site])
        return self._in_force[site] < before

    def split(self, workers: int, wanted: Mapping[str, int]) -> dict[str, int]:
        """The shares that change, now that sites want so many."""
        goal = apportioned(workers, wanted)
        changed = {}
        for site, share in goal.items():
            if share < self._ordered.get(site, 0):
                self._ordered[site] = changed[site] = share
        free = workers - sum(self._in_force.values())
        for site, share in goal.items():
            here = self._ordered.setdefault(site, 0)
            used = self._in_force.setdefault(site, 0)
            more = min(share, used + max(0, free))
            if more > here:
                self._ordered[site] = changed[site] = more
                free -= max(0, more - used)
                self._in_force[site] = max(used, more)
        return changed


def apportioned(workers: int, wanted: Mapping[str, int]) -> dict[str, int]:
    """So many workers in shares that are even, as far as they are wanted."""
    shares = dict.fromkeys(wanted, 0)
    left = workers
    open_ = [site for site, n in wanted.items() if n > 0]
    while left and open_:
        each = max(1, left // len(open_))
        for site in open_[:left]:
            more = min(each, wanted[site] - shares[site])
            shares[site] += more
            left -= more
        open_ = [site for site in open_ if shares[site] < wanted[site]]
    return shares
