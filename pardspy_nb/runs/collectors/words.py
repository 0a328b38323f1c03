"""Phrases that the destinations outside this process share."""

from __future__ import annotations


def kept_elsewhere(
    location: object, target: object, error: BaseException | None, remembers: bool
) -> str:
    """A phrase that tells where the rows are that a run did not keep in memory."""
    if error is None:
        return f"rows that are settled are in {location}"
    again = "; the answers are remembered" if remembers else ""
    return f"{target} was not written{again}"
