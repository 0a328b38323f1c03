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
        kept = self._store.get(self._keys[i](row.inputs, row.sample))
        if kept is None:
            return None
        try:
            outputs = self._predicts[i].read(kept.text, kept.finish_reason)
        except InvalidOutputError:  # the rules for answers have changed since
            return None
        return Answer(outputs, _FREE, kept.model, kept.finish_reason, kept.text, cached=True)

    async def remember(self, row: Row, answer: Answer) -> None:
        """Keep an answer; returns once it is safe. StoreError if it cannot be written."""
        usage = answer.usage or Usage(None, None, None, None)
        kept = Kept(answer.text or "", answer.model, answer.finish_reason, usage.prompt_tokens,
                    usage.completion_tokens, usage.total_tokens, usage.cost_usd)  # fmt: skip
        key = self._keys[row.number % len(self._keys)](row.inputs, row.sample)
        await self._store.put(key, kept)

    def close(self) -> None:
        """Close the store."""
        self._store.close()


def open_memory(store: Any, module: Module) -> Memory | None:
    """The memory for the option `store=`; None where nothing is, or can be, remembered.

    Raises:
        StoreError: a path was given and cannot be used. Without the user's cache folder a run
            only warns.
    """
    if not store or not module.predicts:
        return None
    if store is not True:
        return Memory(Store(Path(store).expanduser()), module)
    try:
        return Memory(Store(default_path()), module)
    except StoreError as error:
        warnings.warn(f"rows are not remembered: {error}", RuntimeWarning, stacklevel=2)
        return None
