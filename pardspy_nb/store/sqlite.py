"""One SQLite file of remembered answers, one row an answer. The only importer of sqlite3.

A writer thread commits all answers that have arrived since its last commit, so many answers share
one commit. An answer counts as stored once it is committed. In WAL mode a commit survives the end
of the process, and several kernels and processes can share the file.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import queue
import sqlite3
import threading
import time
import warnings
import zlib
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

import platformdirs

from ..core.errors import StoreError
from . import schema
from .claims import BEAT_S, Claimed, Claims
from .schema import COLUMNS, Hopeless, Kept
from .store_file import identity_of, is_ours, keep_private, make_private

_BUSY_S = 30.0  # how long to wait while another process writes
_CLAIM_BUSY_MS = 200  # the loop of a run stands still meanwhile
_GATHER_S = 0.001  # how long a commit waits for more answers
_MOST_KEYS = 500  # in one query
_WAL_PAGES = 4000  # pages of 4 kB, before they are moved into the file
_DAMAGE = (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB)
_GET = f"SELECT {COLUMNS}, checksum FROM answers WHERE key = ?"
_PUT = f"INSERT OR REPLACE INTO answers (key, {COLUMNS}, checksum) VALUES ({', '.join('?' * 15)})"


_Job = tuple[bytes, Kept | Hopeless | None, "asyncio.Future[None] | None"]  # None: a release


def default_path() -> Path:
    """The path in `PARDSPY_STORE`, else a file in the user's cache folder."""
    named = os.environ.get("PARDSPY_STORE")
    if named:
        return Path(named).expanduser()
    # each format has its own file, so that two versions of the package do not share one
    return Path(platformdirs.user_cache_dir("pardspy_nb")) / f"answers-{schema.VERSION}.sqlite"


def open_default() -> Store:
    """Open the default store. A damaged file there may be set aside whatever it holds, unless the
    user named the file."""
    return Store(default_path(), default=not os.environ.get("PARDSPY_STORE"))


class Store:
    """An open store. Call `get` and `put` on one event loop's thread.

    A damaged store file is set aside: it is renamed, and a warning or the error says so. An answer
    whose text does not match its checksum counts as not remembered.

    Args:
        path: the file; made if it does not exist.
        default: whether this is the package's own default file, which is set aside when damaged,
            whatever it holds.

    Raises:
        StoreError: the file cannot be opened, is not a store, or has the format of another version.
    """

    def __init__(self, path: Path, *, default: bool = False) -> None:
        self.path = path.absolute()
        self._default = default
        self._sources: dict[str, str] = {}
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._writer: threading.Thread | None = None
        self._aside: Path | None = None
        self._file: tuple[int, int] | None = None  # which file this store has opened
        self._lock = threading.Lock()
        self._claims, self._has_claims = Claims(), False
        self._db = self._open()
        self._db.execute(f"PRAGMA busy_timeout = {_CLAIM_BUSY_MS}")

    def get(self, key: bytes) -> Kept | None:
        """The answer remembered under this key, or None."""
        found = self._read(_GET, (key,))
        return _whole(key, found[0]) if found else None

    def get_many(self, keys: Iterable[bytes]) -> dict[bytes, Kept]:
        """The answers remembered under these keys."""
        asked, found = list(keys), dict[bytes, Kept]()
        for start in range(0, len(asked), _MOST_KEYS):
            some = asked[start : start + _MOST_KEYS]
            marks = ", ".join("?" * len(some))
            query = f"SELECT key, {COLUMNS}, checksum FROM answers WHERE key IN ({marks})"
            for key, *rest in self._read(query, tuple(some)):
                if (kept := _whole(key, rest)) is not None:
                    found[key] = kept
        return found

    def answers(self) -> Iterator[tuple[Any, ...]]:
        """Every answer with its source: the fields of `Kept`, then the source's JSON."""
        columns = ", ".join(f"a.{name.strip()}" for name in COLUMNS.split(","))
        query = f"SELECT {columns}, s.about FROM answers a LEFT JOIN sources s ON s.id = a.source"
        try:
            yield from self._db.execute(f"{query} ORDER BY a.id")
        except sqlite3.Error as error:
            raise self._explained("read", error) from error

    def about(self, source: str) -> str | None:
        """The description of a source as JSON, None if the source is unknown."""
        found = self._read("SELECT about FROM sources WHERE id = ?", (source,))
        return str(found[0][0]) if found else None

    def figures(self) -> list[tuple[Any, ...]]:
        """For each model: (model, answers, total tokens, USD, times of first and last answer)."""
        query = (
            "SELECT model, count(*), sum(total_tokens), sum(cost_usd), min(at_utc_s), "
            "max(at_utc_s) FROM answers GROUP BY model ORDER BY count(*) DESC"
        )
        return self._read(query, ())

    def declare(self, source: str, about: str) -> None:
        """Describe a source, before its first answer is put."""
        self._sources[source] = about

    async def put(self, key: bytes, kept: Kept) -> None:
        """Remember an answer; returns once it is committed."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._submit(key, kept, done)
        await done

    def put_hopeless(self, key: bytes, hopeless: Hopeless) -> None:
        """Remember that a row was refused; it is committed by `close` at the latest."""
        self._submit(key, hopeless, None)

    def hopeless(self) -> dict[bytes, Hopeless]:
        """All rows that were refused, by key."""
        query = "SELECT key, error_type, message, at_utc_s FROM hopeless"
        return {key: Hopeless(*rest) for key, *rest in self._read(query, ())}

    def claim(self, keys: Sequence[bytes]) -> Claimed:
        """Claim rows for this run, before they are asked (see `claims`)."""
        try:
            taken = self._claims.take(self._db, keys)
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY:
                raise self._explained("write", error) from error
            taken = Claimed(set(), set())  # rather ask than hold up all rows in flight
        except sqlite3.Error as error:
            raise self._explained("write", error) from error
        self._begin_writing()  # its beat keeps the claims
        self._has_claims = True
        return taken

    def release(self, key: bytes) -> None:
        """Give up the claim to a row that got no answer."""
        self._submit(key, None, None)

    def _submit(
        self, key: bytes, kept: Kept | Hopeless | None, done: asyncio.Future[None] | None
    ) -> None:
        self._begin_writing()
        self._jobs.put((key, kept, done))

    def _begin_writing(self) -> None:
        if self._writer is None:
            writer = threading.Thread(target=self._write, name="pardspy-store", daemon=True)
            try:
                writer.start()
            except RuntimeError as error:  # the system has no more threads, or no memory for one
                raise StoreError(f"cannot write to the store {self.path}: {error}") from error
            self._writer = writer

    def remove(self, *, model: str | None = None, before_utc_s: float | None = None) -> int:
        """Forget the answers of this model and from before this time. Returns how many."""
        terms = {"model = ?": model, "at_utc_s < ?": before_utc_s}
        given = {term: value for term, value in terms.items() if value is not None}
        where = f" WHERE {' AND '.join(given)}" if given else ""
        try:
            self._db.execute(f"PRAGMA busy_timeout = {_BUSY_S * 1000:.0f}")
            count = self._db.execute(f"DELETE FROM answers{where}", tuple(given.values())).rowcount
            if model is None:
                when = " WHERE at_utc_s < ?" if before_utc_s is not None else ""
                self._db.execute(f"DELETE FROM hopeless{when}", (before_utc_s,) if when else ())
            self._db.execute("DELETE FROM sources WHERE id NOT IN (SELECT source FROM answers)")
            self._db.execute("VACUUM")
        except sqlite3.Error as error:
            raise self._explained("clear", error) from error
        return count

    def close(self) -> None:
        """Write the answers that are still to be written, and close the store."""
        if self._writer is not None:
            self._jobs.put(None)
            self._writer.join()
        with contextlib.suppress(sqlite3.Error):  # without a beat, claims end by themselves
            if self._has_claims:
                self._claims.end(self._db)
        self._db.close()

    # -- opening ------------------------------------------------------------------------------

    def _open(self) -> sqlite3.Connection:
        try:
            return self._connect()
        except StoreError:
            raise
        except Exception as error:
            if not (_is_damage(error) and (self._default or is_ours(self.path))):
                raise self._explained("open", error) from error
            aside = self._set_aside()
        if aside != self.path:  # else another process did so
            warnings.warn(
                f"the store {self.path} is damaged; it was set aside as {aside.name}, and a new "
                "store is begun: rows remembered in the damaged file will be asked again",
                RuntimeWarning,
                stacklevel=2,
            )
        try:
            return self._connect()
        except Exception as error:
            raise self._explained("open", error) from error

    def _connect(self) -> sqlite3.Connection:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        make_private(self.path)
        if self._default:  # our own folder
            keep_private(self.path.parent, 0o700)
        self._file = identity_of(self.path)
        if not self.path.stat().st_mode & 0o222:  # root could write, but must not
            raise PermissionError("the file is read-only")
        db = sqlite3.connect(
            self.path, timeout=_BUSY_S, check_same_thread=False, isolation_level=None
        )
        with contextlib.ExitStack() as undo:
            undo.callback(db.close)
            schema.prepare(db, self.path)
            _use_wal(db)
            db.execute("PRAGMA synchronous = NORMAL")
            db.execute(f"PRAGMA wal_autocheckpoint = {_WAL_PAGES}")
            undo.pop_all()
        return db

    # -- trouble ------------------------------------------------------------------------------

    def _read(self, query: str, values: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        try:
            return self._db.execute(query, values).fetchall()
        except sqlite3.Error as error:
            raise self._explained("read", error) from error

    def _set_aside(self) -> Path:
        """Rename the damaged file. This is done once, whichever thread or process finds the damage:
        what lies there now may be a new store of another process."""
        from filelock import FileLock

        guard = self.path.with_name(f".{self.path.name}.lock")
        with self._lock, FileLock(guard, mode=0o600):
            if self._aside is None and identity_of(self.path) != self._file:
                self._aside = self.path
            if self._aside is None:
                stamp = (
                    f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime())}-{time.time_ns() % 1000:03}"
                )
                self._aside = self.path.with_name(f"{self.path.name}.damaged-{stamp}")
                for end in ("", "-wal", "-shm"):
                    with contextlib.suppress(OSError):
                        os.replace(f"{self.path}{end}", f"{self._aside}{end}")
            return self._aside

    def _explained(self, doing: str, error: Exception) -> StoreError:
        if _is_damage(error) and (self._default or is_ours(self.path) or self._aside):
            return StoreError(
                f"the store {self.path} is damaged ({error}); it was set aside as "
                f"{self._set_aside().name}: run the same call again to begin a new store"
            )
        return StoreError(
            f"cannot {doing} the store {self.path} ({error}): check the disk and the file, pass "
            "store= another path, or store=None to remember nothing"
        )

    # -- the writer's thread ------------------------------------------------------------------

    def _write(self) -> None:
        db: sqlite3.Connection | None = None
        while True:
            batch = self._batch()
            jobs = [job for job in batch if job is not None]
            failure: StoreError | None = None
            try:
                if jobs or self._has_claims:
                    db = db or self._connect()
                    self._commit(db, jobs)
                    if identity_of(self.path) != self._file:
                        raise StoreError(
                            f"the store {self.path} was removed or replaced while the run goes on; "
                            "its answers are in the frame, and no longer remembered"
                        )
            except StoreError as error:
                failure = error
            except Exception as error:  # any error must be reported, because callers wait in `put`
                failure = self._explained("write", error)
            waiting = [done for _, _, done in jobs if done is not None]
            if waiting:
                with contextlib.suppress(RuntimeError):  # the loop is closed: nobody waits
                    waiting[0].get_loop().call_soon_threadsafe(_settle, waiting, failure)
            if None in batch:
                break
        if db is not None:
            db.close()

    def _commit(self, db: sqlite3.Connection, jobs: list[_Job]) -> None:
        db.execute("BEGIN IMMEDIATE")
        try:
            if self._sources:  # each time, because another process may have cleared the store
                db.executemany("INSERT OR IGNORE INTO sources VALUES (?, ?)", self._sources.items())
            if self._has_claims:
                self._claims.beat(db)
                self._claims.release(db, [key for key, _, _ in jobs])
            answers = [(key, kept) for key, kept, _ in jobs if isinstance(kept, Kept)]
            refused = [(key, *kept) for key, kept, _ in jobs if isinstance(kept, Hopeless)]
            db.executemany(_PUT, [(key, *kept, _checksum(key, kept)) for key, kept in answers])
            db.executemany("DELETE FROM hopeless WHERE key = ?", [(key,) for key, _ in answers])
            db.executemany("INSERT OR REPLACE INTO hopeless VALUES (?, ?, ?, ?)", refused)
            db.execute("COMMIT")
        except BaseException:
            if db.in_transaction:
                db.execute("ROLLBACK")
            raise

    def _batch(self) -> list[_Job | None]:
        """All jobs that have arrived. Waits for the first job, then a moment for more; without any,
        only until the next beat."""
        try:
            batch = [self._jobs.get(timeout=BEAT_S)]
        except queue.Empty:
            return []
        if batch[0] is not None:
            time.sleep(_GATHER_S)
        with contextlib.suppress(queue.Empty):
            while batch[-1] is not None:
                batch.append(self._jobs.get_nowait())
        return batch


def _checksum(key: bytes, kept: Kept) -> int:
    """A checksum of a key and its answer: SQLite does not notice a changed byte within a value."""
    return zlib.crc32(kept.text.encode("utf-8", "surrogatepass"), zlib.crc32(key))


def _whole(key: bytes, found: Sequence[Any]) -> Kept | None:
    """The answer of some fields and a checksum; None if the answer is damaged."""
    kept = Kept(*found[:-1])
    return kept if _checksum(key, kept) == found[-1] else None


def _is_damage(error: Exception) -> bool:
    return getattr(error, "sqlite_errorcode", 0) & 0xFF in _DAMAGE


def _use_wal(db: sqlite3.Connection) -> None:
    """Switch to WAL mode.

    The switch needs exclusive use of the file, and SQLite does not wait for that by itself. Where
    the file system cannot support WAL, SQLite keeps its old mode, which is as safe, but slower.
    """
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


def _settle(waiting: list[asyncio.Future[None]], failure: StoreError | None) -> None:
    for done in waiting:
        if done.cancelled():
            continue
        if failure is None:
            done.set_result(None)
        else:
            done.set_exception(failure)
