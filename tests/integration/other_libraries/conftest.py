"""DSPy and LangChain are installed in .venv-dspy only; see the Makefile."""

from __future__ import annotations

import importlib.util

import pytest

# without them these tests are not collected; .venv-dspy has both
if importlib.util.find_spec("dspy") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    pytest.importorskip("langchain_core")
