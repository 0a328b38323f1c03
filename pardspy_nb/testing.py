"""For users' tests and rehearsals: a model that costs nothing, and a clock that jumps."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable, Mapping
from typing import Any

from .llm.fake import FakeEndpoint, Latency
from .llm.lm import LM
from .signatures.output_parser import AnswerParser
from .signatures.signature import Signature, as_signature


class _JumpingSelector(selectors.DefaultSelector):
    """Where the loop would sleep, moves its clock forward instead."""

    def __init__(self) -> None:
        super().__init__()
        self.now = 0.0

    def select(self, timeout: float | None = None) -> list[Any]:
        if timeout is None:  # nothing is scheduled: wait for another thread to speak
            return super().select(None)
        ready = super().select(0)
        if not ready:
            self.now += timeout
        return ready


class _VirtualLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self._jumping = _JumpingSelector()
        super().__init__(self._jumping)

    def time(self) -> float:
        return self._jumping.now


class VirtualClock:
    """Event loops that start at 0 s and jump to the next timer. For coroutines only:
    a function in a thread takes real time, which this clock does not see."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        return _VirtualLoop()

    def utc_s(self) -> float:
        return 0.0


class FakeLM(LM):
    """A model that costs nothing: to rehearse settings, to teach, and to run notebooks in CI.

    Its answers fit the schema of each request and differ from row to row; the same row has the same
    answer. With `confidence=True` it reports probabilities. `pn.LM("fake")`, also by
    `PARDSPY_MODEL=fake`, is one without faults.

    Args:
        answers: a signature, for clients that send no schema; or a function that makes outputs
            from a row's inputs, `answers(review="…") -> {"sentiment": "positive"}` (those that it
            leaves out are drawn), or the model's whole text. Its answers are not remembered.
        latency: seconds for each answer: a number; `(median, 99th percentile)`; or a function of a
            `random.Random`.
        faults: shares of requests that fail: `"429"` (a burst of half a second, with Retry-After),
            `"500"`, `"stall"` (takes `stall_s`), `"truncation"`, `"bad_label"`, `"no_json"`,
            `"refusal"`.
        seed: decides the answers, and which requests fail.
        slots: how many requests are worked on at once; further ones meet a 429 at once. None for
            any number.
        lm: as for `LM`, for example `price=(0.05, 0.4)` to rehearse a budget.

    Raises:
        ValueError: an unknown fault, or shares above 1.
    """

    def __init__(
        self,
        answers: Signature | type[Signature] | str | Callable[..., Any] | None = None,
        *,
        latency: Latency = (0.02, 0.1),
        faults: Mapping[str | int, float] | None = None,
        seed: int = 0,
        stall_s: float = 60.0,
        slots: int | None = None,
        **lm: Any,
    ) -> None:
        super().__init__("fake", **lm)
        is_signature = isinstance(answers, str | Signature) or (
            isinstance(answers, type) and issubclass(answers, Signature)
        )
        function: Any = None if is_signature else answers
        if function is not None and not callable(function):
            raise TypeError(f"answers is a signature or a function, not {function!r}")
        schema = AnswerParser(as_signature(answers)).schema if is_signature else None
        self._endpoint = FakeEndpoint(
            function,
            latency=latency,
            faults=faults,
            seed=seed,
            stall_s=stall_s,
            slots=slots,
            schema=schema,
        )

    @property
    def cache_identity(self) -> dict[str, Any] | None:
        """What decides the answers; None where a function does."""
        return super().cache_identity if self._endpoint.is_drawn else None  # type: ignore[union-attr]
