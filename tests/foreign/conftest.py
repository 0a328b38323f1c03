"""For these tests the environment has DSPy and LangChain, and an openai client of version 2."""

from __future__ import annotations

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

from conftest import *  # noqa: F403
