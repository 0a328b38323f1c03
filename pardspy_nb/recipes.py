"""What decides a row's answer, and how an answer is written down to be read again."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from datetime import date, datetime
from enum import Enum
from typing import Any, Protocol

from .events import Answer
from .modules import Module
from .predict import Predict


class Recipe(Protocol):
    """How the answers of one module are keyed, written and read.

    Attributes:
        base: a sha256 of all that decides the answers beside a row's inputs.
    """

    base: Any

    def words(self, inputs: Mapping[str, Any]) -> str:
        """The inputs, as far as they decide the answer."""

    def write(self, answer: Answer) -> str | None:
        """The answer as text, None if that cannot be."""

    def read(self, text: str, finish_reason: str | None) -> dict[str, Any]:
        """The outputs. ValueError or `InvalidOutputError` if the text does not fit any more."""


def recipes_of(module: Module, cache_key: str | None) -> list[Recipe]:
    """The recipes of a module (row i: i modulo their number); none where something unknown may
    decide the answers, and the user does not vouch for it with a `cache_key`."""
    if module.predicts:
        return [_Prompt(predict, cache_key) for predict in module.predicts]
    return [] if cache_key is None else [_Vouched(module, cache_key)]


class _Prompt:
    """Of a `Predict` whose prompt alone decides: the answer is kept in the model's own text."""

    def __init__(self, predict: Predict, cache_key: str | None) -> None:
        fixed = [*predict.fixed, *([cache_key] if cache_key is not None else [])]
        self.base = hashlib.sha256(json.dumps(fixed, sort_keys=True).encode())
        self.words, self.read = predict.words, predict.read

    def write(self, answer: Answer) -> str | None:
        return answer.text


class _Vouched:
    """Of any module the user vouches for: the outputs are kept as JSON."""

    def __init__(self, module: Module, cache_key: str) -> None:
        self._outputs = module.outputs
        lms = [getattr(lm, "identity", None) for lm in module.lms]
        instructions = getattr(getattr(module.source, "signature", None), "instructions", None)
        fixed = ["vouched", cache_key, module.name, lms, instructions, list(module.outputs)]
        self.base = hashlib.sha256(json.dumps(fixed, sort_keys=True, default=repr).encode())
        self._warned = False

    def words(self, inputs: Mapping[str, Any]) -> str:
        return json.dumps(inputs, sort_keys=True, ensure_ascii=False, default=_plainly)

    def write(self, answer: Answer) -> str | None:
        outputs: Any = {
            name: self._outputs[name].adapter.dump_python(value, mode="json")
            if name in self._outputs else value
            for name, value in answer.outputs.items()
        }  # fmt: skip
        odd = next((n for n, v in outputs.items() if not _is_plain(v)), None)
        if odd is None:
            return json.dumps(outputs, ensure_ascii=False)
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"rows are not remembered: output {odd!r} is a {type(outputs[odd]).__name__}, "
                "which JSON does not give back as it was; return strings, numbers, lists and dicts",
                RuntimeWarning, stacklevel=2,
            )  # fmt: skip
        return None

    def read(self, text: str, finish_reason: str | None) -> dict[str, Any]:
        outputs = json.loads(text)
        return {
            name: self._outputs[name].adapter.validate_python(value)
            if name in self._outputs and value is not None else value
            for name, value in outputs.items()
        }  # fmt: skip


def _plainly(value: Any) -> Any:
    """An input that JSON does not know, in words that are the same in each process."""
    if isinstance(value, Enum):
        return [type(value).__name__, value.name]
    if isinstance(value, date | datetime):
        return [type(value).__name__, value.isoformat()]
    for method in ("model_dump", "tolist", "item"):  # pydantic, numpy
        if hasattr(value, method):
            return [type(value).__name__, getattr(value, method)()]
    raise TypeError(f"a {type(value).__name__} has no words")


def _is_plain(value: Any) -> bool:
    """Whether JSON gives a value back as it was."""
    if value is None or type(value) in (str, int, float, bool):
        return True
    if type(value) is list:
        return all(map(_is_plain, value))
    return type(value) is dict and all(type(k) is str and _is_plain(v) for k, v in value.items())
