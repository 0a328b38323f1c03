"""The store as users see it: show the remembered answers, clear them, and export them."""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from .answers_file import write
from .sqlite import Store, default_path, open_default

__all__ = ["StoreInfo", "clear", "export", "info"]

_UNITS = ("B", "kB", "MB", "GB")


@dataclass(frozen=True)
class StoreInfo:
    """What a store holds.

    Attributes:
        path: the file.
        bytes: the size of the file, with the data that is not yet moved into the file.
        answers: the number of remembered answers.
        tokens, cost_usd: what the answers used and cost when they were made, where that is known.
        oldest, newest: when the first and the last answer were made (UTC), None without any.
        by_model: the number of remembered answers of each model.
    """

    path: Path
    bytes: int
    answers: int = 0
    tokens: int = 0
    cost_usd: float = 0.0
    oldest: datetime | None = None
    newest: datetime | None = None
    by_model: dict[str, int] = field(default_factory=dict)

    def __repr__(self) -> str:
        size, unit = float(self.bytes), 0
        while size >= 1000 and unit < len(_UNITS) - 1:
            size, unit = size / 1000, unit + 1
        lines = [f"{self.path}: {self.answers:,} answers, {size:.3g} {_UNITS[unit]}"]
        if self.oldest and self.newest:
            lines.append(f"{self.tokens:,} tokens, ${self.cost_usd:,.4g}")
            lines.append(f"from {self.oldest:%Y-%m-%d %H:%M} to {self.newest:%Y-%m-%d %H:%M} UTC")
        lines += [f"{n:,} of {model}" for model, n in self.by_model.items()]
        return "\n  ".join(lines)


def _path(store: str | Path | None) -> Path:
    return default_path() if store is None else Path(store).expanduser()


def _open(store: str | Path | None) -> Store | None:
    """The store; None if there is no file. No file is made."""
    path = _path(store)
    if not path.exists():
        return None
    return open_default() if store is None else Store(path)


def info(store: str | Path | None = None) -> StoreInfo:
    """What a store holds; `store=None` is the default store.

    Raises:
        StoreError: the file is not a store, or cannot be read.
    """
    path = _path(store)
    opened = _open(store)
    if opened is None:
        return StoreInfo(path, 0)
    try:
        rows = opened.figures()
    finally:
        opened.close()
    files = [Path(f"{path}{end}") for end in ("", "-wal")]
    size = sum(file.stat().st_size for file in files if file.exists())
    if not rows:
        return StoreInfo(path, size)
    models, counts, tokens, costs, first, last = zip(*rows, strict=True)
    return StoreInfo(
        path,
        size,
        sum(counts),
        sum(filter(None, tokens)),
        sum(filter(None, costs)),
        datetime.fromtimestamp(min(first), UTC),
        datetime.fromtimestamp(max(last), UTC),
        {model or "no model": count for model, count in zip(models, counts, strict=True)},
    )


def clear(
    store: str | Path | None = None,
    *,
    model: str | None = None,
    older_than_days: float | None = None,
) -> int:
    """Forget remembered answers: all, those of one model, or those older than so many days.

    Returns:
        How many answers were removed.

    Raises:
        StoreError: the file is not a store, or cannot be written.
    """
    opened = _open(store)
    if opened is None:
        return 0
    before = None if older_than_days is None else time.time() - older_than_days * 86_400
    try:
        return opened.remove(model=model, before_utc_s=before)
    finally:
        opened.close()


def export(path: str | Path, store: str | Path | None = None) -> int:
    """Write every remembered answer and its source to a .parquet, .jsonl or .csv file.

    The columns are the row's words, the answer, tokens, cost, latency, time, and the signature,
    prompt hash, model, endpoint, parameters, price table and package versions. The memory needed
    does not grow with the number of answers.

    Returns:
        How many answers were written.

    Raises:
        ValueError: the path has another ending.
        StoreError: the store cannot be read.
        ImportError: a .parquet needs pyarrow.
    """
    opened = _open(store)
    try:
        return write(Path(path), opened.answers() if opened else iter(()))
    finally:
        if opened:
            opened.close()
