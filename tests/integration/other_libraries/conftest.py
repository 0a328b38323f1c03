"""DSPy and LangChain are installed in the second environment only; see the Makefile."""

from __future__ import annotations

import importlib.util

import pytest

# without them these tests are not collected; the second environment has both
if importlib.util.find_spec("dspy") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    pytest.importorskip("langchain_core")
