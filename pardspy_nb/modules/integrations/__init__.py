"""Modules of other libraries: DSPy and LangChain. Neither is imported here."""

import sys
from typing import Any

from .dspy import DspyModule
from .external import Foreign
from .langchain import from_runnable


def adapt(module: Any) -> Foreign | None:
    """What a module of another library is here; None if it is none of theirs."""
    dspy = sys.modules.get("dspy")
    if dspy is not None and isinstance(module, dspy.Module):
        return DspyModule(dspy, module).adapted()
    runnables = sys.modules.get("langchain_core.runnables")
    if runnables is not None and isinstance(module, runnables.Runnable):
        return from_runnable(module)
    return None
