"""What a run need not ask again: answers out of a store, and those of equal rows of the run."""

from __future__ import annotations

import json
import time
import warnings
from collections import Counter
from pathlib import Path
from typing import Any

from .errors import InvalidOutputError, StoreError
from .events import Answer, Origin, Row
from .modules import Module
from .options import Options
from .provenance import Sources
from .recipes import recipes_of
from .store.file import Kept, Store, open_default
from .usage import Usage

_FREE = Usage()  # nothing was asked, nothing is paid
_UNKNOWN = Usage(None, None, None, None)
_KEPT_OF_A_STREAM = 100_000  # answers that a stream without a store has at hand for equal rows


class Memory:
    """The answers of one module, for one run. For one event loop's thread.

    Args:
        store: where answers are kept; None keeps them for the run only.
        dedupe: whether equal rows of the run have one answer; else the k-th of them has its own.
        sources: what makes the answers now; what made the remembered ones is added.
        total: the number of rows, None for a stream.
    """

    def __init__(
        self, store: Store | None, module: Module, cache_key: str | None, sources: Sources, *,
        dedupe: bool, total: int | None,
    ) -> None:  # fmt: skip
        self.store, self._sources = store, sources
        self._recipes = recipes_of(module, cache_key)
        self._seen: Counter[bytes] | None = None if dedupe else Counter()
        self._at_hand: dict[bytes, Answer] = {}
        self._most_at_hand = _KEPT_OF_A_STREAM if total is None else None
        if store is not None:
            for name, about in sources.known.items():
                store.declare(name, json.dumps(about))

    def digest(self, row: Row) -> bytes | None:
        """The key of a row if it is the first of its kind; None where its inputs have no words."""
        recipe = self._recipes[row.number % len(self._recipes)]
        try:
            words = recipe.words(row.inputs)
        except Exception:  # the attempt will tell
            return None
        return self._hash(recipe, words, row.sample, 0)

    def key(self, row: Row) -> bytes | None:
        """See `hooks.Memory`."""
        key = self.digest(row)
        if key is None or self._seen is None:
            return key
        earlier = self._seen[key]
        self._seen[key] += 1
        recipe = self._recipes[row.number % len(self._recipes)]
        return self._hash(recipe, recipe.words(row.inputs), row.sample, earlier)

    def _hash(self, recipe: Any, words: str, sample: int, earlier: int) -> bytes:
        full = recipe.base.copy()
        # numbers first: words may hold anything
        full.update(b"%d %d " % (sample, earlier) + words.encode("utf-8", "surrogatepass"))
        digest: bytes = full.digest()
        return digest[:16]

    def recall(self, row: Row, key: bytes | None) -> Answer | None:
        """See `hooks.Memory`. StoreError if the store cannot be read."""
        if key is None:
            return None
        if self.store is None:
            return self._at_hand.get(key)
        kept = self.store.get(key)
        if kept is None:
            return None
        try:
            recipe = self._recipes[row.number % len(self._recipes)]
            outputs = recipe.read(kept.text, kept.finish_reason)
        except (InvalidOutputError, ValueError):  # the rules for answers have changed since
            return None
        if kept.source not in self._sources.known:
            about = self.store.about(kept.source)
            self._sources.known[kept.source] = json.loads(about or "{}")
        used = Usage(kept.prompt_tokens, kept.completion_tokens, kept.total_tokens, kept.cost_usd,
                     kept.latency_ms or 0.0)  # fmt: skip
        origin = Origin(used, kept.source, kept.at_utc_s)
        return Answer(outputs, _FREE, kept.model, kept.finish_reason, kept.text, origin)

    def shared(self, row: Row, answer: Answer) -> Answer:
        """See `hooks.Memory`."""
        if answer.origin is not None:
            return answer
        origin = Origin(answer.usage or _UNKNOWN, self._sources.of(row), time.time())
        return answer._replace(usage=_FREE, origin=origin)

    async def remember(self, row: Row, key: bytes | None, answer: Answer) -> None:
        """See `hooks.Memory`. StoreError if the answer cannot be written."""
        if key is None:
            return
        if self.store is None:
            if self._seen is None:
                self._keep_at_hand(key, self.shared(row, answer))
            return
        recipe = self._recipes[row.number % len(self._recipes)]
        text = recipe.write(answer)
        if text is None:
            return
        usage = answer.usage or _UNKNOWN
        kept = Kept(
            _text(recipe.words(row.inputs)) or "", text, _text(answer.model),
            _text(answer.finish_reason), _count(usage.prompt_tokens),
            _count(usage.completion_tokens), _count(usage.total_tokens), _real(usage.cost_usd),
            _real(usage.latency_ms), self._sources.of(row), time.time(),
        )  # fmt: skip
        await self.store.put(key, kept)

    def _keep_at_hand(self, key: bytes, answer: Answer) -> None:
        self._at_hand[key] = answer
        if self._most_at_hand is not None and len(self._at_hand) > self._most_at_hand:
            del self._at_hand[next(iter(self._at_hand))]

    def close(self) -> None:
        """Close the store."""
        if self.store is not None:
            self.store.close()


def _text(value: Any) -> str | None:
    """What an endpoint says may be anything; a file takes text."""
    return None if value is None else str(value).encode("utf-8", "replace").decode()


def _count(value: int | None) -> int | None:
    return value if isinstance(value, int) and 0 <= value < 2**63 else None


def _real(value: float | None) -> float | None:
    return None if value is None else float(value)


def open_memory(
    options: Options, module: Module, sources: Sources, *, total: int | None
) -> Memory | None:
    """The memory for the options `store`, `dedupe` and `cache_key`; None where nothing can be
    remembered or shared.

    Raises:
        StoreError: a path was given and cannot be used. Without the default store a run only
            warns.
    """
    if not (module.predicts or options.cache_key is not None):
        return None
    store = _open_store(options.store)
    if store is None and not options.dedupe:
        return None
    return Memory(store, module, options.cache_key, sources, dedupe=options.dedupe, total=total)


def _open_store(given: Any) -> Store | None:
    if not given:
        return None
    if given is not True:
        try:
            path = Path(given).expanduser()
        except RuntimeError as error:  # ~ of nobody
            raise StoreError(f"store={given!r}: {error}") from error
        return Store(path)
    try:
        return open_default()
    except StoreError as error:
        warnings.warn(f"rows are not remembered: {error}", RuntimeWarning, stacklevel=2)
        return None
