"""The cache keys of rows, and the text form in which answers are stored and read again."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from ..core.events import Answer
from ..modules.module import Module
from ..modules.predict import Predict
from .identity import Identity
from .tagged import tagged

_MOST_STATES = 64  # of modules; each keeps its module in memory


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

    def close(self) -> None:
        """The run is over."""

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

    def close(self) -> None: ...


class _States:
    """Remembers how modules changed themselves while a run of ours lasted. Such a change does not
    make a module another one: a counter that went up, an answer that it keeps."""

    def __init__(self) -> None:
        # by the id of the module's object: the object, its state after a run, its state before
        self._runs: OrderedDict[int, tuple[Any, str, str]] = OrderedDict()

    def before(self, module: Any, state: str) -> str:
        """The state that a module is known by."""
        root = _root(module)
        known = self._runs.get(id(root))
        return known[2] if known and known[0] is root and known[1] == state else state

    def after(self, module: Any, state: str, known_as: str) -> None:
        """A run is over; the module was known by the state `known_as`."""
        root = _root(module)
        self._runs[id(root)] = (root, state, known_as)
        while len(self._runs) > _MOST_STATES:
            self._runs.popitem(last=False)


def _root(module: Any) -> Any:
    """The object that a module's state belongs to: a bound method is made anew at each access."""
    return getattr(module, "__self__", module)


states = _States()


class _Vouched:
    """The codec of any module that the user vouches for. The outputs are stored as JSON."""

    def __init__(self, module: Module, one: Any, cache_key: str) -> None:
        self._outputs = module.outputs
        # what cannot be seen of several modules is at least told apart by their places
        which = next(i for i, other in enumerate(module.each) if other is one)
        self._module, self._one = module, one
        state, unseen = self._state()
        self._known_as = states.before(one, state)
        fixed = [cache_key, module.name, self._known_as, which if unseen else 0]
        base = json.dumps(["vouched", *fixed, list(module.outputs)], sort_keys=True, default=repr)
        self.base = hashlib.sha256(base.encode())
        if unseen:
            warn_unseen(module.name, unseen)
        self._warned = False

    def _state(self) -> tuple[str, list[str]]:
        """A hash of what can be seen of the module now, and names of what cannot."""
        identity = Identity()
        seen = json.dumps(identity.of(self._one, self._module.name), sort_keys=True, default=repr)
        return hashlib.sha256(seen.encode("utf-8", "surrogatepass")).hexdigest(), identity.unseen

    def close(self) -> None:
        states.after(self._one, self._state()[0], self._known_as)

    def words(self, inputs: Mapping[str, Any]) -> str:
        return json.dumps(tagged(dict(inputs)), sort_keys=True)

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


def _is_plain(value: Any) -> bool:
    """Whether JSON restores a value unchanged."""
    if value is None or type(value) in (str, int, float, bool):
        return True
    if type(value) is list:
        return all(map(_is_plain, value))
    return type(value) is dict and all(type(k) is str and _is_plain(v) for k, v in value.items())


_warned: set[str] = set()


def warn_unseen(module: str, unseen: Sequence[str]) -> None:
    """Warn, once for each module, of what decides its answers and is not in its cache keys."""
    if module in _warned:
        return
    _warned.add(module)
    warnings.warn(
        f"what decides the answers of {module!r} cannot all be seen: {', '.join(unseen[:3])}; "
        "change cache_key= whenever that changes, or answers of before are used",
        UserWarning,
        stacklevel=2,
    )
