"""Several answers to a row, of which the best counts."""

from __future__ import annotations

import asyncio
import inspect
import json
import math
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, NamedTuple

from ..core.errors import InvalidOutputError
from ..core.events import Answer
from ..core.usage import UsageScope, total
from ..signatures.fields import Field
from .composite import Composite
from .parts import part
from .predict import Predict
from .prediction import Prediction

Score = Callable[[Mapping[str, Any], Prediction], Any]
_TEMPERATURE = 1.0  # of samples that would be alike otherwise


class BestOfN(Composite):
    """Ask a module `n` times and keep the answer that scores best, in the manner of DSPy's and
    DSGo's module of that name. The outputs gain `score`; `completions` has all answers.

    Args:
        module: any module. Of a `Predict` whose temperature is 0 or not set, all samples but the
            first have a temperature of 1; see to it yourself that other modules' answers differ.
        n: samples.
        score: `score(inputs, prediction) -> float`, higher is better; may be async.
        threshold: with it samples are asked one after the other, until one scores as high; else
            all at once.

    Raises:
        ValueError: n below 1, or the module has an output `score`.
        TypeError: not a module, or no function.
    """

    def __init__(
        self, module: Any, n: int = 3, score: Score | None = None, *, threshold: float | None = None
    ) -> None:
        self._described, self._call = part(module)
        self._varied = part(_livelier(module))[1]
        self.n, self.score, self.threshold = n, _checked(n, score, threshold), threshold
        self.inputs, self.outputs = self._described.inputs, _scored(self._described.outputs)
        self.lms, self.is_io_bound = self._described.lms, self._described.is_io_bound
        self.has_history = self._described.has_history

    async def acall(self, **inputs: Any) -> Prediction:
        """The best of the samples for one row. Where some fail the others count; where all do,
        the first one's error is raised."""
        with UsageScope() as calls:
            if self.threshold is None:
                made = await _all([self._sample(k, inputs) for k in range(self.n)])
            else:
                made = []
                while len(made) < self.n and not self._enough(made):
                    made.append(await self._sample(len(made), inputs))
            good = [m for m in made if not isinstance(m, Exception)]
            if not good:
                raise next(m for m in made if isinstance(m, Exception))
        best = max(good, key=lambda outputs: outputs["score"])  # of equals the first
        return Prediction(
            best,
            inputs=inputs,
            usage=total(calls),
            completions=good,
            module_name=type(self).__name__,
        )

    def _enough(self, made: list[dict[str, Any] | Exception]) -> bool:
        last = made[-1] if made else None
        return isinstance(last, dict) and last["score"] >= self.threshold

    async def _sample(self, k: int, inputs: Mapping[str, Any]) -> dict[str, Any] | Exception:
        try:
            answer = await (self._varied if k else self._call)(inputs)
        except Exception as error:
            return error
        value, _ = await _judged(self.score, inputs, answer)
        return {**answer.outputs, "score": value}


class Refine(Composite):
    """Ask, score, and ask again with what was wrong, in the manner of DSPy's and DSGo's module
    of that name. The outputs gain `score`; `completions` has all answers, the best one counts.

    Args:
        predict: a `Predict` or its kin.
        n: answers at most.
        score: `score(inputs, prediction)`, a float, or a float and words on what to do better,
            which the next answer is asked with; may be async.
        threshold: a score that is good enough; None has all n answers made.

    Raises:
        ValueError: n below 1, or the signature has an output `score`.
        TypeError: not a `Predict`, or no function.
    """

    def __init__(
        self,
        predict: Predict,
        n: int = 3,
        score: Score | None = None,
        *,
        threshold: float | None = None,
    ) -> None:
        if not isinstance(predict, Predict):
            raise TypeError(f"Refine shows a Predict its earlier answers; {predict!r} is none")
        self._predict = predict
        described = part(predict)[0]
        self.n, self.score, self.threshold = n, _checked(n, score, threshold), threshold
        self.inputs, self.outputs = described.inputs, _scored(described.outputs)
        self.lms, self.is_io_bound, self.has_history = (
            described.lms,
            described.is_io_bound,
            described.has_history,
        )

    async def acall(self, **inputs: Any) -> Prediction:
        """The best answer for one row. An error of the endpoint ends it, unless there is an
        answer by then."""
        made: list[dict[str, Any]] = []
        before: InvalidOutputError | None = None
        with UsageScope() as calls:
            for _ in range(self.n):
                try:
                    async with asyncio.timeout(self._predict.timeout_s):
                        answer = await self._predict.ask_again(inputs, before)
                except Exception as error:
                    if not made and not isinstance(error, InvalidOutputError):
                        raise
                    before = error if isinstance(error, InvalidOutputError) else before
                    failed = error
                    continue
                value, words = await _judged(self.score, inputs, answer)
                made.append({**answer.outputs, "score": value})
                if self.threshold is not None and value >= self.threshold:
                    break
                before = InvalidOutputError(
                    words or f"it scores {value:g}; a better answer is wanted",
                    text=json.dumps(answer.outputs, ensure_ascii=False, default=str),
                )
            if not made:
                raise failed
        best = max(made, key=lambda outputs: outputs["score"])
        return Prediction(
            best,
            inputs=inputs,
            usage=total(calls),
            completions=made,
            module_name=type(self).__name__,
        )


async def _all(samples: list[Awaitable[Any]]) -> list[Any]:
    """What all of them come to; an error is raised once all are over, so that what the others
    used is counted."""
    made = await asyncio.gather(*(_caught(sample) for sample in samples))
    for error in made:
        if isinstance(error, _Raised):
            raise error.error
    return made


class _Raised(NamedTuple):
    """What a sample raised, where that is not an answer that failed but a score."""

    error: Exception


async def _caught(sample: Awaitable[Any]) -> Any:
    try:
        return await sample
    except Exception as error:
        return _Raised(error)


def _checked(n: int, score: Score | None, threshold: float | None) -> Score:
    if threshold is not None and not hasattr(threshold, "__float__"):
        raise TypeError(f"threshold must be a number, got {threshold!r}")
    if not isinstance(n, int) or isinstance(n, bool) or n < 1:
        raise ValueError(f"n must be a whole number of at least 1, got {n!r}")
    if not callable(score):
        raise TypeError(f"score must be a function of inputs and prediction, got {score!r}")
    return score


def _scored(outputs: Mapping[str, Field]) -> dict[str, Field]:
    if "score" in outputs:
        raise ValueError("the module has an output 'score' already; rename it")
    return {**outputs, "score": Field("score", float, "How good the answer is")}


def _livelier(module: Any) -> Any:
    """A `Predict` whose answers differ from time to time."""
    if not isinstance(module, Predict):
        return module
    given = {**getattr(module.lm, "params", {}), **module.params}
    return module if given.get("temperature") else module.varied(temperature=_TEMPERATURE)


async def _judged(
    score: Score, inputs: Mapping[str, Any], answer: Answer
) -> tuple[float, str | None]:
    """A score, and words that came with it."""
    result = score(inputs, Prediction(answer.outputs, inputs=inputs, usage=answer.usage))
    if inspect.isawaitable(result):
        result = await result
    value, words = result if isinstance(result, tuple) and len(result) == 2 else (result, None)
    if not hasattr(value, "__float__"):
        raise TypeError(
            f"score returned {result!r}; it must return a number, or a number and what "
            "to do better, in words"
        )
    if math.isnan(float(value)):
        raise ValueError("score returned nan, which is neither better nor worse than anything")
    return float(value), words
