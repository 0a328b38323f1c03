"""A module made of other modules."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from typing import Any

from ..llm.background_loop import run_sync
from ..signatures.fields import Field, Inputs
from .prediction import Prediction


class Composite(ABC):
    """A module made of other modules. A subclass defines `acall(**inputs)`.

    Attributes:
        inputs, outputs: as in `Module`.
        lms, is_io_bound, has_history: as in `Module`, over all parts.
    """

    inputs: Inputs
    outputs: Mapping[str, Field]
    lms: Sequence[Any]
    is_io_bound: bool
    has_history: bool

    @property
    @abstractmethod
    def decisive(self) -> Sequence[Any]:
        """All that decides the answers, except a row's inputs: modules and parameters."""

    @abstractmethod
    async def acall(self, **inputs: Any) -> Prediction:
        """Run for one row."""

    def __call__(self, **inputs: Any) -> Prediction:
        """`acall`, from synchronous code; works inside a running event loop too."""
        return run_sync(self.acall(**inputs))
