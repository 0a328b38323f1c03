"""Runs a coroutine from synchronous code, also while an event loop is already running.

One helper thread with its own loop serves every synchronous `predict(...)` of the process, so
connections are reused. `nest_asyncio` is not used.
"""

from __future__ import annotations

import asyncio
import atexit
import concurrent.futures
import contextvars
import os
import threading
import weakref
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from .endpoint import close_clients

T = TypeVar("T")
_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None
_own_loops: weakref.WeakSet[asyncio.AbstractEventLoop] = weakref.WeakSet()


def _forget() -> None:
    """In a forked process: the helper thread was not copied, so its loop must not be waited for,
    and the connections belong to the parent."""
    global _lock, _loop
    _lock, _loop = threading.Lock(), None
    _own_loops.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


def _running_loop() -> asyncio.AbstractEventLoop:
    global _loop
    with _lock:
        if _loop is None:
            loop = asyncio.new_event_loop()
            try:
                threading.Thread(target=loop.run_forever, name="pardspy-calls", daemon=True).start()
            except RuntimeError:  # no more threads: the next call tries again
                loop.close()
                raise
            adopt(loop)
            _loop = loop
            atexit.register(_close)
        return _loop


def adopt(loop: asyncio.AbstractEventLoop) -> None:
    """Register a loop of this package: its clients are closed before it ends."""
    _own_loops.add(loop)


async def on_our_loop(make: Callable[[], Coroutine[Any, Any, T]]) -> T:
    """Await `make()` on the running loop if it is of this package, else on the helper thread.

    A client belongs to its loop, and there is no notice when a user's own loop ends.
    """
    if asyncio.get_running_loop() in _own_loops:
        return await make()
    return await asyncio.wrap_future(submit(make()))


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine on the helper thread, in a copy of the caller's context, and wait."""
    future = submit(coroutine)
    try:
        return future.result()
    except KeyboardInterrupt:
        future.cancel()
        raise


def submit(coroutine: Coroutine[Any, Any, T]) -> concurrent.futures.Future[T]:
    """Start a coroutine on the helper thread; cancelling the future cancels the coroutine."""
    try:
        loop = _running_loop()
    except BaseException:
        coroutine.close()
        raise
    context = contextvars.copy_context()
    future: concurrent.futures.Future[T] = concurrent.futures.Future()

    def settle(task: asyncio.Task[T]) -> None:
        if future.cancelled():
            return
        if task.cancelled():
            future.cancel()
        elif (error := task.exception()) is not None:
            future.set_exception(error)
        else:
            future.set_result(task.result())

    def start() -> None:
        task = loop.create_task(coroutine, context=context)
        task.add_done_callback(settle)
        future.add_done_callback(lambda _: loop.call_soon_threadsafe(task.cancel))

    loop.call_soon_threadsafe(start)
    return future


def _close() -> None:
    if _loop is None:  # in a forked process
        return
    asyncio.run_coroutine_threadsafe(close_clients(), _loop).result(timeout=5)
    _loop.call_soon_threadsafe(_loop.stop)
