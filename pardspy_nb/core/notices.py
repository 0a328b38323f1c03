"""What takes long before the first row, such as the start of a model, is told to who shows it."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_listener: ContextVar[Callable[[str], None] | None] = ContextVar("_listener", default=None)


def say(text: str) -> None:
    """Tell what goes on: the run that waits for it, else standard error."""
    listener = _listener.get()
    if listener is not None:
        listener(text)
    elif sys.stderr is not None:  # a service has none
        print(text, file=sys.stderr, flush=True)


@contextmanager
def told_to(listener: Callable[[str], None]) -> Iterator[None]:
    """A scope in which `say` calls this function, which any thread may do."""
    token = _listener.set(listener)
    try:
        yield
    finally:
        _listener.reset(token)
