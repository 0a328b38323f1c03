"""The folder beside a target in which a run writes until it is done."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

_MARK, _LOCK = "pardspy-work.json", ".lock"


class WorkFolder:
    """A folder of ours, `.NAME.part` beside the target NAME. It belongs to one run at a time.

    Args:
        target: the path that the run writes to.
    """

    def __init__(self, target: Path) -> None:
        self._target = target
        self.path = target.with_name(f".{target.name}.part")
        self._lock: Any = None

    def open(self) -> None:
        """Make the folder, without what a killed run has left in it.

        Raises:
            FileExistsError: another run writes to the target, or something that is not ours has the
                folder's name.
        """
        from filelock import FileLock, Timeout

        path = self.path
        is_ours = path.is_dir() and not path.is_symlink() and (path / _MARK).is_file()
        if os.path.lexists(path) and not is_ours:
            raise FileExistsError(
                f"{str(path)!r} is where the run would write, and it is not ours: move it away, or "
                "choose another target"
            )
        path.mkdir(exist_ok=True)
        (path / _MARK).write_text(json.dumps({"target": self._target.name, "pid": os.getpid()}))
        lock: Any = FileLock(path / _LOCK, thread_local=False)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise FileExistsError(
                f"another run writes to {str(self._target)!r} now: wait for it, or choose another "
                "target"
            ) from None
        except NotImplementedError:  # a file system without locks
            lock = None
        self._lock = lock
        for left in path.iterdir():
            if left.name not in (_MARK, _LOCK):
                shutil.rmtree(left) if left.is_dir() and not left.is_symlink() else left.unlink()

    def become(self, target: Path) -> Path:
        """Give the folder, with what was written, another name."""
        for name in (_MARK, _LOCK):
            (self.path / name).unlink(missing_ok=True)
        moved = self.path.rename(target)
        self._release()
        return moved

    def remove(self) -> None:
        """Remove the folder; nothing happens if it is not open."""
        if self._lock is not None or (self.path / _MARK).is_file():
            shutil.rmtree(self.path, ignore_errors=True)
        self._release()

    def _release(self) -> None:
        if self._lock is not None:
            self._lock.release()
            self._lock = None
