"""Where images may come from that rows name, within a run."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from pathlib import Path

_Sources = tuple[Path | None, tuple[str, ...]]
_sources: ContextVar[_Sources] = ContextVar("pardspy_image_sources", default=(None, ()))


@contextmanager
def image_sources(root: Path | None, hosts: tuple[str, ...]) -> Iterator[None]:
    """A scope with rules for images that rows name: files lie below `root` (None for the working
    folder), and URLs name public hosts, or one of `hosts`."""
    token = _sources.set((root, hosts))
    try:
        yield
    finally:
        _sources.reset(token)


def current_image_sources() -> tuple[Path | None, tuple[str, ...]]:
    """The rules of the enclosing scope."""
    return _sources.get()
