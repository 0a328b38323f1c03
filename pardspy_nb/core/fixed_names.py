"""Objects that people steer by attributes."""

from __future__ import annotations

import difflib
from typing import Any


class FixedNames:
    """A base class: a misspelt public attribute is refused. Python would take it, in silence."""

    def __setattr__(self, name: str, value: Any) -> None:
        kind = type(self)
        if not name.startswith("_") and not hasattr(kind, name):
            near = difflib.get_close_matches(name, [n for n in dir(kind) if n[0] != "_"], 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise AttributeError(f"a {kind.__name__} has no {name!r} to set{hint}")
        super().__setattr__(name, value)
