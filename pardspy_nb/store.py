"""Completed rows, remembered: one SQLite file, one row an answer.

A writer thread commits whatever has arrived since its last commit, so many rows share one; a row
counts as completed once it is committed. In WAL mode a commit survives the end of the process,
and kernels and processes can share the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
import time
from pathlib import Path
from typing import NamedTuple

import platformdirs

from .errors import StoreError

_VERSION = 1
_BUSY_S = 30.0  # another process may be writing
_SCHEMA = """
CREATE TABLE answers (
    key BLOB PRIMARY KEY, text TEXT NOT NULL, model TEXT, finish_reason TEXT,
    prompt_tokens INTEGER, completion_tokens INTEGER, total_tokens INTEGER, cost_usd REAL,
    at_utc_s REAL NOT NULL
) WITHOUT ROWID
"""


class Kept(NamedTuple):
    """One remembered answer: the model's own text, and what it had cost."""

    text: str
    model: str | None
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    total_tokens: int | None
    cost_usd: float | None


_Job = tuple[bytes, Kept, "asyncio.Future[None]"]


def default_path() -> Path:
    """`PARDSPY_STORE`, else `answers.sqlite` in the user's cache folder."""
    named = os.environ.get("PARDSPY_STORE")
    if named:
        return Path(named).expanduser()
    return Path(platformdirs.user_cache_dir("pardspy_nb")) / "answers.sqlite"


class Store:
    """An open store. `get` and `put` are for one event loop's thread.

    Raises:
        StoreError: the file cannot be opened, is damaged, or was made by another version.
    """

    def __init__(self, path: Path) -> None:
        self.path = path.absolute()
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._answers = self._connect()

    def get(self, key: bytes) -> Kept | None:
        """The answer remembered under this key."""
        try:
            found = self._answers.execute(
                "SELECT text, model, finish_reason, prompt_tokens, completion_tokens, "
                "total_tokens, cost_usd FROM answers WHERE key = ?", (key,)
            ).fetchone()  # fmt: skip
        except sqlite3.Error as error:
            raise self._explained("read", error) from error
        return Kept(*found) if found else None

    async def put(self, key: bytes, kept: Kept) -> None:
        """Remember an answer; returns once it is committed."""
        if self._writer is None:
            self._writer = threading.Thread(target=self._write, name="pardspy-store", daemon=True)
            self._writer.start()
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._jobs.put((key, kept, done))
        await done

    def close(self) -> None:
        """Write what is still to be written, and close."""
        if self._writer is not None:
            self._jobs.put(None)
            self._writer.join()
        self._answers.close()

    def _connect(self) -> sqlite3.Connection:
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))  # prompts are private
            db = sqlite3.connect(self.path, timeout=_BUSY_S, check_same_thread=False)
            with contextlib.ExitStack() as undo:
                undo.callback(db.close)
                self._check_version(db)
                _use_wal(db)
                db.execute("PRAGMA synchronous = NORMAL")
                undo.pop_all()
        except (OSError, ValueError, sqlite3.Error) as error:
            raise self._explained("open", error) from error
        return db

    def _check_version(self, db: sqlite3.Connection) -> None:
        found = db.execute("PRAGMA user_version").fetchone()[0]
        if found not in (0, _VERSION):
            raise StoreError(
                f"the store {self.path} has format {found}, this version reads {_VERSION}: pass "
                "store= another path, or move the file away"
            )
        if found == 0:
            with db:
                db.execute("BEGIN IMMEDIATE")
                self._make_tables(db)

    def _make_tables(self, db: sqlite3.Connection) -> None:
        if db.execute("PRAGMA user_version").fetchone()[0] == _VERSION:
            return  # another has just made them
        if db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise StoreError(
                f"{self.path} is a database of something else; pass store= another path"
            )
        db.execute(_SCHEMA)
        db.execute(f"PRAGMA user_version = {_VERSION}")

    def _write(self) -> None:
        db = None
        while batch := self._batch():
            jobs = [job for job in batch if job is not None]
            failure: StoreError | None = None
            try:
                db = db or self._connect()
                now = time.time()
                with db:
                    db.executemany(
                        "INSERT OR REPLACE INTO answers VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                        [(key, *kept, now) for key, kept, _ in jobs],
                    )
            except StoreError as error:
                failure = error
            except Exception as error:  # whatever it is, somebody waits for this answer
                failure = self._explained("write", error)
            if jobs:
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                    jobs[0][2].get_loop().call_soon_threadsafe(_settle, jobs, failure)
            if None in batch:
                break
        if db is not None:
            db.close()

    def _batch(self) -> list[_Job | None]:
        """All that has arrived; waits for the first."""
        batch = [self._jobs.get()]
        with contextlib.suppress(queue.Empty):
            while batch[-1] is not None:
                batch.append(self._jobs.get_nowait())
        return batch

    def _explained(self, doing: str, error: Exception) -> StoreError:
        return StoreError(
            f"cannot {doing} the store {self.path} ({error}): check the disk, pass store= another "
            "path, or store=None to remember nothing"
        )


def _use_wal(db: sqlite3.Connection) -> None:
    """Switching needs the file alone, and SQLite does not wait for that by itself. Where the
    file system cannot do it, SQLite stays with what it has, which is as safe and slower."""
    until = time.monotonic() + _BUSY_S
    while True:
        try:
            db.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            busy = error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
            if not busy or time.monotonic() > until:
                raise
            time.sleep(0.01)


def _settle(jobs: list[_Job], failure: StoreError | None) -> None:
    for _, _, done in jobs:
        if done.cancelled():
            continue
        if failure is None:
            done.set_result(None)
        else:
            done.set_exception(failure)
