"""Several answers to a row; the best one counts."""

from __future__ import annotations

import asyncio
import inspect
import json
import math
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

from ..core.errors import InvalidOutputError
from ..core.events import Answer
from ..core.ownership import own_row
from ..core.usage import UsageScope, total
from ..signatures.fields import Field
from .composite import Composite
from .parts import part
from .predict import Predict
from .prediction import Prediction

Score = Callable[[Mapping[str, Any], Prediction], Any]
_TEMPERATURE = 1.0  # for samples that would otherwise be equal


class BestOfN(Composite):
    """Ask a module `n` times and keep the answer with the best score.

    The module follows the modules of this name in DSPy and DSGo. The outputs gain `score`;
    `completions` has all answers.

    Args:
        module: any module. If the temperature of a `Predict` is 0 or not set, all samples but the
            first use a temperature of 1. Other modules must make their answers differ themselves.
        n: the number of samples.
        score: `score(inputs, prediction) -> float`, higher is better; may be async.
        threshold: with a threshold, samples are made one after the other until one reaches this
            score; without, all samples are made at once.

    Raises:
        ValueError: `n` is below 1, or the module has an output `score`.
        TypeError: `module` is not a module, or `score` is not a function.
    """

    def __init__(
        self, module: Any, n: int = 3, score: Score | None = None, *, threshold: float | None = None
    ) -> None:
        self._described, self._call = part(module)
        self._varied = part(_with_temperature(module))[1]
        self.n, self.score, self.threshold = n, _checked(n, score, threshold), threshold
        self.inputs, self.outputs = self._described.inputs, _scored(self._described.outputs)
        self.lms, self.is_io_bound = self._described.lms, self._described.is_io_bound
        self.has_history = self._described.has_history

    @property
    def decisive(self) -> Sequence[Any]:
        """See `Composite`."""
        return [self._described.source, self.n, self.score, self.threshold]

    async def acall(self, **inputs: Any) -> Prediction:
        """The best sample for one row.

        If some samples fail, the others count. If all fail, the error of the first is raised.
        """
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
        best = max(good, key=lambda outputs: outputs["score"])  # the first of equal ones
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
    """Ask, score, and ask again with the last answer and its faults.

    The module follows the modules of this name in DSPy and DSGo. The outputs gain `score`;
    `completions` has all answers, and the best one counts.

    Args:
        predict: a `Predict`, or an object of a subclass.
        n: the maximum number of answers.
        score: `score(inputs, prediction)` returns a float, or a float and words on what to do
            better. The next request includes these words. May be async.
        threshold: a score that is good enough; with None, all n answers are made.

    Raises:
        ValueError: `n` is below 1, or the signature has an output `score`.
        TypeError: `predict` is not a `Predict`, or `score` is not a function.
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
            raise TypeError(
                f"Refine needs a Predict, which can be shown its earlier answers; got {predict!r}"
            )
        self._predict = predict
        described = part(predict)[0]
        self.n, self.score, self.threshold = n, _checked(n, score, threshold), threshold
        self.inputs, self.outputs = described.inputs, _scored(described.outputs)
        self.lms, self.is_io_bound, self.has_history = (
            described.lms,
            described.is_io_bound,
            described.has_history,
        )

    @property
    def decisive(self) -> Sequence[Any]:
        """See `Composite`."""
        return [self._predict, self.n, self.score, self.threshold]

    async def acall(self, **inputs: Any) -> Prediction:
        """The best answer for one row.

        An error of the endpoint is raised if there is no answer yet; else the attempt is skipped.
        """
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
    """The results of all samples.

    An error is raised only after all samples have ended, so that the usage of all is counted.
    """
    made = await asyncio.gather(*(_caught(sample) for sample in samples))
    for error in made:
        if isinstance(error, _Raised):
            raise error.error
    return made


class _Raised(NamedTuple):
    """An error that a sample raised: an error of `score`, not of the answer."""

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


def _with_temperature(module: Any) -> Any:
    """The module; a `Predict` with a temperature above 0, so that its answers differ."""
    if not isinstance(module, Predict):
        return module
    given = {**getattr(module.lm, "params", {}), **module.params}
    return module if given.get("temperature") else module.varied(temperature=_TEMPERATURE)


async def _judged(
    score: Score, inputs: Mapping[str, Any], answer: Answer
) -> tuple[float, str | None]:
    """The score of an answer, and the words that the score function returned with it."""
    inputs = own_row(inputs)
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
        raise ValueError("score returned nan, which cannot be compared with other scores")
    return float(value), words
