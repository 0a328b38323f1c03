"""What decides a module's answers, as far as it can be seen, as JSON for a cache key.

Seen are: the name and the code of a function, its defaults, the arguments of a partial, the values
of its closure and of the globals that it uses, a bound method's object, the modules in a composite,
prompts and models, and the attributes of objects of the user's classes. Two modules that differ in
any of these have different keys. What a function itself changes (a counter, a log) is left out,
because it differs at the next call. Objects of other libraries cannot be seen; they are named, so
that the user can be warned.
"""

from __future__ import annotations

import dis
import functools
import hashlib
import inspect
import re
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..modules.composite import Composite
from ..modules.predict import Predict
from .tagged import tagged

_DEEPEST = 20
_CHANGING_METHODS = frozenset(
    {"add", "append", "appendleft", "clear", "discard", "extend", "insert", "pop", "popleft"}
    | {"popitem", "put", "remove", "set", "setdefault", "sort", "update"}
)
# objects of these libraries do not decide an answer
_TOOLS = frozenset(
    [
        "_asyncio",
        "_queue",
        "_thread",
        "asyncio",
        "itertools",
        "logging",
        "queue",
        "threading",
        "tqdm",
    ]
)


class Identity:
    """Describes objects.

    Attributes:
        unseen: names of what decides an answer and cannot be seen.
    """

    def __init__(self) -> None:
        self.unseen: list[str] = []
        self._open: list[int] = []  # ids of the objects around the present one

    def of(self, value: Any, name: str = "") -> Any:
        """A description of a value, fit for JSON: equal for equal values in every process."""
        try:
            return tagged(value)
        except (TypeError, ValueError):
            pass
        if id(value) in self._open or len(self._open) > _DEEPEST:
            return "\0again"
        self._open.append(id(value))
        try:
            return self._of_object(value, name)
        finally:
            self._open.pop()

    def _of_object(self, value: Any, name: str) -> Any:
        kind = _class_name(value)
        if isinstance(value, Predict):
            return self._of_predict(value)
        if isinstance(value, Composite):
            return [kind, self._each(value.decisive, name)]
        if isinstance(value, functools.partial):
            keywords = self._by_name(value.keywords, name)
            return ["partial", self.of(value.func, name), self._each(value.args, name), keywords]
        if isinstance(value, types.MethodType):
            return ["method", self.of(value.__func__, name), self.of(value.__self__, name)]
        if isinstance(value, types.FunctionType) and not _is_of_a_library(value):
            return self._of_function(value)
        if isinstance(value, re.Pattern):
            return ["pattern", str(value.pattern), value.flags]
        if callable(value) and hasattr(value, "__qualname__"):  # a class, a library's function
            return ["name", value.__module__, value.__qualname__]
        if isinstance(value, types.ModuleType):
            return ["module", value.__name__]
        if isinstance(value, Mapping):
            return {str(key): self.of(inner, f"{name}[{key!r}]") for key, inner in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            each = self._each(value, name)
            return [kind, sorted(each, key=repr) if isinstance(value, set | frozenset) else each]
        return self._of_instance(value, name)

    def _each(self, values: Iterable[Any], name: str) -> list[Any]:
        return [self.of(value, name) for value in values]

    def _by_name(self, values: Mapping[str, Any], name: str) -> list[Any]:
        return [[key, self.of(values[key], f"{name}.{key}")] for key in sorted(values)]

    def _of_predict(self, predict: Predict) -> Any:
        model = predict.lm
        # a custom model without a `cache_identity` is known by its class and its name
        known = getattr(model, "cache_identity", None)
        called = [] if known else [_class_name(model), str(getattr(model, "model", ""))]
        return [_class_name(predict), _code_of(type(predict)), *called, *predict.fixed]

    def _of_function(self, function: types.FunctionType) -> Any:
        name = function.__qualname__
        try:
            inner = inspect.getclosurevars(function)
        except ValueError:  # a name of the closure has no value yet
            self.unseen.append(f"the closure of {name}")
            used: dict[str, Any] = {}
        else:
            changed = set(_changed_by(function.__code__))
            used = {**inner.globals, **inner.nonlocals}
            used = {key: value for key, value in used.items() if key not in changed}
        defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).items()]
        return [
            "function",
            name,
            _code(function.__code__),
            self._each(defaults, f"a default of {name}"),
            self._by_name(used, name),
        ]

    def _of_instance(self, value: Any, name: str) -> Any:
        kind = _class_name(value)
        known = getattr(value, "cache_identity", None)
        if known is not None and not callable(known):
            return [kind, self.of(known, name)]
        if type(value).__module__.partition(".")[0] in _TOOLS:
            return [kind]
        if callable(getattr(value, "dump_state", None)):  # a dspy.Module: prompts, demos and LMs
            return [kind, _code_of(type(value)), self._dumped(value, name)]
        slots = getattr(value, "__dict__", None)
        if slots is None or _is_of_a_library(type(value)):
            self.unseen.append(f"{name or 'it'} (a {kind})")
            return [kind]
        changed = {n for method in _methods(type(value)) for n in _changed_by(method.__code__)}
        kept = {n: inner for n, inner in slots.items() if n not in changed}
        return [kind, _code_of(type(value)), self._by_name(kept, name or kind)]

    def _dumped(self, value: Any, name: str) -> Any:
        try:
            return self.of(value.dump_state(), name)
        except Exception:  # another library's code
            self.unseen.append(f"{name or 'it'} (a {_class_name(value)})")
            return None


def _class_name(value: Any) -> str:
    """The name of a value's class. A class of the user's is known by its code, so that it may move
    from a notebook to a module."""
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}" if _is_of_a_library(kind) else kind.__qualname__


def _is_of_a_library(value: Any) -> bool:
    """Whether a class or function is of the standard library or of an installed package."""
    name = value.__module__ or ""
    if name.partition(".")[0] in sys.stdlib_module_names - {"__main__"}:
        return True
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    return "site-packages" in file or "dist-packages" in file or name.startswith("pardspy_nb.")


def _methods(kind: type) -> Iterator[types.FunctionType]:
    """The methods that the user's own classes define, without `__init__`."""
    for of in kind.__mro__:
        if of is not object and not _is_of_a_library(of):
            for name, value in sorted(vars(of).items()):
                function = getattr(value, "fget", getattr(value, "__func__", value))
                if isinstance(function, types.FunctionType) and name != "__init__":
                    yield function


def _code_of(kind: type) -> list[list[str]]:
    return [[method.__qualname__, _code(method.__code__)] for method in _methods(kind)]


def _code(code: types.CodeType) -> str:
    """A hash of what a function does: its instructions, the names in them and its constants."""
    digest = hashlib.sha256(code.co_code)
    constants = [
        _code(c) if isinstance(c, types.CodeType) else _constant(c) for c in code.co_consts
    ]
    digest.update(repr((code.co_names, code.co_varnames, constants)).encode())
    return digest.hexdigest()[:16]


def _constant(value: Any) -> str:
    """A constant as text; the members of a set are in another order in each process."""
    return repr(sorted(map(repr, value))) if isinstance(value, frozenset) else repr(value)


def _changed_by(code: types.CodeType) -> Iterator[str]:
    """Names whose values a function changes: variables of its closure or global ones that it
    assigns, attributes that it sets, and containers that it adds to or stores into."""
    loaded: list[str] = []  # names that were loaded since the last store
    for step in dis.get_instructions(code):
        if step.opname in ("STORE_DEREF", "STORE_GLOBAL", "STORE_ATTR", "DELETE_ATTR"):
            yield step.argval
        if step.opname in ("LOAD_METHOD", "LOAD_ATTR") and step.argval in _CHANGING_METHODS:
            yield from loaded[-1:]
        elif step.opname in ("STORE_SUBSCR", "DELETE_SUBSCR"):
            yield from loaded[-3:]
        if step.opname in ("LOAD_DEREF", "LOAD_GLOBAL", "LOAD_ATTR"):
            loaded.append(step.argval)
        elif step.opname == "LOAD_FAST":
            loaded.append("")  # a local variable is no name of the closure
        elif step.opname.startswith("STORE"):
            loaded.clear()
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _changed_by(inner)
