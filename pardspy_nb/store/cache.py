"""Answers that a run need not ask for again: from a store, or from equal rows of the run."""

from __future__ import annotations

import json
import time
import warnings
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..core.error_groups import message_of
from ..core.errors import InvalidOutputError, StoreError, remembered_error
from ..core.events import Answer, Made, Origin, Row
from ..core.options import Options
from ..core.ownership import own_row
from ..core.usage import Usage
from ..modules.module import Module
from ..modules.provenance import Sources
from .keys import AnswerCodec, codecs_of
from .lookup import Lookup

if TYPE_CHECKING:
    from .schema import Hopeless, Kept
    from .sqlite import Store

_FREE = Usage()  # no request was sent, and nothing was paid
_UNKNOWN = Usage(None, None, None, None)
_MOST_OF_A_MESSAGE = 2000  # characters of an error
_LEAST_WAIT_S, _MOST_WAIT_S = 0.05, 1.0  # until a row under way elsewhere is looked at again
_KEPT_OF_A_STREAM = 10_000  # answers that a stream without a store keeps for equal rows


class AnswerCache:
    """The answers of one module, for one run. Use it on one event loop's thread only.

    Args:
        store: where answers are kept; None keeps them for the run only.
        dedupe: whether equal rows of the run share one answer. Otherwise the k-th of several equal
            rows has an answer of its own.
        sources: the sources of new answers; the sources of the remembered answers are added.
        total: the number of rows, None for a stream.
        retry_hopeless: whether rows that were refused for good are asked again.
        claim_s: for how many seconds rows wait that another run has under way; None if rows are
            not claimed.
    """

    def __init__(
        self,
        store: Store | None,
        module: Module,
        cache_key: str | None,
        sources: Sources,
        *,
        dedupe: bool,
        total: int | None,
        retry_hopeless: bool = False,
        claim_s: float | None = None,
    ) -> None:
        self.store, self._sources = store, sources
        self._claim_s = claim_s
        self._doubled = 0  # rows asked although another run had them under way
        # read when the first row needs it
        self._hopeless: Mapping[bytes, Hopeless] | None = {} if retry_hopeless else None
        self._codecs, self._place = codecs_of(module, cache_key), module.place
        self._in_words = bool(module.predicts)  # whether an answer's text holds the whole answer
        self._seen: Counter[bytes] | None = None if dedupe else Counter()
        self._lookups: dict[int, Lookup] = {}  # by row number
        self._since: set[bytes] = set()  # keys put since the last `prefetch`
        self._looks_ahead = False
        self._trouble: StoreError | None = None
        # an OrderedDict, because removing the first key of a plain dict again and again is slow
        self._at_hand: OrderedDict[bytes, Answer | tuple[Any, ...]] = OrderedDict()
        self._most_at_hand = _KEPT_OF_A_STREAM if total is None else None
        if store is not None:
            for name, about in sources.known.items():
                store.declare(name, json.dumps(about))

    def prefetch(self, rows: Iterable[Row]) -> None:
        """Look up the answers of the next rows all at once, which is much quicker."""
        self._looks_ahead = True
        lookups = {row.number: self._look(row) for row in rows}
        self._lookups |= lookups
        if self.store is None:
            return
        try:
            found = self.store.get_many(m.key for m in lookups.values() if m.key is not None)
        except StoreError as error:
            self._trouble = error
            return
        self._since.clear()
        for m in lookups.values():
            m.kept, m.was_looked_up = found.get(m.key) if m.key is not None else None, True
        if self._claim_s is not None:
            self._claim([m for m in lookups.values() if m.key is not None and m.kept is None])

    def _claim(self, lookups: Sequence[Lookup]) -> None:
        if self.store is None or not lookups:
            return
        taken = self.store.claim([m.key for m in lookups if m.key is not None])
        for m in lookups:
            # an answer that was there when it was looked up again cannot be used
            is_usable = m.key in taken.answered and not m.was_answered
            m.was_answered = m.was_answered or is_usable
            m.is_claimed = m.key not in taken.elsewhere and not is_usable
            m.was_looked_up = m.was_looked_up and m.is_claimed  # else it is looked up again

    def wait_s(self, row: Row, key: bytes | None) -> float:
        """See `protocols.Cache`.

        Raises:
            StoreError: the store cannot be written.
        """
        lookup = self._lookups.get(row.number)
        if self._claim_s is None or self.store is None or key is None or lookup is None:
            return 0.0
        if not lookup.is_claimed:
            self._claim([lookup])
        if lookup.is_claimed:
            return 0.0
        now = time.monotonic()
        if lookup.waits_since is None:
            lookup.waits_since = now
        if now - lookup.waits_since >= self._claim_s:
            lookup.is_claimed = True
            self._doubled += 1
            return 0.0
        return min(_MOST_WAIT_S, _LEAST_WAIT_S + (now - lookup.waits_since) / 4)

    def release(self, key: bytes | None) -> None:
        """See `protocols.Cache`."""
        if key is not None and self.store is not None and self._claim_s is not None:
            self.store.release(key)

    def _look(self, row: Row) -> Lookup:
        """Make the words and the key of a new row. Equal rows are counted on the way."""
        codec = self._codec(row)
        try:
            words = codec.words(row.inputs)
        except Exception:  # the attempt will raise the error
            return Lookup(None, "", row.stage)
        key = _hash(codec, words, row.sample, 0)
        if self._seen is None:
            return Lookup(key, words, row.stage)
        earlier = self._seen[key]
        self._seen[key] += 1
        return Lookup(_hash(codec, words, row.sample, earlier), words, row.stage)

    def key(self, row: Row) -> bytes | None:
        """See `protocols.Cache`."""
        lookup = self._lookups.get(row.number)
        if lookup is None or lookup.stage != row.stage:
            lookup = self._lookups[row.number] = self._look(row)
        return lookup.key

    def _codec(self, row: Row) -> AnswerCodec:
        return self._codecs[self._place(row.number, row.stage)]

    def get(self, row: Row, key: bytes | None) -> Answer | None:
        """See `protocols.Cache`.

        Raises:
            StoreError: the store cannot be read.
        """
        if self._trouble is not None:
            raise self._trouble
        if key is None:
            return None
        if self.store is None:
            at_hand = self._at_hand.get(key)
            answer = None if at_hand is None else self._from_hand(row, at_hand)
        else:
            lookup = self._lookups[row.number]
            kept = (
                lookup.kept
                if lookup.was_looked_up and key not in self._since
                else self.store.get(key)
            )
            answer = None if kept is None else self._answer(row, kept)
        if answer is not None:
            self._lookups.pop(row.number, None)
        return answer

    def _answer(self, row: Row, kept: Kept) -> Answer | None:
        try:
            codec = self._codec(row)
            outputs, repaired = codec.read(kept.text, kept.finish_reason)
        except (InvalidOutputError, ValueError):  # the rules for answers have changed since
            return None
        if kept.source not in self._sources.known and self.store is not None:
            about = self.store.about(kept.source)
            self._sources.known[kept.source] = json.loads(about or "{}")
        used = Usage(
            kept.prompt_tokens,
            kept.completion_tokens,
            kept.total_tokens,
            kept.cost_usd,
            kept.latency_ms or 0.0,
        )
        origin = Origin(used, kept.source, kept.at_utc_s, kept.attempts, kept.latency_ms)
        how = kept.repaired or repaired
        return Answer(outputs, _FREE, kept.model, kept.finish_reason, kept.text, origin, how)

    def known_failure(self, key: bytes | None) -> Exception | None:
        """See `protocols.Cache`."""
        if self._hopeless is None:
            self._hopeless = {} if self.store is None else self.store.hopeless()
        known = None if key is None else self._hopeless.get(key)
        if known is None:
            return None
        day = datetime.fromtimestamp(known.at_utc_s, UTC).date().isoformat()
        return remembered_error(known.error_type, known.message, day)

    def copy_for(self, row: Row, answer: Answer, made: Made) -> Answer:
        """See `protocols.Cache`."""
        self._lookups.pop(row.number, None)
        outputs = own_row(answer.outputs)
        if answer.origin is not None:
            return answer._replace(outputs=outputs)
        source, at = self._sources.of(row.number, row.stage), made.at or time.time()
        origin = Origin(answer.usage or _UNKNOWN, source, at, made.attempts, made.latency_ms)
        return answer._replace(outputs=outputs, usage=_FREE, origin=origin)

    async def put(self, row: Row, key: bytes | None, answer: Answer, made: Made) -> None:
        """See `protocols.Cache`.

        Raises:
            StoreError: the answer cannot be written.
        """
        lookup = self._lookups.pop(row.number, None)
        if key is None or lookup is None:
            return
        if self.store is None:
            if self._seen is None:
                self._keep_at_hand(key, row, answer, made)
            return
        text = self._codec(row).write(answer)
        if text is None:
            return
        from .schema import Kept

        usage = answer.usage or _UNKNOWN
        kept = Kept(
            _text(lookup.words) or "",
            _text(text) or "",  # no file accepts half a surrogate pair
            _text(answer.model),
            _text(answer.finish_reason),
            _count(usage.prompt_tokens),
            _count(usage.completion_tokens),
            _count(usage.total_tokens),
            _real(usage.cost_usd),
            _real(made.latency_ms),
            self._sources.of(row.number, row.stage),
            made.at or time.time(),
            made.attempts,
            _text(answer.repaired),
        )
        await self.store.put(key, kept)
        if self._looks_ahead:
            self._since.add(key)  # rows prefetched before do not have this answer

    def put_failure(self, key: bytes | None, error: BaseException) -> None:
        """See `protocols.Cache`."""
        if key is None or self.store is None:
            return
        from .schema import Hopeless

        message = (_text(message_of(error)) or "")[:_MOST_OF_A_MESSAGE]
        self.store.put_hopeless(key, Hopeless(type(error).__name__, message, time.time()))

    def _keep_at_hand(self, key: bytes, row: Row, answer: Answer, made: Made) -> None:
        if self._in_words and answer.text is not None:
            # a tuple of plain values, so that the garbage collector need not scan it repeatedly
            usage = answer.usage or _UNKNOWN
            used = usage.prompt_tokens, usage.completion_tokens, usage.total_tokens
            figures = *used, usage.cost_usd, usage.latency_ms
            when = made.at or time.time(), made.attempts, made.latency_ms
            words = answer.text, answer.finish_reason, answer.model, answer.repaired
            self._at_hand[key] = (words, figures, when)
        else:
            self._at_hand[key] = self.copy_for(row, answer, made)
        if self._most_at_hand is not None and len(self._at_hand) > self._most_at_hand:
            self._at_hand.popitem(last=False)

    def _from_hand(self, row: Row, at_hand: Answer | tuple[Any, ...]) -> Answer:
        if isinstance(at_hand, Answer):
            return at_hand._replace(outputs=own_row(at_hand.outputs))
        (text, finish_reason, model, how), figures, when = at_hand
        codec = self._codec(row)
        outputs, repaired = codec.read(text, finish_reason)
        origin = Origin(Usage(*figures), self._sources.of(row.number, row.stage), *when)
        return Answer(outputs, _FREE, model, finish_reason, text, origin, how or repaired)

    def close(self) -> None:
        """Close the store."""
        for codec in {id(codec): codec for codec in self._codecs}.values():
            codec.close()
        if self.store is not None:
            self.store.close()
        if self._doubled:
            warnings.warn(
                f"{self._doubled:,} rows were asked although another run had them under way for "
                "longer than outage_s: they may have been paid for twice",
                RuntimeWarning,
                stacklevel=2,
            )


def _hash(codec: AnswerCodec, words: str, sample: int, earlier: int) -> bytes:
    full = codec.base.copy()
    # the numbers come first, because words may hold anything
    full.update(b"%d %d " % (sample, earlier) + words.encode("utf-8", "surrogatepass"))
    digest: bytes = full.digest()
    return digest[:16]


def _text(value: Any) -> str | None:
    """The value as text that a file accepts; an endpoint may return a value of any type."""
    if value is None or (type(value) is str and value.isascii()):
        return value
    return str(value).encode("utf-8", "replace").decode()


def _count(value: int | None) -> int | None:
    return value if isinstance(value, int) and 0 <= value < 2**63 else None


def _real(value: float | None) -> float | None:
    return None if value is None else float(value)


def open_cache(
    options: Options,
    module: Module,
    sources: Sources,
    *,
    total: int | None,
    claims: bool = False,
) -> AnswerCache | None:
    """The cache for the options `store`, `dedupe` and `cache_key`; None where no answer can be
    remembered or shared. With `claims`, rows are claimed before they are asked.

    Raises:
        StoreError: a path was given and cannot be used. If the default store cannot be used, the
            run only warns.
    """
    if not (module.predicts or options.cache_key is not None):
        return None
    store = _open_store(options.store)
    # without inputs all rows are equal, and each is to have an answer of its own
    dedupe = options.dedupe and bool(module.inputs.fields or module.inputs.open)
    if store is None and not dedupe:
        return None
    return AnswerCache(
        store,
        module,
        options.cache_key,
        sources,
        dedupe=dedupe,
        total=total,
        retry_hopeless=options.retry_hopeless,
        claim_s=options.outage_s if claims and dedupe else None,
    )


def _open_store(given: Any) -> Store | None:
    if not given:
        return None
    from .sqlite import Store, open_default

    if given is not True:
        try:
            path = Path(given).expanduser()
        except RuntimeError as error:  # "~name" of an unknown user
            raise StoreError(f"store={given!r}: {error}") from error
        return Store(path)
    try:
        return open_default()
    except StoreError as error:
        warnings.warn(f"rows are not remembered: {error}", RuntimeWarning, stacklevel=2)
        return None
