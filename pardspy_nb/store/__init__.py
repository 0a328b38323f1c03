"""The store of remembered answers: show what it holds, clear it, and export it."""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .maintenance import StoreInfo, clear, export, info

__all__ = ["StoreInfo", "clear", "export", "info"]


def __getattr__(name: str) -> Any:
    # SQLite is loaded when a store is used, not when the package is imported
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(".maintenance", __name__), name)


def __dir__() -> list[str]:
    return __all__
