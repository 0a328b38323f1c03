"""What became of the first row of each group of errors, in short, for the summary."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..core.error_groups import ErrorGroup
from .row_story import row_story

_MOST = 3  # groups: what stays in a notebook is small
_MOST_CHARS = 1500  # of a story
_MOST_OF_A_PART = 400


def stories_of(df: Any, groups: Sequence[ErrorGroup]) -> dict[str, str]:
    """Stories by the `repr` of rows' labels; none of a row that cannot be told."""
    found = {}
    for group in groups[:_MOST]:
        try:
            parts = row_story(df, group.example).parts()
        except Exception:  # a label that others have, too; inputs that are gone
            continue
        told = [f"[{title}] {_cut(text, _MOST_OF_A_PART)}" for title, text in parts]
        found[repr(group.example)] = _cut("\n".join(told), _MOST_CHARS)
    return found


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 1]}…"
