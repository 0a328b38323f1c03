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
from collections.abc import Coroutine
from typing import Any, TypeVar

from .endpoint import close_clients

T = TypeVar("T")
_lock = threading.Lock()
_loop: asyncio.AbstractEventLoop | None = None


def _running_loop() -> asyncio.AbstractEventLoop:
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            threading.Thread(target=_loop.run_forever, name="pardspy-calls", daemon=True).start()
            atexit.register(_close)
        return _loop


def run_sync(coroutine: Coroutine[Any, Any, T]) -> T:
    """Run it on the helper thread, in a copy of the caller's context, and wait."""
    loop = _running_loop()
    context = contextvars.copy_context()
    box: concurrent.futures.Future[T] = concurrent.futures.Future()
    tasks: list[asyncio.Task[T]] = []

    def settle(task: asyncio.Task[T]) -> None:
        if task.cancelled():
            box.cancel()
        elif (error := task.exception()) is not None:
            box.set_exception(error)
        else:
            box.set_result(task.result())

    def start() -> None:
        tasks.append(loop.create_task(coroutine, context=context))
        tasks[0].add_done_callback(settle)

    loop.call_soon_threadsafe(start)
    try:
        return box.result()
    except KeyboardInterrupt:
        loop.call_soon_threadsafe(lambda: tasks[0].cancel())
        raise


def _close() -> None:
    assert _loop is not None
    asyncio.run_coroutine_threadsafe(close_clients(), _loop).result(timeout=5)
    _loop.call_soon_threadsafe(_loop.stop)
