"""What decides a module's answers, as far as it can be seen, as JSON for a cache key.

Seen are: the name and the code of a function, its defaults, the arguments of a partial, the values
of its closure and of the globals that it uses, a bound method's object, the modules in a composite,
prompts and models, and the attributes of the user's classes and of their objects. Two modules that
differ in any of these have different keys. A log or a counter that a function only writes to is
left out: it cannot decide an answer. Objects of other libraries cannot be seen in general; they are
named, so that the user can be warned.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import pickle
import re
import sys
import types
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ..modules.composite import Composite
from ..modules.predict import Predict
from .code_names import attributes_in, globals_in, written_only
from .tagged import tagged

_DEEPEST = 20
# objects of these libraries do not decide an answer
_TOOLS = frozenset(
    ("_asyncio", "_queue", "_thread", "asyncio", "itertools", "logging", "queue", "threading")
)
# objects of these libraries are data, whose pickle is the same in every process
_DATA = frozenset(
    {"argparse", "builtins", "collections", "fractions", "numpy", "pandas", "polars", "pyarrow"}
    | {"scipy", "sklearn", "types"}
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
        except (TypeError, ValueError, RecursionError):
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
        if isinstance(value, type) and not _is_of_a_library(value):
            return self._of_class(value)
        if (inner := getattr(value, "__wrapped__", None)) is not None:  # a cached function
            return [kind, self.of(inner, name)]
        if isinstance(value, re.Pattern):
            return ["pattern", str(value.pattern), value.flags]
        if callable(value) and hasattr(value, "__qualname__"):  # a library's class or function
            return ["name", value.__module__, value.__qualname__]
        if isinstance(value, types.ModuleType):
            return ["module", value.__name__]
        if isinstance(value, Mapping):
            pairs = [[self.of(k, name), self.of(v, f"{name}[{k!r}]")] for k, v in value.items()]
            return [kind, sorted(pairs, key=repr)]
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
        return [_class_name(predict), self._of_class(type(predict)), *called, *predict.fixed]

    def _of_function(self, function: types.FunctionType) -> Any:
        name, code = function.__qualname__, function.__code__
        ignored = written_only([code])
        used = {n: v for n, v in _variables(function).items() if n not in ignored}
        for key, value in list(used.items()):
            if isinstance(value, types.ModuleType):
                used |= self._of_module(key, value, attributes_in(code))
        ignored |= {"__wrapped__"}  # it is in the closure
        attributes = {n: v for n, v in vars(function).items() if n not in ignored}
        defaults = {n: v for n, v in _defaults(function).items() if n not in ignored}
        parts = [self._by_name(of, name) for of in (used, defaults, attributes)]
        return ["function", name, _code(code), *parts]

    def _of_module(self, name: str, module: types.ModuleType, names: set[str]) -> dict[str, Any]:
        """The attributes of a module of the user's that a function may use."""
        if names & {"environ", "getenv"} and module.__name__ == "os":
            self.unseen.append("os.environ")
        if _is_library_name(module.__name__):
            return {}
        return {f"{name}.{n}": vars(module)[n] for n in names & vars(module).keys()}

    def _of_class(self, kind: type) -> Any:
        """The methods and the data of the user's own classes among a class and its bases."""
        found = []
        for of in kind.__mro__:
            if of is not object and not _is_of_a_library(of):
                data = {n: v for n, v in vars(of).items() if _is_data(n, v)}
                methods = [[m.__qualname__, _code(m.__code__)] for m in _methods(of)]
                found.append([of.__qualname__, methods, self._by_name(data, of.__qualname__)])
        return found

    def _of_instance(self, value: Any, name: str) -> Any:
        kind = _class_name(value)
        known = getattr(value, "cache_identity", None)
        if known is not None and not callable(known):
            return [kind, self.of(known, name)]
        library = type(value).__module__.partition(".")[0]
        if library in _TOOLS:
            return [kind]
        if callable(getattr(value, "dump_state", None)):  # a dspy.Module: prompts, demos and LMs
            return [kind, self._of_class(type(value)), self._dumped(value.dump_state, name)]
        if _is_of_a_library(type(value)):
            if library in _DATA:
                return [kind, self._dumped(lambda: _pickled(value), name)]
            self.unseen.append(f"{name or 'it'} (a {kind})")
            return [kind]
        methods = [
            m for of in type(value).__mro__ if not _is_of_a_library(of) for m in _methods(of)
        ]
        ignored = written_only([method.__code__ for method in methods])
        kept = {n: inner for n, inner in _attributes(value).items() if n not in ignored}
        return [kind, self._of_class(type(value)), self._by_name(kept, name or kind)]

    def _dumped(self, dump: Any, name: str) -> Any:
        try:
            return self.of(dump(), name)
        except Exception:  # another library's code
            self.unseen.append(name or "a part of it")
            return None


def _pickled(value: Any) -> str:
    return hashlib.sha256(pickle.dumps(value, 5)).hexdigest()


def _class_name(value: Any) -> str:
    """The name of a value's class. A class of the user's is known by its code, so that it may move
    from a notebook to a module."""
    kind = type(value)
    return f"{kind.__module__}.{kind.__qualname__}" if _is_of_a_library(kind) else kind.__qualname__


def _is_of_a_library(value: Any) -> bool:
    """Whether a class or function is of the standard library or of an installed package."""
    return _is_library_name(value.__module__ or "")


def _is_library_name(name: str) -> bool:
    if name.partition(".")[0] in sys.stdlib_module_names - {"__main__"}:
        return True
    file = getattr(sys.modules.get(name), "__file__", None) or ""
    return "site-packages" in file or "dist-packages" in file or name.startswith("pardspy_nb.")


def _variables(function: types.FunctionType) -> dict[str, Any]:
    """The values of a function's closure, and of the globals that it and the functions in it
    use."""
    names = globals_in(function.__code__)
    found = {n: function.__globals__[n] for n in names if n in function.__globals__}
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            found[name] = cell.cell_contents
        except ValueError:  # the name has no value yet
            continue
    return found


def _defaults(function: types.FunctionType) -> dict[str, Any]:
    parameters = inspect.signature(function, follow_wrapped=False).parameters.values()
    return {p.name: p.default for p in parameters if p.default is not p.empty}


def _attributes(value: Any) -> dict[str, Any]:
    slots = [name for of in type(value).__mro__ for name in getattr(of, "__slots__", ())]
    found = {name: getattr(value, name) for name in slots if hasattr(value, name)}
    return {**found, **getattr(value, "__dict__", {})}


def _is_data(name: str, value: Any) -> bool:
    """Whether a class has this attribute as data, and not as a method or for Python's own use."""
    is_method = isinstance(value, property | classmethod | staticmethod | types.FunctionType)
    is_slot = isinstance(value, types.MemberDescriptorType | types.GetSetDescriptorType)
    return not (is_method or is_slot or (name.startswith("__") and name.endswith("__")))


def _methods(kind: type) -> Iterator[types.FunctionType]:
    """The functions that a class defines itself, except `__init__`: its work is the attributes."""
    for name, value in sorted(vars(kind).items()):
        function = getattr(value, "fget", getattr(value, "__func__", value))
        if isinstance(function, types.FunctionType) and name != "__init__":
            yield function


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
