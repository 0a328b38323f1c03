"""Checks where a result is to be written."""

from __future__ import annotations

from pathlib import Path

_ENDINGS = (".parquet", ".csv", ".jsonl", ".xlsx")


def checked_target(path: str | Path, ending: str) -> Path:
    """The path of a file of this kind.

    Raises:
        ValueError: its ending is that of another kind, or it is a folder.
        FileNotFoundError: its folder does not exist.
    """
    target = Path(path).expanduser()
    other = target.suffix.lower()
    if other != ending and other in _ENDINGS:
        raise ValueError(
            f"{str(target)!r} ends in {other}, and this writes {ending}: use "
            f"to_{_NAMES[other]}, or another name"
        )
    if target.is_dir():
        raise ValueError(f"{str(target)!r} is a folder: name a file in it")
    if not target.parent.is_dir():
        raise FileNotFoundError(f"there is no folder {str(target.parent)!r}")
    return target


_NAMES = {".parquet": "parquet", ".csv": "csv", ".jsonl": "jsonl", ".xlsx": "excel"}
