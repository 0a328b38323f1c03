"""Claims: which rows are under way in which run, so that several runs at once pay for each once.

A run claims a row before it asks; the claim goes when its answer is stored, or the run ends. Runs
tell that they live by a beat; what a dead one has claimed is free.
"""

from __future__ import annotations

import os
import socket
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple

BEAT_S = 2.0
_DEAD_S = 20.0  # without a beat, for example on another machine
_MOST_KEYS = 500  # in one query


class Claimed(NamedTuple):
    """What became of claims.

    Attributes:
        elsewhere: keys that another run has under way.
        answered: keys that have got their answer meanwhile; they are not claimed.
    """

    elsewhere: set[bytes]
    answered: set[bytes]


class Claims:
    """The claims of one run. Each method uses the connection of its caller's thread."""

    def __init__(self) -> None:
        self._host, self._pid = socket.gethostname(), os.getpid()
        self._owner = f"{self._host}:{self._pid}:{uuid.uuid4().hex}"

    def take(self, db: Any, keys: Sequence[bytes]) -> Claimed:
        """Claim keys, but those that another living run has claimed."""
        elsewhere: set[bytes] = set()
        answered: set[bytes] = set()
        with _transaction(db):
            self.beat(db)
            for start in range(0, len(keys), _MOST_KEYS):
                some = tuple(keys[start : start + _MOST_KEYS])
                marks = ", ".join("?" * len(some))
                held = db.execute(
                    "SELECT c.key, c.owner, o.host, o.pid, o.beat FROM claims c "
                    f"LEFT JOIN owners o ON o.owner = c.owner WHERE c.key IN ({marks})",
                    some,
                )
                elsewhere |= {key for key, *of in held if self._is_alive(*of)}
                found = db.execute(f"SELECT key FROM answers WHERE key IN ({marks})", some)
                answered |= {key for (key,) in found}
            free = [(k, self._owner) for k in keys if k not in elsewhere and k not in answered]
            db.executemany("INSERT OR REPLACE INTO claims VALUES (?, ?)", free)
        return Claimed(elsewhere - answered, answered)

    def release(self, db: Any, keys: Sequence[bytes]) -> None:
        """Give up claims; within the caller's transaction, if there is one."""
        db.executemany(
            "DELETE FROM claims WHERE key = ? AND owner = ?", [(key, self._owner) for key in keys]
        )

    def beat(self, db: Any) -> None:
        """Tell that this run lives."""
        db.execute(
            "INSERT OR REPLACE INTO owners VALUES (?, ?, ?, ?)",
            (self._owner, self._host, self._pid, time.time()),
        )

    def end(self, db: Any) -> None:
        """Give up all claims, those of dead runs too."""
        with _transaction(db):
            owners = db.execute("SELECT owner, host, pid, beat FROM owners").fetchall()
            gone = [(owner,) for owner, *of in owners if not self._is_alive(owner, *of)]
            db.executemany("DELETE FROM claims WHERE owner = ?", gone)
            db.executemany("DELETE FROM owners WHERE owner = ?", gone)

    def _is_alive(self, owner: str, host: str | None, pid: int | None, beat: float | None) -> bool:
        """Whether another run lives; this one does not count."""
        if owner == self._owner or beat is None or time.time() - beat > _DEAD_S:
            return False
        if host == self._host and pid is not None and pid != self._pid:
            try:
                os.kill(pid, 0)
            except ProcessLookupError:
                return False
            except OSError:  # it lives, and belongs to somebody else
                return True
        return True


@contextmanager
def _transaction(db: Any) -> Iterator[None]:
    db.execute("BEGIN IMMEDIATE")
    try:
        yield
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise
