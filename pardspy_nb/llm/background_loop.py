"""Running a coroutine from synchronous code, also where a loop is already running.

One helper thread with its own loop serves every synchronous `predict(...)` of the process, so
their connections are reused. No `nest_asyncio`.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextvars
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from .endpoint import close_clients

T = TypeVar("T")
_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_ours: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()


def _running_loop() -> asyncio.AbstractEventLoop:
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            adopt(_loop)
            threading.Thread(target=_loop.run_forever, name="pardspy-calls", daemon=True).start()
            atexit.register(_close)
        return _loop


def adopt(loop: asyncio.AbstractEventLoop) -> None:
    """Declare a loop one of ours: its clients are closed before it ends."""
    _ours.add(loop)


async def on_our_loop(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Await `make()` here if this loop is ours, else on the helper thread.

    A client belongs to its loop, and nobody tells us when a user's own loop ends.
    """
    if asyncio.get_running_loop() in _ours:
        return await make()
    return await asyncio.wrap_future(_submit(make()))


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run it on the helper thread, in a copy of the caller's context, and wait."""
    box = _submit(coroutine)
    try:
        return box.result()
    except KeyboardInterrupt:
        box.cancel()
        raise


def _submit(coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
    """Start it on the helper thread; cancelling the future cancels the coroutine."""
    loop = _running_loop()
    context = contextvars.copy_context()
    box: concurrent.futures.Future[T] = concurrent.futures.Future()

    def settle(task: asyncio.Task[T]) -> None:
        if box.cancelled():
            return
        if task.cancelled():
            box.cancel()
        elif (error := task.exception()) is not None:
            box.set_exception(error)
        else:
            box.set_result(task.result())

    def start() -> None:
        task = loop.create_task(coroutine, context=context)
        task.add_done_callback(settle)
        box.add_done_callback(lambda _: loop.call_soon_threadsafe(task.cancel))

    loop.call_soon_threadsafe(start)
    return box


def _close() -> None:
    assert _loop is not None
    asyncio.run_coroutine_threadsafe(close_clients(), _loop).result(timeout=5)
    _loop.call_soon_threadsafe(_loop.stop)
