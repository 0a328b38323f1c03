"""The store's file as a file: which one it is, whose, and who may read it."""

from __future__ import annotations

import contextlib
import os
import stat
from pathlib import Path

from . import schema


def identity_of(path: Path) -> tuple[int, int] | None:
    """Which file lies at a path; None for none."""
    try:
        found = path.stat()
    except OSError:
        return None
    return found.st_dev, found.st_ino


def make_private(path: Path) -> None:
    """Make the file if there is none, for the user alone: prompts are private.

    A file that exists is not opened: to close it again would drop all locks that SQLite holds in
    this process, and another process would then take the file for its own ("How To Corrupt An
    SQLite Database File", section 2.2).
    """
    with contextlib.suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_RDWR, 0o600))
    keep_private(path, 0o600)


def keep_private(path: Path, mode: int) -> None:
    """Take the rights of others at a file or folder of the user's."""
    with contextlib.suppress(OSError):
        found = path.stat()
        is_mine = not hasattr(os, "getuid") or found.st_uid == os.getuid()
        if is_mine and found.st_mode & 0o077:
            path.chmod(stat.S_IMODE(found.st_mode) & (0o700 | mode))


def is_ours(path: Path) -> bool:
    """Whether a file, whole or damaged, has our application id in its header (SQLite file format,
    section 1.3)."""
    try:
        with path.open("rb") as file:
            header = file.read(72)
    except OSError:
        return False
    ours = schema.APPLICATION.to_bytes(4)
    return header.startswith(b"SQLite format 3\0") and header[68:72] == ours
