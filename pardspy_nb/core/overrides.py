"""Which methods a user's subclass has replaced."""

from __future__ import annotations

from typing import Any


def overrides(kind: type, *methods: Any) -> bool:
    """Whether a class has its own method in place of any of these functions."""
    return any(getattr(kind, method.__name__) is not method for method in methods)
