"""The rules of a cascade for one run: pilot, thresholds, and which model's answer counts."""

from __future__ import annotations

import hashlib
import math
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

from ..core.errors import InvalidOutputError
from ..core.events import Answer, Origin, Row
from ..core.labels import label_key
from ..core.usage import Usage
from .acceptance import Accepted, accepted, pilot_size

if TYPE_CHECKING:
    from .cascade import Cascade

NOTHING_KEPT = 2.0  # a threshold that no confidence reaches
ALPHA = 0.05  # the probability that a threshold is too low, over all stages


class _Asked(NamedTuple):
    """A pilot's row: the stage that is tested, its place there, its confidence and its label."""

    stage: int
    sure: float
    label: Any


class CascadeRouter:
    """Decides what becomes of each row of one run (see `engine.stages.Router`).

    Every row is asked of the first model. Then a pilot of them goes to the last model, and the
    first model's threshold is chosen; rows below it go on to the second model, and so on. The
    pilot is chosen by a hash of the rows, so that a repeated or a longer table has the same one.
    Each of n - 1 thresholds is allowed to be too low with a probability of 0.05 / (n - 1).

    Args:
        pilot: the size of the pilot, where it is not the cascade's own.

    Attributes:
        thresholds: for each model but the last; None until it is chosen.
    """

    def __init__(self, cascade: Cascade, pilot: int | None = None) -> None:
        self._cascade, self._size = cascade, pilot or cascade.pilot
        self._last = len(cascade.stages) - 1
        self.thresholds: list[float | None] = (
            [None] * self._last if cascade.accept is None else list(cascade.accept)
        )
        self._chosen: list[Accepted | None] = [None] * self._last
        self._pilot: dict[int, _Asked] = {}  # under way, by row number
        self._judged: dict[int, tuple[float, bool]] = {}  # of the stage that is tested, by number
        self._has_pilot = False
        self._before: dict[int, Usage | None] = {}  # what remembered answers used, by row number
        self._asked = [0] * (self._last + 1)
        self._answered = [0] * (self._last + 1)
        self._used: list[Usage | None] = [None] * (self._last + 1)

    @property
    def is_decided(self) -> bool:
        """Whether all thresholds are known, so that no row is held back."""
        return None not in self.thresholds

    def route(self, row: Row, answer: Answer) -> Answer | int | Literal["hold"]:
        """See `engine.stages.Router`."""
        stage = row.stage
        self._count(row, answer)
        if stage == self._last:
            self._judge(row, answer)
            return self._final(row, answer)
        threshold = self.thresholds[stage]
        return "hold" if threshold is None else self._by(threshold, row, answer)

    def rescues(self, row: Row, error: BaseException | None) -> int | None:
        """See `engine.stages.Router`. An answer that cannot be used is one to ask again of the next
        model; an endpoint that fails is not."""
        if row.stage == self._last or not isinstance(error, InvalidOutputError):
            self._pilot.pop(row.number, None)
            return None
        self._before[row.number] = None
        return row.stage + 1

    def decide(
        self, held: Sequence[tuple[Row, Answer]]
    ) -> Sequence[Answer | int | Literal["hold"]]:
        """See `engine.stages.Router`."""
        stage = min(row.stage for row, _ in held)
        if not self._has_pilot:
            self._has_pilot = True
            self._judged.clear()
            chosen = self._choose(stage, held)
            if chosen:
                return [self._last if row.number in chosen else "hold" for row, _ in held]
        sure = [self._cascade.confidence(answer) for _, answer in held]
        threshold = self.thresholds[stage] = self._fit(stage, [s for s in sure if s is not None])
        self._has_pilot = False
        return [self._by(threshold, row, answer) for row, answer in held]

    def _choose(self, stage: int, held: Sequence[tuple[Row, Answer]]) -> set[int]:
        """Choose the pilot, a random sample of the rows that could be kept."""
        words, seen = self._cascade.stages[stage].words, Counter[bytes]()
        could = []
        for row, answer in held:
            sure = self._cascade.confidence(answer)
            if sure is None or row.stage != stage:
                continue
            own = hashlib.sha256(f"{stage} {words(row.inputs)}".encode("utf-8", "replace")).digest()
            seen[own] += 1  # equal rows are rows of their own in a sample
            place = hashlib.sha256(b"%d " % seen[own] + own).digest()
            could.append((place, row.number, _Asked(stage, sure, self._label(answer))))
        if not could:
            warnings.warn(
                f"model {stage + 1} of the cascade reports no token probabilities, so none of its "
                "answers can be kept: every row goes on to the next model",
                UserWarning,
                stacklevel=2,
            )
        could.sort(key=lambda one: one[:2])
        size = self._size or pilot_size(len(could))
        self._pilot = {number: asked for _, number, asked in could[:size]}
        return set(self._pilot)

    def _judge(self, row: Row, answer: Answer) -> None:
        asked = self._pilot.pop(row.number, None)
        if asked is not None:
            self._judged[row.number] = asked.sure, asked.label == self._label(answer)

    def _fit(self, stage: int, others: list[float]) -> float:
        pilot = dict(enumerate(is_right for _, is_right in self._judged.values()))
        sure = [*(s for s, _ in self._judged.values()), *others]
        found = accepted(sure, pilot, target=self._cascade.target, alpha=ALPHA / self._last)
        self._chosen[stage] = found
        return found.threshold

    def _by(self, threshold: float, row: Row, answer: Answer) -> Answer | int:
        sure = self._cascade.confidence(answer)
        return self._final(row, answer) if sure is not None and sure >= threshold else row.stage + 1

    def _label(self, answer: Answer) -> Any:
        return label_key(answer.outputs.get(self._cascade.on))

    def _count(self, row: Row, answer: Answer) -> None:
        used = answer.usage if answer.origin is None else answer.origin.usage
        self._asked[row.stage] += 1
        if used is not None:
            so_far = self._used[row.stage]
            self._used[row.stage] = used if so_far is None else so_far + used
        remembered = None if answer.origin is None else answer.origin.usage
        if row.stage and remembered is not None:
            before = self._before.get(row.number)
            remembered = None if before is None else before + remembered
        self._before[row.number] = remembered

    def _final(self, row: Row, answer: Answer) -> Answer:
        """The row's answer. It counts as remembered only if the answers of all stages were."""
        self._answered[row.stage] += 1
        remembered = self._before.pop(row.number, None)
        origin: Origin | None = None
        if answer.origin is not None and remembered is not None:
            origin = answer.origin._replace(usage=remembered)
        outputs = self._cascade.outputs_of(answer.outputs, row.stage)
        return answer._replace(outputs=outputs, origin=origin)

    def projected(self, rows: int) -> Callable[[int, Usage], Usage]:
        """For a run all of whose rows were in the pilot: a function of a row's number and its usage
        that tells what the row would use on average in a run of so many rows.

        A model between the first and the last was not asked, and is taken to keep nothing.
        """
        judged = list(self._judged.items())
        sure, right = [s for _, (s, _) in judged], dict(enumerate(r for _, (_, r) in judged))
        target = self._cascade.target
        found = accepted(
            sure, right, target=target, alpha=ALPHA / self._last, scale=rows / max(1, len(sure))
        )
        kept = {number for number, (s, _) in judged if s >= found.threshold}
        in_pilot = min(1.0, (self._cascade.pilot or pilot_size(rows)) / rows)
        first, last = self._used[0], self._used[-1]

        def of(number: int, used: Usage) -> Usage:
            if number not in kept or first is None or last is None:
                return used
            return _scaled(used, first, first + last, in_pilot)

        return of

    def report(self) -> dict[str, Any]:
        """What was found and what it saved, fit for JSON.

        `saved_usd` and `saved_tokens` are what the last model would have used for all rows, at its
        mean for the rows that it answered, less what all models used; None if it is not known.
        """
        stages = [
            {
                "model": str(getattr(lm, "model", lm)),
                "asked": self._asked[stage],
                "answered": self._answered[stage],
                "cost_usd": None if used is None else used.cost_usd,
                "tokens": None if used is None else used.total_tokens,
            }
            for stage, (lm, used) in enumerate(zip(self._cascade.lms, self._used, strict=True))
        ]
        pilots = [
            None if c is None else {"rows": c.asked, "tested": c.pilot, "wrong": c.wrong}
            for c in self._chosen
        ]
        return {
            "on": self._cascade.on,
            "target": None if self._cascade.accept is not None else self._cascade.target,
            "accept": [_finite(t) for t in self.thresholds],
            "pilot": pilots,
            "stages": stages,
            "saved_usd": self._saved("cost_usd"),
            "saved_tokens": self._saved("total_tokens"),
        }

    def _saved(self, figure: str) -> float | None:
        each = [
            getattr(used, figure, None) if n else 0
            for n, used in zip(self._asked, self._used, strict=True)
        ]
        known = [float(of) for of in each if of is not None]
        if len(known) < len(each) or not self._asked[-1]:
            return None
        return known[-1] / self._asked[-1] * sum(self._answered) - sum(known)


_FIGURES = ("prompt_tokens", "completion_tokens", "total_tokens", "cost_usd", "latency_ms")


def _scaled(used: Usage, first: Usage, both: Usage, in_pilot: float) -> Usage:
    """The usage of a row that asks the first model, and both only if it is in the pilot."""

    def part(name: str) -> Any:
        whole, own, all_of = (getattr(of, name) for of in (used, first, both))
        if None in (whole, own, all_of) or not all_of:
            return whole
        return whole * (own / all_of + (1 - own / all_of) * in_pilot)

    return Usage(*map(part, _FIGURES))


def _finite(threshold: float | None) -> float | None:
    """A threshold fit for JSON."""
    return NOTHING_KEPT if threshold is not None and math.isinf(threshold) else threshold
