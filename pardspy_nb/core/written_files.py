"""Files that are written beside their target and then take its place, so that a full disk or a
killed process leaves the old file."""

from __future__ import annotations

import contextlib
import os
import stat
import uuid
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def written_beside(target: Path) -> Iterator[Path]:
    """A path to write to. At the end of the scope, what was written takes the target's place, with
    the target's mode; after an error the target is as before. A symbolic link goes on pointing to
    the same file."""
    place = target.resolve() if target.is_symlink() else target
    new = place.with_name(f".pardspy-{uuid.uuid4().hex[:12]}{place.suffix}")
    try:
        yield new
        take_place(new, place)
    finally:
        new.unlink(missing_ok=True)


def take_place(new: Path, target: Path) -> None:
    """Move a file to the target's place on the same file system, with the mode of the target."""
    with new.open("rb") as file:
        os.fsync(file.fileno())
    with contextlib.suppress(FileNotFoundError):
        new.chmod(stat.S_IMODE(target.stat().st_mode))
    os.replace(new, target)
