"""How long a job's calls to the provider may take, and how another thread ends them."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import CancelledError, Future
from typing import Any, TypeVar

from ...core.errors import BatchTimeoutError
from ...llm.background_loop import submit

T = TypeVar("T")
CALL_S = 30.0  # one call
TRANSFER_S = 900.0  # one file, of 200 MB at most


class GivenUpError(Exception):
    """Another thread of this process wants the job for itself."""


class CallClock:
    """The clock of one job. One thread at a time makes calls; any thread may `give_up`."""

    def __init__(self) -> None:
        self._until: float | None = None
        self._call: Future[Any] | None = None
        self._unwanted = threading.Event()

    @contextlib.contextmanager
    def action(self, until: float | None) -> Iterator[None]:
        """A scope whose calls end by `until` (of `time.monotonic`), None for no limit in all."""
        self._until = until
        self._unwanted.clear()
        try:
            yield
        finally:
            self._until = None

    def make(self, coroutine: Coroutine[Any, Any, T], most_s: float = CALL_S) -> T:
        """Make one call, and wait for its result.

        Raises:
            BatchTimeoutError: there was none in time.
            GivenUpError: see there.
        """
        self._call = future = submit(coroutine)
        if self._unwanted.is_set():
            future.cancel()
        most_s = self._at_most(most_s)
        try:
            return future.result(most_s)
        except TimeoutError:
            future.cancel()
            raise BatchTimeoutError(
                f"the provider's batch API did not answer within {most_s:.3g} s"
            ) from None
        except CancelledError:
            raise GivenUpError from None
        except KeyboardInterrupt:
            future.cancel()
            raise

    def pause(self, seconds: float, error: Exception) -> None:
        """Wait before the next try after `error`. BatchTimeoutError if there will be no time for
        that try; GivenUpError."""
        if self._at_most(seconds) < seconds:
            raise BatchTimeoutError(f"no time is left for another try after: {error}") from error
        if self._unwanted.wait(seconds):
            raise GivenUpError

    def give_up(self) -> None:
        """End the call under way."""
        self._unwanted.set()
        if self._call is not None:
            self._call.cancel()

    def _at_most(self, seconds: float) -> float:
        left = seconds if self._until is None else self._until - time.monotonic()
        return max(0.0, min(seconds, left))
