"""Which names the code of a function uses, and which of them it only writes to."""

from __future__ import annotations

import dis
import types
from collections.abc import Iterable, Iterator, Sequence

_ADDING = frozenset(  # methods that change a container and return None
    {"add", "append", "appendleft", "clear", "discard", "extend", "insert", "put", "remove"}
    | {"sort", "update"}
)
_LOADS = ("LOAD_DEREF", "LOAD_GLOBAL", "LOAD_ATTR", "LOAD_FAST")
_STORES = ("STORE_DEREF", "STORE_GLOBAL", "STORE_ATTR", "STORE_FAST")


def globals_in(code: types.CodeType) -> set[str]:
    """The names of the globals that a function, or a function in it, uses."""
    return {s.argval for c in _all(code) for s in dis.get_instructions(c) if _is_global(s)}


def _is_global(step: dis.Instruction) -> bool:
    return step.opname in ("LOAD_GLOBAL", "LOAD_NAME")


def attributes_in(code: types.CodeType) -> set[str]:
    """The names of the attributes that a function uses, of whatever object."""
    kinds = ("LOAD_ATTR", "LOAD_METHOD")
    return {s.argval for c in _all(code) for s in dis.get_instructions(c) if s.opname in kinds}


def written_only(codes: Iterable[types.CodeType]) -> set[str]:
    """The variables and attributes that these functions write to, and read for nothing else:
    `seen.append(x)`, `counts[x] += 1`, `n += 1`."""
    read, written = set[str](), set[str]()
    for code in codes:
        for inner in _all(code):
            steps = [s for s in dis.get_instructions(inner) if s.opname not in _FILLING]
            writes = dict(_writes(steps))
            written |= set(writes.values())
            read |= {
                step.argval
                for i, step in enumerate(steps)
                if step.opname in _LOADS and i not in writes
            }
    return written - read


_FILLING = ("CACHE", "RESUME", "PRECALL", "EXTENDED_ARG", "NOP", "PUSH_NULL")


def _all(code: types.CodeType) -> Iterator[types.CodeType]:
    yield code
    for inner in code.co_consts:
        if isinstance(inner, types.CodeType):
            yield from _all(inner)


def _writes(steps: Sequence[dis.Instruction]) -> Iterator[tuple[int, str]]:
    """The steps that load a name in order to write to it, with the name."""
    for i, step in enumerate(steps):
        is_adding = step.opname in ("LOAD_METHOD", "LOAD_ATTR") and step.argval in _ADDING
        if is_adding and i and steps[i - 1].opname in _LOADS:
            yield i - 1, steps[i - 1].argval
        elif step.opname == "STORE_SUBSCR":
            at = _container(steps, i)
            if at is not None and steps[at].opname in _LOADS:
                yield at, steps[at].argval
        elif step.opname in _STORES:
            at = _added_to(steps, i)
            if at is not None:
                yield at, step.argval


def _container(steps: Sequence[dis.Instruction], store: int) -> int | None:
    """The step that loads the container of `container[key] = value` or `container[key] += value`.

    The stack holds value, container and key, in this order (documentation of `dis`).
    """
    at = store - 1
    if steps[at].opname == "SWAP":  # +=: container and key were copied before they were used
        while at > 0 and not (steps[at].opname == "COPY" and steps[at - 1].opname == "COPY"):
            at -= 1
        at -= 2
    depth = 0
    while at >= 0:  # back over the steps that made the key
        depth += dis.stack_effect(steps[at].opcode, steps[at].arg)
        at -= 1
        if depth == 1:
            return at if at >= 0 else None
    return None


def _added_to(steps: Sequence[dis.Instruction], store: int) -> int | None:
    """The step that loads a name which `name += value` then stores."""
    at = store - 1
    while at > 0 and steps[at].opname in ("SWAP", "COPY"):
        at -= 1
    if steps[at].opname != "BINARY_OP" or not steps[at].argrepr.endswith("="):
        return None
    depth = 0
    while at > 0:  # back over the value that is added
        at -= 1
        depth += dis.stack_effect(steps[at].opcode, steps[at].arg)
        if depth == 1:
            break
    at -= 1
    same = at >= 0 and steps[at].opname in _LOADS and steps[at].argval == steps[store].argval
    return at if same else None
