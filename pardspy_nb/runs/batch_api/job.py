"""A job at a provider's batch API: how it stands, what came of it, and getting it through."""

from __future__ import annotations

import contextlib
import pickle
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from ...core.errors import BadRequestError, StoreError
from ...display import notebook
from ...display.job_panel import JobState, JobView
from ...llm.background_loop import run_sync
from ...llm.lm import LM
from ...modules.predict import Predict
from ..retry import retry_failed
from .client import ENDED, Batch, BatchClient
from .job_folder import Shelf
from .results import Asked, JobResults

_FRESH_S = 2.0  # a status that was asked for a moment ago is not asked for again
_POLL_S, _MOST_POLL_S, _SLOWER = 5.0, 60.0, 1.3
_TOO_MANY = "token_limit_exceeded"  # so much of this model is enqueued: later there is room
_RETRIED = "retried.pickle"  # the frame, with what was asked online
_UNDER_WAY = ("validating", "in_progress", "finalizing", "cancelling")
_KEPT = ("store", "cache_key", "columns", "dedupe", "confidence")  # options for a retry


class BatchJob:
    """Rows at a provider's batch API: what `submit_batch` returns, and `batch_jobs` finds again.

    In a notebook it shows itself, and goes on to until the provider is done.

    Attributes:
        id: its name.
        created_at: when it was submitted (UTC).
    """

    def __init__(self, shelf: Shelf) -> None:
        self._shelf, self._state = shelf, shelf.load()
        self.id: str = self._state["id"]
        self.created_at = datetime.fromtimestamp(self._state["created_at"], UTC)
        self._asked: Asked | None = None
        self._lm: LM | None = None
        self._looked_at = float("-inf")
        self._frame: Any = None
        self._view: JobView | None = None
        self._lock = threading.RLock()  # the view asks in a thread of its own

    # -- reading --------------------------------------------------------------------------------

    @property
    def status(self) -> str:
        """`submitting`, `validating`, `in_progress`, `finalizing`, `cancelling`; at the end
        `completed`, `failed` (refused as a whole), `expired` or `cancelled`. Of several batches the
        least advanced, and once all have ended the least complete. Asks the provider.

        Raises:
            LMError: it cannot be reached, or the key is missing.
        """
        if not self.done and time.monotonic() - self._looked_at > _FRESH_S:
            self.refresh()
        return self._status

    @property
    def _status(self) -> str:
        never = "cancelled" if self._state["is_cancelled"] else "submitting"
        states = {part["batch"]["status"] if part["batch"] else never for part in self._parts}
        order = ("submitting", *_UNDER_WAY, "failed", "expired", "cancelled")
        return next((status for status in order if status in states), "completed")

    @property
    def _parts(self) -> list[dict[str, Any]]:
        parts: list[dict[str, Any]] = self._state["parts"]
        return parts

    @property
    def done(self) -> bool:
        """Whether the provider had ended all batches when it was last asked."""
        return self._status in ENDED and all(p["fetched"] or not p["batch"] for p in self._parts)

    @property
    def counts(self) -> dict[str, int]:
        """Requests: `total`, `completed`, `failed`, as the provider last told."""
        batches = [part["batch"] or {} for part in self._parts]
        return {
            "total": sum(len(part["rows"]) for part in self._parts),
            "completed": sum(batch.get("completed", 0) for batch in batches),
            "failed": sum(batch.get("failed", 0) for batch in batches),
        }

    @property
    def df(self) -> Any:
        """The frame in `run_parallel`'s columns, with every row; one that the provider has not
        told of is `not_run`. Costs are those of the batch API; it tells no latencies.

        Raises:
            StoreError: what was asked cannot be loaded in this process; see `use`.
        """
        if self._frame is None and (retried := self._shelf.get(_RETRIED)) is not None:
            self._frame = pickle.loads(retried)
        if self._frame is None:
            self._frame = self._reading().frame(self._state)
        return self._frame

    # -- steering -------------------------------------------------------------------------------

    def use(self, predict: Predict) -> BatchJob:
        """Go on with this module, where the kept one has no key here (keys are not written down)
        or cannot be loaded. It has to ask what the kept one does.

        Raises:
            TypeError: no `Predict` with an `LM`.
        """
        lm = getattr(predict, "lm", None)
        if not isinstance(predict, Predict) or not isinstance(lm, LM):
            raise TypeError(f"a job goes on with a Predict that has an LM, not with {predict!r}")
        self._asked, self._lm = self._what()._replace(predict=predict), lm
        self._frame = None
        return self

    def refresh(self) -> BatchJob:
        """Ask the provider how things stand, and fetch the answers of batches that have ended.

        Raises:
            LMError: it cannot be reached, or the key is missing.
        """
        with self._alone():
            if not self.done:
                self._frame = None
                self._refresh(BatchClient(self._model))
        self._show()
        return self

    def _refresh(self, provider: BatchClient) -> None:
        self._begin_all(provider)
        for number, part in enumerate(self._parts):
            if part["batch"] is None:
                continue  # cancelled before it was begun
            batch = Batch(**part["batch"])
            if not batch.has_ended:
                batch = provider.state(batch.id)
                part["batch"] = batch._asdict()
            if batch.has_ended and not part["fetched"]:
                self._fetch(provider, number, batch)
        self._make_room()
        self._begin_all(provider)
        if self.done and self._state["ended_at"] is None:
            self._state["ended_at"] = time.time()
        self._looked_at = time.monotonic()

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """While nobody else, here or in another kernel, is at this job; the state is kept, as far
        as things have come."""
        with self._lock, self._shelf.lock():
            before, self._state = self._state, self._shelf.load()
            if self._state != before:  # another kernel was at it
                self._frame = None
            try:
                yield
            finally:
                self._shelf.save(self._state)

    def wait(self, timeout_s: float | None = None, poll_s: float | None = None) -> Any:
        """Wait for the provider and return the frame. In a notebook it shows how things stand.

        Args:
            timeout_s: at most so long; None for as long as it takes (a day, at most).
            poll_s: between questions; None for 5 s, growing to a minute.

        An interrupt, or the time's end, returns the frame as it stands; the job goes on.

        Raises:
            LMError: the provider cannot be reached, or the key is missing.
        """
        until = None if timeout_s is None else time.monotonic() + timeout_s
        pause_s = _POLL_S if poll_s is None else poll_s
        self._watch()
        with contextlib.suppress(KeyboardInterrupt):
            while not self.refresh().done and (until is None or time.monotonic() < until):
                time.sleep(pause_s)
                pause_s = min(_MOST_POLL_S, pause_s * _SLOWER) if poll_s is None else pause_s
        return self.df

    def cancel(self) -> None:
        """Have the provider stop, which may take it minutes; what it has answered is kept, and
        paid for. LMError if it cannot be reached."""
        provider = BatchClient(self._model)
        with self._alone():
            self._state["is_cancelled"] = True  # nothing is begun any more
            self._shelf.save(self._state)
            for part in self._parts:
                if part["batch"] is not None and part["batch"]["status"] not in ENDED:
                    part["batch"] = _cancelled(provider, part["batch"]["id"])._asdict()
        self._show()

    def retry_failed(self, **options: Any) -> Any:
        """Ask the rows without an answer at once, at the usual price.

        Args:
            options: see `Options`.

        Returns:
            The frame, its rows in their places; it is `df` from now on.

        Raises:
            ValueError: the provider is not done: open rows would be paid for twice.
            ParallelError: as `run_parallel`.
        """
        if not self.done:
            raise ValueError(
                f"the job is {self._status}, and its open rows would be asked twice: "
                "job.wait() first, or job.cancel() and job.wait()"
            )
        asked = self._what()
        predict = asked.predict.varied()
        predict.lm = self._model
        kept = {name: asked.options[name] for name in _KEPT if name in asked.options}
        self._frame = retry_failed(self.df, predict, **{**kept, **options})
        self._shelf.put(_RETRIED, pickle.dumps(self._frame))
        return self._frame

    def forget(self) -> None:
        """Remove what is kept of the job on this machine. Its answers stay in the store; what the
        provider is at goes on."""
        self._shelf.remove()

    # -- at the provider ------------------------------------------------------------------------

    def submit(self) -> None:
        """Begin what is not begun yet.

        Raises:
            LMError: the provider refused, or cannot be reached.
        """
        with self._alone():
            self._begin_all(BatchClient(self._model))

    def _begin_all(self, provider: BatchClient) -> None:
        """A kernel may have died between the provider's yes and the note of it, so batches are
        looked for before they would be begun a second time."""
        open_ = [n for n, part in enumerate(self._parts) if part["batch"] is None]
        if not open_ or self._state["is_cancelled"]:
            return
        begun = provider.begun(self.id) if self._state["was_begun"] else {}
        for number in open_:
            part = self._parts[number]
            found = begun.get((number, part["attempt"]))
            part["batch"] = (found or self._begin(provider, number, part))._asdict()
            self._shelf.save(self._state)

    def _begin(self, provider: BatchClient, number: int, part: dict[str, Any]) -> Batch:
        if part["file"] is None:
            lines = self._shelf.get(f"requests-{number}.jsonl")
            if lines is None:
                raise StoreError(f"the requests of job {self.id} are gone from {self._shelf.path}")
            part["file"] = provider.upload(f"pardspy-{self.id}-{number}.jsonl", lines)
        self._state["was_begun"] = True
        self._shelf.save(self._state)
        window = self._state["window"]
        return provider.create(part["file"], self.id, number, part["attempt"], window)

    def _fetch(self, provider: BatchClient, number: int, batch: Batch) -> None:
        part = self._parts[number]
        for kind, file in (("output", batch.output), ("errors", batch.errors)):
            name = f"{kind}-{number}.jsonl"
            if file is not None and self._shelf.get(name) is None:
                self._shelf.put(name, provider.content(file))
        run_sync(self._reading().remember(number, part))
        part["fetched"] = True

    def _make_room(self) -> None:
        """Have a batch begun again for which there was no room, now that others have ended."""
        refused = [part for part in self._parts if _had_no_room(part)]
        busy = any(part["batch"] and part["batch"]["status"] not in ENDED for part in self._parts)
        others = len(self._parts) - len(refused)
        if refused and not busy and others and not self._state["is_cancelled"]:
            refused[0]["batch"], refused[0]["fetched"] = None, False
            refused[0]["attempt"] += 1

    @property
    def _model(self) -> LM:
        if self._lm is None:
            lm = self._what().predict.lm
            assert isinstance(lm, LM)
            self._lm = lm
        return self._lm

    def _what(self) -> Asked:
        if self._asked is None:
            self._asked = self._shelf.asked()
        assert self._asked is not None
        return self._asked

    def _reading(self) -> JobResults:
        return JobResults(self._what(), self._model, self._shelf, self._state["price_factor"])

    # -- showing --------------------------------------------------------------------------------

    def _shown(self) -> JobState:
        told = [part["batch"]["reason"] for part in self._parts if part["batch"]]
        counts = self.counts
        return JobState(
            self.id,
            self._status,
            self._state["rows"],
            counts["total"],
            counts["completed"],
            counts["failed"],
            len(self._parts),
            self._state["created_at"],
            self._state["ended_at"],
            self._state["model"],
            next(filter(None, told), None),
        )

    def _watch(self) -> None:
        if self._view is None:
            self._view = JobView(self.cancel)
        self._view.show(self._shown())

    def _show(self) -> None:
        if self._view is not None:
            self._view.update(self._shown())

    def _ipython_display_(self) -> None:
        if not notebook.has_widgets():
            print(repr(self))
            return
        self._watch()
        if self._view is not None and not self.done:
            self._view.follow(lambda: self.refresh().done, _POLL_S)

    def __repr__(self) -> str:
        counts = self.counts
        failed = f", {counts['failed']:,} failed" if counts["failed"] else ""
        return (
            f"<BatchJob {self.id} of {self.created_at:%Y-%m-%d %H:%M} UTC, {self._state['model']}: "
            f"{self._status}, {counts['completed']:,} of {counts['total']:,} requests answered"
            f"{failed}>"
        )


def _had_no_room(part: dict[str, Any]) -> bool:
    batch = part["batch"]
    return bool(batch and batch["status"] == "failed" and batch["code"] == _TOO_MANY)


def _cancelled(provider: BatchClient, batch: str) -> Batch:
    """A batch that was told to end, or has ended by itself in the meantime."""
    try:
        return provider.cancel(batch)
    except BadRequestError:
        return provider.state(batch)
