"""Which methods a user's subclass has replaced."""

from __future__ import annotations

from typing import Any


def overrides(kind: type, *methods: Any) -> bool:
    """Whether a class replaces any of these functions by its own method."""
    return any(getattr(kind, method.__name__) is not method for method in methods)
