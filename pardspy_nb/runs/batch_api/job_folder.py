"""Where jobs are kept: a folder beside the store, with one folder a job. Keys are never written."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import re
import stat
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import cloudpickle
from filelock import FileLock, Timeout

from ...core.errors import StoreError
from ...store.sqlite import default_path
from .job_state import JobState

_STATE, _REQUEST = "job.json", "asked.pickle"
_OURS = re.compile(
    r"((job\.json|asked\.pickle|retried\.pickle|(requests|output|errors)-\d+\.jsonl)(\.half)?|\.lock)"
)


class BusyError(StoreError):
    """Another thread or process is at the job."""


class JobFolder:
    """One job's folder.

    Args:
        path: the folder.
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    @classmethod
    def of(cls, store: bool | str | Path | None, job: str) -> JobFolder:
        """The folder of a job, beside a store; it may not exist yet."""
        return cls(_folder(store) / job)

    @contextlib.contextmanager
    def lock(self, wait_s: float) -> Iterator[None]:
        """A lock against other processes: two that begin batches would have them paid for twice.
        BusyError if another process keeps it for longer than this."""
        lock = FileLock(self.path / ".lock", mode=0o600)
        try:
            lock.acquire(timeout=wait_s)
        except Timeout:
            raise BusyError(
                f"another process is at the job {self.path.name}: try again in a moment"
            ) from None
        try:
            yield
        finally:
            lock.release()

    def begin(self, request: Any) -> None:
        """Make the folder, with what the job asks. StoreError if that cannot be kept."""
        try:
            dumped = zlib.compress(cloudpickle.dumps(request), 1)
        except Exception as error:
            raise StoreError(f"the job cannot be kept: {type(error).__name__}: {error}") from error
        try:
            self.path.parent.mkdir(parents=True, mode=0o700, exist_ok=True)
            self.path.mkdir(mode=0o700)
            self._write(_REQUEST, dumped)
        except OSError as error:
            raise StoreError(f"the job cannot be kept in {self.path}: {error}") from error

    def request(self) -> Any:
        """What `begin` was given. StoreError if it cannot be read here, or if others may have put
        it there: it is a pickle, and to read it runs code."""
        self._check_owner()
        try:
            return pickle.loads(zlib.decompress((self.path / _REQUEST).read_bytes()))
        except Exception as error:
            raise StoreError(
                f"what the job {self.path.name} asked cannot be read ({type(error).__name__}: "
                f"{error}); was it made with another version of Python, or a module that is not "
                "here?"
            ) from error

    def _check_owner(self) -> None:
        if not hasattr(os, "getuid"):  # Windows keeps a user's folders from others by itself
            return
        for path, forbidden in ((self.path, 0o077), (self.path.parent, 0o022)):
            found = path.lstat()
            if stat.S_ISLNK(found.st_mode) or found.st_uid != os.getuid():
                raise StoreError(f"{path} does not belong to you, so its jobs are not read")
            if found.st_mode & forbidden:
                raise StoreError(
                    f"others may write to {path} or read it, so its jobs are not read: if all in "
                    f"it is yours, chmod go= {path}"
                )

    def save(self, state: JobState) -> None:
        """Write down how the job stands: the file holds all of the new state, or the old one."""
        self._write(_STATE, json.dumps(state.to_json(), indent=1).encode())

    def load(self) -> JobState:
        """What was saved last. StoreError if there is nothing, or it is damaged."""
        try:
            return JobState.from_json(json.loads((self.path / _STATE).read_bytes()))
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise StoreError(f"the job {self.path.name} cannot be read: {error}") from error

    def put(self, name: str, content: bytes) -> None:
        """Keep a file of the provider's."""
        self._write(name, content)

    def get(self, name: str) -> bytes | None:
        """A file that was put, None if it was not."""
        try:
            return (self.path / name).read_bytes()
        except FileNotFoundError:
            return None

    def remove(self) -> None:
        """Forget the job; its answers stay in the store, and files that are not ours stay."""
        for file in self.path.iterdir():
            if _OURS.fullmatch(file.name):
                file.unlink()
        with contextlib.suppress(OSError):  # it holds what is not ours
            self.path.rmdir()

    def _write(self, name: str, content: bytes) -> None:
        half = self.path / f"{name}.half"
        with open(os.open(half, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(half, self.path / name)


def job_folders(store: bool | str | Path | None) -> Iterator[JobFolder]:
    """The folders of all jobs beside a store."""
    folder = _folder(store)
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if (path / _STATE).exists():
                yield JobFolder(path)


def _folder(store: bool | str | Path | None) -> Path:
    path = default_path() if store is True or store is None else Path(str(store)).expanduser()
    return path.with_name(f"{path.name}.jobs")
