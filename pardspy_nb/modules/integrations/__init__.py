"""Modules of other libraries: DSPy and LangChain. This package imports neither."""

import sys
from typing import Any

from .dspy import DspyModule
from .external import Foreign
from .langchain import from_runnable


def adapt(module: Any) -> Foreign | None:
    """The adapted form of a module of DSPy or LangChain; None for any other object."""
    dspy = sys.modules.get("dspy")
    if dspy is not None and isinstance(module, dspy.Module):
        return DspyModule(dspy, module).adapted()
    runnables = sys.modules.get("langchain_core.runnables")
    if runnables is not None and isinstance(module, runnables.Runnable):
        return from_runnable(module)
    return None
