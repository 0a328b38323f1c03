"""A job's steps at the provider: begin its batches, look at them, fetch answers, make room."""

from __future__ import annotations

import time
from collections.abc import Callable

from ...core.errors import BadRequestError, StoreError
from ...llm.background_loop import run_sync
from .client import Batch, BatchClient
from .job_folder import JobFolder
from .job_state import JobState, PartState
from .results import JobResults


class Lifecycle:
    """Takes the steps of one job and writes down how it stands after each. Used by one thread at
    a time, while the job's folder is locked.

    Args:
        state: changed in place.
        results: makes what puts answers into the store.
    """

    def __init__(
        self,
        state: JobState,
        folder: JobFolder,
        client: BatchClient,
        results: Callable[[], JobResults],
    ) -> None:
        self._state, self._folder, self._client = state, folder, client
        self._results = results

    def advance(self) -> None:
        """Begin what is not begun, and fetch the answers of batches that have ended."""
        self.begin_all()
        for number, part in enumerate(self._state.parts):
            if part.batch is None:
                continue  # cancelled before it was begun
            if part.is_open:
                part.batch = self._client.state(part.batch.id)
            if part.batch.has_ended and not part.fetched:
                self._fetch(number, part, part.batch)
        self._make_room()
        self.begin_all()
        if self._state.is_done and self._state.ended_at is None:
            self._state.ended_at = time.time()

    def begin_all(self) -> None:
        """Begin what is not begun. A kernel may have died between the provider's yes and the note
        of it, so batches are looked for before they would be begun a second time."""
        not_begun = [n for n, part in enumerate(self._state.parts) if part.batch is None]
        if not not_begun or self._state.is_cancelled:
            return
        known = (
            self._client.begun(self._state.id, self._state.created_at)
            if self._state.was_begun
            else {}
        )
        for number in not_begun:
            part = self._state.parts[number]
            part.batch = known.get((number, part.attempt)) or self._begin(number, part)
            self._folder.save(self._state)

    def _begin(self, number: int, part: PartState) -> Batch:
        state = self._state
        if part.file is None:
            lines = self._folder.get(f"requests-{number}.jsonl")
            if lines is None:
                raise StoreError(
                    f"the requests of job {state.id} are gone from {self._folder.path}"
                )
            part.file = self._client.upload(f"pardspy-{state.id}-{number}.jsonl", lines)
        state.was_begun = True
        self._folder.save(state)
        return self._client.create(
            part.file, state.id, number, part.attempt, state.window, state.created_at
        )

    def _fetch(self, number: int, part: PartState, batch: Batch) -> None:
        for kind, file in (("output", batch.output), ("errors", batch.errors)):
            name = f"{kind}-{number}.jsonl"
            if file is not None and self._folder.get(name) is None:
                self._folder.put(name, self._client.content(file))
        run_sync(self._results().remember(number, part))
        part.fetched = True

    def _make_room(self) -> None:
        """Begin a batch again for which there was no room, now that others have ended."""
        parts = self._state.parts
        refused = [part for part in parts if part.had_no_room]
        is_busy = any(part.is_open for part in parts)
        has_others = len(parts) > len(refused)
        if refused and not is_busy and has_others and not self._state.is_cancelled:
            refused[0].begin_again()

    def cancel(self) -> None:
        """Have the provider stop, and begin nothing any more. A batch may have been begun that is
        not noted here: it is looked for first, because it would go on, and be paid for."""
        if self._state.was_begun and any(part.batch is None for part in self._state.parts):
            known = self._client.begun(self._state.id, self._state.created_at)
            for number, part in enumerate(self._state.parts):
                part.batch = part.batch or known.get((number, part.attempt))
        self._state.is_cancelled = True
        self._folder.save(self._state)
        for part in self._state.parts:
            if part.batch is not None and part.is_open:
                part.batch = self._cancelled(part.batch.id)

    def _cancelled(self, batch: str) -> Batch:
        """A batch that was asked to end, or has ended by itself in the meantime."""
        try:
            return self._client.cancel(batch)
        except BadRequestError:
            return self._client.state(batch)
