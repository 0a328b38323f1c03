"""Daemon threads for synchronous functions.

`concurrent.futures` joins its threads when the interpreter ends, so one function that hangs
would keep a notebook kernel from shutting down. A thread whose attempt timed out is left
behind; the pool starts another in its place, up to a bound.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import os
import queue
import threading
from collections import deque
from collections.abc import Callable
from typing import Any

from .errors import ThreadsBusyError
from .forks import end_child

MOST_LEFT_BEHIND = 128  # threads whose attempt timed out, in one pool
_COME_AGAIN_S = 5.0
_Job = tuple[Callable[[], Any], contextvars.Context, "asyncio.Future[Any]"]


class Flag:
    """As `threading.Event`, and an interrupt cannot break it.

    An `Event` takes its lock in Python code: a KeyboardInterrupt right after that leaves the lock
    taken, and all other threads wait for ever. Here each step is one of C.
    """

    def __init__(self) -> None:
        self._is_set = False
        self._gate = threading.Lock()  # open while the flag is set
        self._gate.acquire()

    def is_set(self) -> bool:
        """Whether it is set."""
        return self._is_set

    def set(self) -> None:
        """Set it, and wake all who wait."""
        self._is_set = True
        self._open()

    def clear(self) -> None:
        """Take it back."""
        self._is_set = False
        self._gate.acquire(blocking=False)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is set, for so many seconds at most. Whether it is set."""
        if not self._is_set and self._gate.acquire(timeout=-1 if timeout is None else timeout):
            self._open()  # for the next who waits
        return self._is_set

    def _open(self) -> None:
        with contextlib.suppress(RuntimeError):  # it is open
            self._gate.release()


class DaemonPool:
    """Runs functions in as many threads as are busy at once. Belongs to one event loop."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self._loop = loop
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._done: deque[tuple[asyncio.Future[Any], Any, BaseException | None]] = deque()
        self._telling = False  # the loop was woken and will settle the finished jobs
        self._pid = os.getpid()
        # touched on the loop's thread only
        self._threads = self._idle = self._left_behind = 0

    async def run(self, function: Callable[[], Any]) -> Any:
        """Call `function` in a thread, in a copy of the current context.

        Raises:
            ThreadsBusyError: too many threads are left behind, or the system gives no more.
        """
        future: asyncio.Future[Any] = self._loop.create_future()
        if self._idle:
            self._idle -= 1
        else:
            self._start_thread()
        self._jobs.put((function, contextvars.copy_context(), future))
        try:
            return await future
        except asyncio.CancelledError:
            if future.cancelled():  # else the result arrived in the same moment
                self._left_behind += 1
            raise

    def _start_thread(self) -> None:
        if self._left_behind >= MOST_LEFT_BEHIND:
            raise ThreadsBusyError(
                f"{self._left_behind} calls still go on in their threads after their timeout_s, so "
                "no further one is begun: a thread cannot be stopped from outside; give what the "
                "function waits for a timeout of its own",
                retry_after_s=_COME_AGAIN_S,
            )
        try:
            threading.Thread(target=self._work, name="pardspy-function", daemon=True).start()
        except RuntimeError as error:
            raise ThreadsBusyError(
                f"the system gives no thread beyond {self._threads} ({error}): lower max_workers",
                retry_after_s=_COME_AGAIN_S,
            ) from error
        self._threads += 1

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
            if os.getpid() != self._pid:
                end_child(error)
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
            self._left_behind -= 1
            return
        if isinstance(error, StopIteration):  # cannot be raised into a Future
            error = RuntimeError(f"function raised StopIteration: {error}")
        if error is not None:
            future.set_exception(error)
        else:
            future.set_result(result)
