"""A provider's batch API (OpenAI guide "Batch API"): files of requests, and batches of these."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple, TypeVar

from ...core.errors import LMError, ModelNotFoundError
from ...engine.policies import RetryPolicy
from ...llm.lm import LM
from .call_clock import CALL_S, TRANSFER_S, CallClock

T = TypeVar("T")
ENDED = frozenset({"completed", "failed", "expired", "cancelled"})
_PATH = "/v1/chat/completions"
_OURS = "pardspy_job"  # in a batch's metadata
_LOOKED_BACK = 300  # batches that are looked at in any case
_CLOCKS_DIFFER_S = 3600.0  # of the provider and of this machine, at most


class Batch(NamedTuple):
    """A batch at the provider.

    Attributes:
        status: `validating failed in_progress finalizing completed expired cancelling cancelled`.
        output, errors: ids of files, once there are some.
        completed, failed: requests.
        reason: why it failed as a whole; `code` is the provider's word for that.
    """

    id: str
    status: str
    output: str | None = None
    errors: str | None = None
    completed: int = 0
    failed: int = 0
    reason: str | None = None
    code: str | None = None

    @property
    def has_ended(self) -> bool:
        """Whether nothing will change any more."""
        return self.status in ENDED


class BatchClient:
    """The endpoint of an LM, for batches. Blocks; every method raises an `LMError`, and what the
    clock raises."""

    def __init__(self, lm: LM, clock: CallClock, retry: RetryPolicy | None = None) -> None:
        self._endpoint, self._clock, self._retry = lm.endpoint, clock, retry or RetryPolicy()

    def upload(self, name: str, lines: bytes) -> str:
        """Bring a file of requests; its id."""
        try:
            made = self._call(
                lambda c: c.files.create(file=(name, lines), purpose="batch"), TRANSFER_S
            )
        except ModelNotFoundError as error:
            raise LMError(
                f"{self._endpoint.shown_url} has no batch API (no /files): use run_parallel; "
                "job.forget() removes the job"
            ) from error
        return str(made.id)

    def create(
        self, file: str, job: str, part: int, attempt: int, window: str, since: float
    ) -> Batch:
        """Begin a batch, the `attempt`-th time. If nobody knows whether it was begun, it is looked
        for first (see `begun`): it would be paid for twice."""
        tags = {_OURS: job, "part": str(part), "attempt": str(attempt)}
        for tries in range(1, self._retry.max_attempts + 1):
            try:
                made = self._once(
                    lambda c: c.batches.create(
                        input_file_id=file,
                        endpoint=_PATH,
                        completion_window=window,
                        metadata=tags,
                    )
                )
                return self._batch(made)
            except LMError as error:
                wait_s = self._retry.wait_s(tries, error)
                if wait_s is None:
                    raise
                self._clock.pause(wait_s, error)
            if (found := self.begun(job, since).get((part, attempt))) is not None:
                return found
        raise AssertionError("the last attempt raises")

    def state(self, batch: str) -> Batch:
        """How it stands."""
        return self._batch(self._call(lambda c: c.batches.retrieve(batch)))

    def cancel(self, batch: str) -> Batch:
        """Have it end; what is answered by then is kept."""
        return self._batch(self._call(lambda c: c.batches.cancel(batch)))

    def content(self, file: str) -> bytes:
        """A file."""
        raw = bytes(self._call(lambda c: c.files.content(file), TRANSFER_S).content)
        return self._endpoint.redacted(raw)

    def begun(self, job: str, since: float) -> dict[tuple[int, int], Batch]:
        """The batches of a job, by part and attempt. The job was made at the time `since`: all
        newer ones are looked at, however many there are."""

        async def search(client: Any) -> list[Any]:
            found: list[Any] = []
            seen = 0
            async for batch in client.batches.list(limit=100):
                seen += 1
                is_older = (batch.created_at or 0) < since - _CLOCKS_DIFFER_S
                if is_older and seen > _LOOKED_BACK:
                    break  # the latest come first
                if (batch.metadata or {}).get(_OURS) == job:
                    found.append(batch)
            return found

        ours = self._call(search)
        return {(int(b.metadata["part"]), int(b.metadata["attempt"])): self._batch(b) for b in ours}

    def _call(self, action: Callable[[Any], Awaitable[T]], most_s: float = CALL_S) -> T:
        """Do what may be done twice, and again if it fails."""
        attempt = 1
        while True:
            try:
                return self._once(action, most_s)
            except LMError as error:
                wait_s = self._retry.wait_s(attempt, error)
                if wait_s is None:
                    raise
                self._clock.pause(wait_s, error)
            attempt += 1

    def _once(self, action: Callable[[Any], Awaitable[T]], most_s: float = CALL_S) -> T:
        return self._clock.make(self._endpoint.call(action), most_s)

    def _batch(self, answer: Any) -> Batch:
        counts = answer.request_counts
        reasons = (answer.errors.data if answer.errors else None) or []
        told = "; ".join(
            f"line {r.line}: {r.message}" if r.line else str(r.message) for r in reasons[:3]
        )
        return Batch(
            answer.id,
            answer.status,
            answer.output_file_id,
            answer.error_file_id,
            counts.completed if counts else 0,
            counts.failed if counts else 0,
            self._endpoint.redacted(told.encode()).decode() or None,
            reasons[0].code if reasons else None,
        )
