"""The cache keys of rows, and the text form in which answers are stored and read again."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from pathlib import PurePath
from typing import Any, Protocol
from uuid import UUID

from ..core.events import Answer
from ..modules.module import Module
from ..modules.predict import Predict


class AnswerCodec(Protocol):
    """How the answers of one module are keyed, written and read.

    Attributes:
        base: a sha256 of everything, except a row's inputs, that decides the answers.
    """

    base: Any

    def words(self, inputs: Mapping[str, Any]) -> str:
        """The inputs as text, as far as they decide the answer."""

    def write(self, answer: Answer) -> str | None:
        """The answer as text; None if the answer has no text form."""

    def read(self, text: str, finish_reason: str | None) -> tuple[dict[str, Any], str | None]:
        """The outputs, and how the text was repaired to read them (None: not at all).

        Raises:
            ValueError, InvalidOutputError: the text no longer fits the module.
        """


def codecs_of(module: Module, cache_key: str | None) -> list[AnswerCodec]:
    """The codecs of a module. Row i uses the codec at i modulo their number.

    The list is empty where something unknown may decide the answers, and the user does not vouch
    for the module with a `cache_key`.
    """
    if module.predicts:
        predicts = module.predicts
        made = {id(p): _Prompt(p, cache_key) for p in predicts}
        return [made[id(p)] for p in predicts]
    if cache_key is None:
        return []
    vouched = {id(one): _Vouched(module, one, cache_key) for one in module.each}
    return [vouched[id(one)] for one in module.each]


class _Prompt:
    """The codec of a `Predict`, whose prompt decides the answer. The model's own text is stored."""

    def __init__(self, predict: Predict, cache_key: str | None) -> None:
        fixed = [*predict.fixed, *([cache_key] if cache_key is not None else [])]
        self.base = hashlib.sha256(json.dumps(fixed, sort_keys=True).encode())
        self.words, self.read = predict.words, predict.read

    def write(self, answer: Answer) -> str | None:
        return answer.text


class _Vouched:
    """The codec of any module that the user vouches for. The outputs are stored as JSON."""

    def __init__(self, module: Module, one: Any, cache_key: str) -> None:
        self._outputs = module.outputs
        fixed = ["vouched", cache_key, module.name, _name(module, one), list(module.outputs)]
        self.base = hashlib.sha256(json.dumps(fixed, sort_keys=True, default=repr).encode())
        self._warned = False

    def words(self, inputs: Mapping[str, Any]) -> str:
        return json.dumps(_tagged(dict(inputs)), sort_keys=True)

    def write(self, answer: Answer) -> str | None:
        outputs = {name: self._dumped(name, value) for name, value in answer.outputs.items()}
        odd = next((n for n, v in outputs.items() if not _is_plain(v)), None)
        if odd is None:
            return json.dumps(outputs)
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"rows are not remembered: output {odd!r} is a {type(outputs[odd]).__name__}, "
                "which JSON cannot restore unchanged; return strings, numbers, lists and dicts",
                RuntimeWarning,
                stacklevel=2,
            )
        return None

    def _dumped(self, name: str, value: Any) -> Any:
        if name not in self._outputs:
            return value
        try:
            return self._outputs[name].adapter.dump_python(value, mode="json", warnings=False)
        except ValueError:  # pydantic: the value is not of the declared type
            return value

    def read(self, text: str, finish_reason: str | None) -> tuple[dict[str, Any], str | None]:
        outputs = json.loads(text)
        return {
            name: self._outputs[name].adapter.validate_python(value)
            if name in self._outputs and value is not None
            else value
            for name, value in outputs.items()
        }, None


def _name(module: Module, one: Any) -> list[Any]:
    """The name that distinguishes one of several modules. A `Predict` is known by its model,
    parameters and prompt; any other module by its name, model and position."""
    name = getattr(one, "__qualname__", type(one).__qualname__)
    model = getattr(one, "lm", None)
    lm = getattr(model, "cache_identity", None)
    if isinstance(one, Predict):
        # a custom model without a `cache_identity` is known by its class and its name
        called = [type(model).__qualname__, str(getattr(model, "model", ""))]
        return [name, *([] if lm else called), *one.fixed]
    which = next(i for i, other in enumerate(module.each) if other is one)
    return [name, lm, which]


def _tagged(value: Any) -> Any:
    """An input as JSON, the same in every process, and different for different inputs."""
    if value is None or isinstance(value, str | bool | int | float):
        return value.value if isinstance(value, Enum) else value
    if isinstance(value, list):
        return [_tagged(v) for v in value]
    if isinstance(value, dict) and all(isinstance(k, str) for k in value):
        return {k: _tagged(v) for k, v in value.items()}
    kind = type(value).__name__
    if isinstance(value, dict):
        return {f"\0{kind}": [[_tagged(k), _tagged(v)] for k, v in value.items()]}
    if isinstance(value, tuple):
        return {f"\0{kind}": [_tagged(v) for v in value]}
    if isinstance(value, Enum):
        return {f"\0{kind}": value.name}
    if isinstance(value, date | datetime | Decimal | PurePath | UUID | bytes):
        return {f"\0{kind}": value.hex() if isinstance(value, bytes) else str(value)}
    for method in ("model_dump", "tolist", "item"):  # pydantic, numpy
        if hasattr(value, method):
            return {f"\0{kind}": _tagged(getattr(value, method)())}
    raise TypeError(f"a {kind} cannot be part of a cache key")


def _is_plain(value: Any) -> bool:
    """Whether JSON restores a value unchanged."""
    if value is None or type(value) in (str, int, float, bool):
        return True
    if type(value) is list:
        return all(map(_is_plain, value))
    return type(value) is dict and all(type(k) is str and _is_plain(v) for k, v in value.items())
