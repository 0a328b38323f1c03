"""A job at a provider's batch API: how it stands, what came of it, and getting it through."""

from __future__ import annotations

import contextlib
import math
import pickle
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

from ...core.errors import BatchTimeoutError
from ...display import notebook
from ...display.job_panel import JobFigures, JobView
from ...llm.lm import LM
from ...modules.predict import Predict
from ..retry import retry_failed
from .call_clock import CallClock, GivenUpError
from .client import BatchClient
from .job_folder import BusyError, JobFolder
from .lifecycle import Lifecycle
from .results import JobRequest, JobResults

_FRESH_S = 2.0  # a status that was asked for a moment ago is not asked for again
_POLL_S, _MOST_POLL_S, _SLOWER = 5.0, 60.0, 1.3
_SHARED_S = 5.0  # how long a look waits for one of another thread or kernel
_MOMENT_S = 0.02
_MOST_WAIT_S = 10.0  # how long an action waits for another process
_RETRIED = "retried.pickle"  # the frame, with what was asked online
_KEPT = ("store", "cache_key", "columns", "dedupe", "confidence")  # options for a retry


class BatchJob:
    """Rows at a provider's batch API: what `submit_batch` returns, and `batch_jobs` finds again.

    In a notebook it shows itself, and is kept up to date until the provider is done.

    Attributes:
        id: its name.
        created_at: when it was submitted (UTC).
    """

    def __init__(self, folder: JobFolder) -> None:
        self._folder, self._state = folder, folder.load()
        self.id: str = self._state.id
        self.created_at = datetime.fromtimestamp(self._state.created_at, UTC)
        self._request: JobRequest | None = None
        self._lm: LM | None = None
        self._looked_at = float("-inf")
        self._frame: Any = None
        self._view: JobView | None = None
        self._lock = threading.Lock()  # the view asks in a thread of its own
        self._clock = CallClock()

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
        return self._state.status

    @property
    def done(self) -> bool:
        """Whether the provider had ended all batches when it was last asked."""
        return self._state.is_done

    @property
    def counts(self) -> dict[str, int]:
        """Requests: `total`, `completed`, `failed`, as the provider last reported."""
        return self._state.counts

    @property
    def df(self) -> Any:
        """The frame in `run_parallel`'s columns, with every row; a row that the provider has not
        reported is `not_run`. Costs are those of the batch API, which reports no latencies.

        Raises:
            StoreError: what was asked cannot be loaded in this process; see `use`.
        """
        if self._frame is None and (retried := self._folder.get(_RETRIED)) is not None:
            self._frame = pickle.loads(retried)
        if self._frame is None:
            self._frame = self._results().frame(self._state)
        return self._frame

    # -- actions --------------------------------------------------------------------------------

    def use(self, predict: Predict) -> BatchJob:
        """Go on with this module, where the kept one has no key here (keys are not written down)
        or cannot be loaded. It has to ask what the kept one does.

        Raises:
            TypeError: no `Predict` with an `LM`.
        """
        lm = getattr(predict, "lm", None)
        if not isinstance(predict, Predict) or not isinstance(lm, LM):
            raise TypeError(f"a job goes on with a Predict that has an LM, not with {predict!r}")
        self._request, self._lm = self._load_request()._replace(predict=predict), lm
        self._frame = None
        return self

    def refresh(self) -> BatchJob:
        """Ask the provider how things stand, and fetch the answers of batches that have ended.

        Raises:
            LMError: it cannot be reached, or the key is missing.
        """
        return self._refresh(None)

    def _refresh(self, until: float | None) -> BatchJob:
        # nobody waits for long here: who has the job now is asking the provider as well
        wait_s = _SHARED_S if until is None else min(_SHARED_S, until - time.monotonic())
        with (
            contextlib.suppress(BusyError, GivenUpError),
            self._alone(max(0.0, wait_s), until),
        ):
            if not self.done:
                self._frame = None
                self._lifecycle().advance()
                self._looked_at = time.monotonic()
        self._show()
        return self

    @contextlib.contextmanager
    def _alone(
        self, wait_s: float, until: float | None = None, *, gives_up: bool = False
    ) -> Iterator[None]:
        """A scope in which no other thread or kernel changes this job, and whose calls end by
        `until`; with `gives_up` other threads give up what they ask the provider. The state is
        written down at its end, also after an error.

        Raises:
            BusyError: another thread or process had the job for longer than `wait_s`.
        """
        latest = time.monotonic() + wait_s
        while not self._lock.acquire(timeout=_MOMENT_S if gives_up else wait_s):
            if time.monotonic() >= latest:
                raise BusyError(f"another thread is at the job {self.id}: try again in a moment")
            self._clock.give_up()  # again and again: a thread that waits asks anew
        try:
            with self._folder.lock(wait_s), self._clock.action(until):
                before, self._state = self._state, self._folder.load()
                if self._state != before:  # another kernel has changed it
                    self._frame = None
                try:
                    yield
                finally:
                    self._folder.save(self._state)
        finally:
            self._lock.release()

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
            while not self._look(until):
                left_s = math.inf if until is None else until - time.monotonic()
                if left_s <= 0:
                    break
                time.sleep(min(pause_s, left_s))
                pause_s = min(_MOST_POLL_S, pause_s * _SLOWER) if poll_s is None else pause_s
        return self.df

    def _look(self, until: float | None) -> bool:
        """Whether the job is over, as far as is known by `until`."""
        try:
            self._refresh(until)
        except BatchTimeoutError:
            if until is None:
                raise
        return self.done

    def cancel(self) -> None:
        """Have the provider stop, which may take it minutes; what it has answered is kept, and
        paid for.

        Raises:
            LMError: it cannot be reached.
            StoreError: another process is at this job.
        """
        with (
            contextlib.suppress(GivenUpError),  # another thread cancels it as well
            self._alone(_MOST_WAIT_S, gives_up=True),
        ):
            self._lifecycle().cancel()
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
                f"the job is {self._state.status}, and its open rows would be asked twice: "
                "job.wait() first, or job.cancel() and job.wait()"
            )
        asked = self._load_request()
        predict = asked.predict.varied()
        predict.lm = self._model
        kept = {name: asked.options[name] for name in _KEPT if name in asked.options}
        self._frame = retry_failed(self.df, predict, **{**kept, **options})
        self._folder.put(_RETRIED, pickle.dumps(self._frame))
        return self._frame

    def forget(self) -> None:
        """Remove what is kept of the job on this machine. Its answers stay in the store; what the
        provider is at goes on."""
        self._folder.remove()

    # -- at the provider ------------------------------------------------------------------------

    def submit(self) -> None:
        """Begin what is not begun yet.

        Raises:
            LMError: the provider refused, or cannot be reached.
        """
        with self._alone(_MOST_WAIT_S):
            self._lifecycle().begin_all()

    def _lifecycle(self) -> Lifecycle:
        client = BatchClient(self._model, self._clock)
        return Lifecycle(self._state, self._folder, client, self._results)

    @property
    def _model(self) -> LM:
        if self._lm is None:
            lm = self._load_request().predict.lm
            assert isinstance(lm, LM)
            self._lm = lm
        return self._lm

    def _load_request(self) -> JobRequest:
        if self._request is None:
            self._request = self._folder.request()
        assert self._request is not None
        return self._request

    def _results(self) -> JobResults:
        return JobResults(self._load_request(), self._model, self._folder, self._state.price_factor)

    # -- showing --------------------------------------------------------------------------------

    def _figures(self) -> JobFigures:
        state, counts = self._state, self._state.counts
        return JobFigures(
            self.id,
            state.status,
            state.n_rows,
            counts["total"],
            counts["completed"],
            counts["failed"],
            len(state.parts),
            state.created_at,
            state.ended_at,
            state.model,
            state.reason,
            state.name,
        )

    def _watch(self) -> None:
        if self._view is None:
            self._view = JobView(self.cancel)
        self._view.show(self._figures())

    def _show(self) -> None:
        if self._view is not None:
            self._view.update(self._figures())

    def _ipython_display_(self) -> None:
        if not notebook.has_widgets():
            print(repr(self))
            return
        self._watch()
        self._follow()

    def _display_(self) -> Any:
        """What marimo shows."""
        if self._view is None:
            self._view = JobView(self.cancel)
        shown = self._view.in_marimo(self._figures())
        self._follow()
        return shown

    def _follow(self) -> None:
        if self._view is not None and not self.done:
            self._view.follow(lambda: self.refresh().done, _POLL_S)

    def __repr__(self) -> str:
        counts = self.counts
        failed = f", {counts['failed']:,} failed" if counts["failed"] else ""
        answered = f"{counts['completed']:,} of {counts['total']:,} requests answered"
        return (
            f"<BatchJob {self.id} of {self.created_at:%Y-%m-%d %H:%M} UTC, {self._state.model}: "
            f"{self._state.status}, {answered}{failed}>"
        )
