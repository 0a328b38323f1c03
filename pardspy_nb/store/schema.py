"""The tables of the store's file, and what an answer in it is."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any, NamedTuple

from ..core.errors import StoreError

VERSION = 2
APPLICATION = 0x70617264  # marks our files: "pard"
COLUMNS = (
    "words, text, model, finish_reason, prompt_tokens, completion_tokens, total_tokens, "
    "cost_usd, latency_ms, source, at_utc_s, attempts, repaired"
)
# rows are stored in order of arrival: the random keys would scatter each commit over the file
_TABLES = (
    """CREATE TABLE IF NOT EXISTS answers (
        id INTEGER PRIMARY KEY, key BLOB NOT NULL UNIQUE, words TEXT, text TEXT NOT NULL,
        model TEXT, finish_reason TEXT, prompt_tokens INTEGER, completion_tokens INTEGER,
        total_tokens INTEGER, cost_usd REAL, latency_ms REAL, source TEXT, at_utc_s REAL,
        checksum INTEGER NOT NULL)""",
    "CREATE TABLE IF NOT EXISTS sources (id TEXT PRIMARY KEY, about TEXT NOT NULL)",
    """CREATE TABLE IF NOT EXISTS hopeless (
        key BLOB PRIMARY KEY, error_type TEXT NOT NULL, message TEXT NOT NULL, at_utc_s REAL)""",
    # rows that runs have under way (see `claims`)
    "CREATE TABLE IF NOT EXISTS claims (key BLOB PRIMARY KEY, owner TEXT NOT NULL) WITHOUT ROWID",
    """CREATE TABLE IF NOT EXISTS owners (
        owner TEXT PRIMARY KEY, host TEXT NOT NULL, pid INTEGER NOT NULL, beat REAL NOT NULL)""",
)
# columns that files of the first version of this format lack
_LATER = {"attempts": "INTEGER", "repaired": "TEXT"}


class Kept(NamedTuple):
    """One remembered answer.

    Attributes:
        words: the row's inputs as text, as far as they decide the answer.
        text: the model's own text, or the outputs as JSON.
        latency_ms: of the successful call.
        source: the id of the source that made the answer (see `provenance`).
        at_utc_s: when it was asked for, in seconds since the epoch.
        attempts: how many attempts the row took; None if that was not stored.
        repaired: how the answer was repaired, None for not at all.
    """

    words: str
    text: str
    model: str | None
    finish_reason: str | None
    prompt_tokens: int | None
    completion_tokens: int | None
    total_tokens: int | None
    cost_usd: float | None
    latency_ms: float | None
    source: str
    at_utc_s: float
    attempts: int | None = None
    repaired: str | None = None


class Hopeless(NamedTuple):
    """A row that was refused for good: to ask again would not help."""

    error_type: str
    message: str
    at_utc_s: float


def prepare(db: Any, path: Path) -> None:
    """Make the tables that a file lacks.

    Raises:
        StoreError: the file is not a store of this version.
    """
    if _is_ready(db):
        return
    db.execute("BEGIN IMMEDIATE")  # another process may be making the tables just now
    with contextlib.ExitStack() as undo:
        undo.callback(db.rollback)
        _check(db, path)
        for statement in _TABLES:
            db.execute(statement)
        there = _columns(db)
        for name, kind in _LATER.items():
            if name not in there:
                db.execute(f"ALTER TABLE answers ADD COLUMN {name} {kind}")
        db.execute(f"PRAGMA application_id = {APPLICATION}")
        db.execute(f"PRAGMA user_version = {VERSION}")
        db.commit()
        undo.pop_all()


def _is_ready(db: Any) -> bool:
    ours = number(db, "user_version") == VERSION and number(db, "application_id") == APPLICATION
    tables = {row[0] for row in db.execute("SELECT name FROM sqlite_master")}
    return ours and _columns(db) >= _LATER.keys() and {"claims", "owners"} <= tables


def _columns(db: Any) -> set[str]:
    return {row[1] for row in db.execute("PRAGMA table_info(answers)")}


def _check(db: Any, path: Path) -> None:
    version = number(db, "user_version")
    if version == 0 and not db.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
        return
    if number(db, "application_id") != APPLICATION:
        raise StoreError(f"{path} is a database of something else; pass store= another path")
    if version != VERSION:
        raise StoreError(
            f"the store {path} has format {version}, this version of the package reads "
            f"{VERSION}: pass store= another path, or move the file away"
        )


def number(db: Any, pragma: str) -> int:
    """The value of a pragma."""
    return int(db.execute(f"PRAGMA {pragma}").fetchone()[0])
