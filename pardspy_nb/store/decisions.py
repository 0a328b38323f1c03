"""What people decided about rows, beside the store: durable at once, found by a row's inputs.

A file of JSON lines to which each decision is appended. The latest of a reviewer about a row and a
field counts; one without a value takes an earlier one back.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from filelock import FileLock

from ..core.errors import StoreError
from .sqlite import default_path
from .store_file import keep_private
from .tagged import tagged


class Decision(NamedTuple):
    """One decision.

    Attributes:
        row: the row's key (see `row_key`).
        field: the output that was decided.
        value: the label; None if the row was skipped, or a decision was taken back.
        picked: the row's probability of being picked, None if it was not picked by us.
        pick: how the rows were picked.
        at: seconds since the epoch.
    """

    row: str
    field: str
    reviewer: str
    value: Any
    note: str | None
    picked: float | None
    pick: str | None
    at: float


def row_key(inputs: Mapping[str, Any]) -> str:
    """The key of a row: a hash of its inputs.

    Raises:
        TypeError: an input cannot be written as text.
    """
    alike = {name: _alike(value) for name, value in inputs.items()}
    words = json.dumps(tagged(alike), sort_keys=True, ensure_ascii=False)
    return hashlib.sha256(words.encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _alike(value: Any) -> Any:
    """A value as it is in any frame: files and missing values make floats of whole numbers, and
    arrays of lists."""
    if hasattr(value, "tolist") and not hasattr(value, "iloc"):
        value = value.tolist()
    if isinstance(value, list | tuple):
        return [_alike(v) for v in value]
    if isinstance(value, dict):
        return {k: _alike(v) for k, v in value.items()}
    if value is None or (isinstance(value, float) and value != value) or str(value) == "<NA>":
        return None
    is_whole = isinstance(value, float) and value.is_integer()
    return int(value) if is_whole else value


class Decisions:
    """The decisions beside a store.

    Args:
        store: as the option `store`; None for the default store.
    """

    def __init__(self, store: bool | str | Path | None) -> None:
        beside = default_path() if store in (True, None, False) else Path(str(store)).expanduser()
        self.path = beside.absolute().with_name(f"{beside.name}.reviews.jsonl")

    def add(self, decision: Decision) -> None:
        """Keep a decision; it is on the disk when this returns.

        Raises:
            StoreError: it cannot be written.
        """
        line = json.dumps(decision._asdict(), ensure_ascii=False, default=str) + "\n"
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            keep_private(self.path, 0o600)
            with FileLock(self.path.with_name(f".{self.path.name}.lock"), timeout=10, mode=0o600):
                self._append(line.encode("utf-8", "surrogatepass"))
        except OSError as error:
            raise StoreError(f"the decision cannot be kept in {self.path}: {error}") from error

    def _append(self, line: bytes) -> None:
        with open(os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_APPEND, 0o600), "rb+") as file:
            size = file.seek(0, os.SEEK_END)
            if size:
                file.seek(size - 1)
                if file.read(1) != b"\n":  # a process was killed while it wrote
                    line = b"\n" + line
            file.write(line)
            file.flush()
            os.fsync(file.fileno())

    def of(self, field: str) -> dict[tuple[str, str], Decision]:
        """The latest decisions about a field, by row and reviewer.

        Raises:
            StoreError: the file cannot be read.
        """
        try:
            raw = self.path.read_bytes()
        except FileNotFoundError:
            return {}
        except OSError as error:
            raise StoreError(f"decisions cannot be read from {self.path}: {error}") from error
        found: dict[tuple[str, str], Decision] = {}
        for line in raw.split(b"\n"):
            try:
                decision = Decision(**json.loads(line.decode("utf-8", "surrogatepass")))
            except (ValueError, TypeError):
                continue  # half a line of a process that was killed
            if decision.field == field and isinstance(decision.row, str):
                found.pop((decision.row, decision.reviewer), None)
                found[decision.row, decision.reviewer] = decision
        return found
