"""Daemon threads for synchronous functions.

`concurrent.futures` joins its threads when the interpreter ends, so one function that hangs
would keep a notebook kernel from shutting down. A thread whose attempt timed out is left
behind; the pool starts another in its place.
"""

from __future__ import annotations

import asyncio
import contextvars
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

_Job = tuple[Callable[[], Any], contextvars.Context, "asyncio.Future[Any]"]


class DaemonPool:
    """Runs functions in as many threads as are busy at once. Belongs to one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._done: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._telling = False  # the loop was woken and will settle the finished jobs
        self._threads = 0
        self._idle = 0  # touched on the loop's thread only

    async def run(self, function: Callable[[], Any]) -> Any:
        """Call `function` in a thread, in a copy of the current context."""
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._idle:
            self._idle -= 1
        else:
            self._threads += 1
            threading.Thread(target=self._work, name="pardspy-function", daemon=True).start()
        self._jobs.put((function, contextvars.copy_context(), future))
        return await future

    def close(self) -> None:
        """Let each thread end after its current function."""
        for _ in range(self._threads):
            self._jobs.put(None)

    def _work(self) -> None:
        while (job := self._jobs.get()) is not None:
            function, context, future = job
            try:
                result, error = context.run(function), None
            except BaseException as e:  # SystemExit in a function is that row's failure
                result, error = None, e
            self._done.append((future, result, error))
            if self._telling:
                continue
            self._telling = True  # waking the loop costs most: once for all finished jobs
            try:
                self._loop.call_soon_threadsafe(self._settle_all)
            except RuntimeError:  # the loop is closed: nobody waits for this result
                return

    def _settle_all(self) -> None:
        self._telling = False  # first, so that jobs that finish from here on wake the loop again
        while self._done:
            self._settle(*self._done.popleft())

    def _settle(
        self, future: asyncio.Future[Any], result: Any, error: BaseException | None
    ) -> None:
        self._idle += 1
        if future.done():
            return
        if isinstance(error, StopIteration):  # cannot be raised into a Future
            error = RuntimeError(f"function raised StopIteration: {error}")
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
