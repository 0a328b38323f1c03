"""Words that destinations outside this process have in common."""

from __future__ import annotations


def kept_elsewhere(
    location: object, target: object, error: BaseException | None, remembers: bool
) -> str:
    """Where the rows are that a run did not keep in memory."""
    if error is None:
        return f"rows that are settled are in {location}"
    again = "; what was answered is remembered" if remembers else ""
    return f"{target} was not written{again}"
