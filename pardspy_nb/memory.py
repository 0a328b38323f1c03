"""What a run asks of its store: the remembered answer of a row, and to remember a new one."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from .errors import InvalidOutputError, StoreError
from .events import Answer, Row
from .modules import Module
from .store import Kept, Store, default_path
from .usage import Usage

_FREE = Usage()  # nothing was asked, nothing is paid


class Memory:
    """The answers of one module, in one store. For one event loop's thread."""

    def __init__(self, store: Store, module: Module) -> None:
        self._store = store
        self._predicts = module.predicts
        self._keys = [predict.keys() for predict in self._predicts]

    def recall(self, row: Row) -> Answer | None:
        """The remembered answer, or None. StoreError if the store cannot be read."""
        i = row.number % len(self._keys)
        key = self._key(row)
        kept = None if key is None else self._store.get(key)
        if kept is None:
            return None
        try:
            outputs = self._predicts[i].read(kept.text, kept.finish_reason)
        except InvalidOutputError:  # the rules for answers have changed since
            return None
        return Answer(outputs, _FREE, kept.model, kept.finish_reason, kept.text, cached=True)

    async def remember(self, row: Row, answer: Answer) -> None:
        """Keep an answer; returns once it is safe. StoreError if it cannot be written."""
        key = self._key(row)
        if key is None or answer.text is None:
            return
        usage = answer.usage or Usage(None, None, None, None)
        kept = Kept(answer.text, _text(answer.model), _text(answer.finish_reason),
                    _count(usage.prompt_tokens), _count(usage.completion_tokens),
                    _count(usage.total_tokens), usage.cost_usd)  # fmt: skip
        await self._store.put(key, kept)

    def _key(self, row: Row) -> bytes | None:
        try:
            return self._keys[row.number % len(self._keys)](row.inputs, row.sample)
        except Exception:  # an input that cannot be put into words; the attempt will tell
            return None

    def close(self) -> None:
        """Close the store."""
        self._store.close()


def _text(value: Any) -> str | None:
    """What an endpoint says may be anything; a file takes text."""
    return None if value is None else str(value).encode("utf-8", "replace").decode()


def _count(value: int | None) -> int | None:
    return value if isinstance(value, int) and 0 <= value < 2**63 else None


def open_memory(store: Any, module: Module) -> Memory | None:
    """The memory for the option `store=`; None where nothing is, or can be, remembered.

    Raises:
        StoreError: a path was given and cannot be used. Without the user's cache folder a run
            only warns.
    """
    if not store or not module.predicts:
        return None
    if store is not True:
        try:
            path = Path(store).expanduser()
        except RuntimeError as error:  # ~ of nobody
            raise StoreError(f"store={store!r}: {error}") from error
        return Memory(Store(path), module)
    try:
        return Memory(Store(default_path()), module)
    except StoreError as error:
        warnings.warn(f"rows are not remembered: {error}", RuntimeWarning, stacklevel=2)
        return None
