"""The accumulated state of a run, which every display renders. Each event takes constant work."""

from __future__ import annotations

import time
from array import array
from collections import Counter, deque
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ..core.error_groups import ErrorGroups, message_of
from ..core.errors import KNOWN_HOPELESS
from ..core.events import (
    AttemptFailed,
    AttemptLost,
    Event,
    Preparing,
    RowFinished,
    RowStarted,
    RunFinished,
    RunStarted,
    SettingsChanged,
    StagePassed,
)
from ..core.labels import label_key, plain_label
from ..core.metrics import Latency, ParallelMetrics
from ..core.usage import Usage

_RATE_WINDOW_S = 15.0  # the recent rate is that of the last 15 seconds
_RATE_STEP_S = 0.5
MOST_EXAMPLES = 5  # rows of a label
_MOST_POINTS = 120  # of the history
_OVERDUE_ROWS = 3.0  # no time left is shown once so many rows are overdue
_SHOWN_LATENCIES = 20_000  # of more, an evenly spaced sample is shown during the run


class RunProgress:
    """The state that a run's events add up to.

    Args:
        total: the number of rows to run, None for a stream.
        max_cost_usd: the limit of the run's cost, None without a limit.
        labels: the class outputs and their labels, which are counted.
        index: names of the input rows by position; None for the position itself.
        clock: seconds, monotonic.
        truths: the true labels by class output and position; None for a row without one.
        name: what the run is called.

    Attributes:
        done: settled rows, `ok + failed + cancelled + skipped`.
        cached: `ok` rows whose answer came from the store or from an equal row.
        repaired: answers that were read in spite of a wrong format, or asked for again.
        duplicates: second requests for slow rows (`hedge`), answered or cancelled.
        in_flight: attempts under way.
        backing_off: rows that wait for their next attempt.
        max_workers, paused, dropping, stopping: the run's settings (see `SettingsChanged`).
        counts: rows per label, by class output; `examples` has names of the first rows of each.
        judged: by class output, the number of answers that equal the true label, and the number
            of answers whose true label is known.
        unanswered: by class output, the number of ended rows with a known true label and without
            an answer; skipped rows do not count.
        failures: the failed rows, grouped by error.
        asks_again: whether the run is over, and failed rows of it are asked again.
        history: the rows that were asked, and the workers, over time.
    """

    def __init__(
        self,
        total: int | None = None,
        labels: Mapping[str, Sequence[Any]] | None = None,
        index: Sequence[Any] | None = None,
        clock: Callable[[], float] = time.monotonic,
        max_cost_usd: float | None = None,
        truths: Mapping[str, Sequence[Any]] | None = None,
        name: str | None = None,
    ) -> None:
        self.name = name
        self.total, self.max_cost_usd = total, max_cost_usd
        self.done = self.ok = self.failed = self.cancelled = self.cached = self.not_run = 0
        self.in_flight = self.max_in_flight = self.duplicates = self.repaired = 0
        self.skipped = self.hopeless = 0
        self.max_workers = 0
        self.paused = self.dropping = False
        self.stopping: str | None = None
        self.usage: Usage | None = None
        self.saved: Usage | None = None  # the usage of the cached rows when they were asked
        self.started = self.finished = self.asks_again = False
        self.latencies_ms = array("d")
        self.counts = {name: Counter(dict.fromkeys(of, 0)) for name, of in (labels or {}).items()}
        self.examples: dict[str, dict[Any, list[Any]]] = {name: {} for name in self.counts}
        self.failures = ErrorGroups()
        self._truths = {
            name: [None if label is None else label_key(label) for label in labels]
            for name, labels in (truths or {}).items()
        }
        self.judged = dict.fromkeys(self._truths, (0, 0))
        self.unanswered = dict.fromkeys(self._truths, 0)
        self._index, self._clock = index, clock
        self._began = clock()
        self._elapsed_s: float | None = None
        # the rate counts asked rows, on a clock that stops during a pause
        self._recent: deque[tuple[float, int]] = deque()  # (when, rows asked and done by then)
        self._last_done = 0.0
        # (seconds on that clock, rows asked by then, workers), at growing distances
        self.history: list[tuple[float, int, int]] = []
        self._history_step_s = _RATE_STEP_S
        self._idle_s, self._paused_at = 0.0, None  # type: float, float | None
        self._backing_off: set[int] = set()  # numbers of rows
        self._between: set[int] = set()  # numbers of rows between two stages of a cascade
        self._outage, self._out_until = "", 0.0
        self._preparing: str | None = None

    def add(self, event: Event) -> None:
        """Add one event."""
        if isinstance(event, RowStarted):
            self.in_flight += 1
            if self.in_flight > self.max_in_flight:
                self.max_in_flight = self.in_flight
            if self._backing_off or self._between:
                self._backing_off.discard(event.row.number)
                self._between.discard(event.row.number)
        elif isinstance(event, RowFinished):
            self._finish(event)
        else:
            self._note(event)

    def _note(self, event: Event) -> None:
        if isinstance(event, AttemptFailed):
            self.in_flight -= 1
            self._backing_off.add(event.row.number)
            if getattr(event.error, "outage", False):
                self._outage = _outage_in_words(getattr(event.error, "status_code", None))
                self._out_until = max(self._out_until, self._clock() + event.retry_in_s)
        elif isinstance(event, AttemptLost):
            self.in_flight -= 1
            self.duplicates += 1
        elif isinstance(event, StagePassed):
            self.in_flight -= event.was_asked
            self._between.add(event.row.number)
        elif isinstance(event, SettingsChanged):
            self._steer(event)
        elif isinstance(event, Preparing):
            self._preparing = event.what
        elif isinstance(event, RunStarted):
            self.total = event.total
            self.started, self._preparing = True, None
            self._began = self._clock()
            self._paused_at = None if self._paused_at is None else self._began
            self._recent.append((self._running_s(), 0))
        elif isinstance(event, RunFinished):
            self.finished = True
            self._elapsed_s = event.elapsed_s
            self.max_in_flight = event.max_in_flight

    def _steer(self, event: SettingsChanged) -> None:
        if event.paused and self._paused_at is None:
            self._paused_at = self._clock()
        elif not event.paused and self._paused_at is not None:
            self._idle_s += self._clock() - self._paused_at
            self._paused_at = None
        self.max_workers, self.paused = event.max_workers, event.paused
        self.dropping, self.stopping = event.dropping, event.stopping

    def _finish(self, event: RowFinished) -> None:
        free = event.answer is not None and event.answer.cached and self.usage is not None
        if event.usage is not None and not free:
            self.usage = event.usage if self.usage is None else self.usage + event.usage
        if event.status not in ("ok", "skipped"):
            for name, labels in self._truths.items():
                self.unanswered[name] += labels[event.row.position] is not None
        if event.status == "not_run":
            self.not_run += 1
            return
        self.done += 1
        was_in_flight = event.attempts > 0 and event.row.number not in self._between
        self._between.discard(event.row.number)
        if event.status == "ok":
            self._succeed(event, was_in_flight=was_in_flight)
        elif event.status == "skipped":
            self.skipped += 1
        elif event.status == "failed":
            self.failed += 1
            message = message_of(event.error) if event.error else ""
            self.hopeless += KNOWN_HOPELESS in message
            self.in_flight -= was_in_flight  # else it waited for an equal row
            self.failures.add(
                type(event.error).__name__,
                message,
                self._name(event.row.position),
            )
        else:
            self.cancelled += 1
            if event.row.number in self._backing_off:
                self._backing_off.remove(event.row.number)
            else:
                self.in_flight -= was_in_flight
        self._last_done = self._running_s()
        self._note_history()
        if not self._recent or self._last_done - self._recent[-1][0] >= _RATE_STEP_S:
            self._recent.append((self._last_done, self._asked))

    def _succeed(self, event: RowFinished, *, was_in_flight: bool) -> None:
        assert event.answer is not None
        self.ok += 1
        self.repaired += event.answer.repaired is not None
        if (origin := event.answer.origin) is not None:
            self.cached += 1
            self.saved = origin.usage if self.saved is None else self.saved + origin.usage
        else:
            self.in_flight -= was_in_flight
            if event.latency_ms is not None:  # a provider's batch reports no latency
                self.latencies_ms.append(event.latency_ms)
        for name, counter in self.counts.items():
            label = _countable(plain_label(event.answer.outputs.get(name)))
            counter[label] += 1
            if counter[label] <= MOST_EXAMPLES:
                self.examples[name].setdefault(label, []).append(self._name(event.row.position))
        for name, labels in self._truths.items():
            if (label := labels[event.row.position]) is not None:
                value = event.answer.outputs.get(name)
                right, known = self.judged[name]
                self.judged[name] = right + (label_key(value) == label), known + 1

    def _note_history(self) -> None:
        """Keep a point of the history, if the last one is far enough away."""
        now = self._last_done
        if not self.history or now - self.history[-1][0] >= self._history_step_s:
            self.history.append((now, self._asked, self.max_workers))
        if len(self.history) > _MOST_POINTS:
            del self.history[1::2]
            self._history_step_s *= 2

    def _running_s(self) -> float:
        """Seconds on a clock that stops during a pause."""
        return (self._clock() if self._paused_at is None else self._paused_at) - self._idle_s

    @property
    def _asked(self) -> int:
        """Rows that ended with an answer or an error of their own: not cached, not cancelled."""
        return self.ok + self.failed - self.cached

    def _name(self, position: int) -> Any:
        return position if self._index is None else self._index[position]

    # -- figures ------------------------------------------------------------------------------

    @property
    def backing_off(self) -> int:
        """Rows that wait for their next attempt."""
        return len(self._backing_off)

    @property
    def waits_for(self) -> str | None:
        """What the run waits for, in words: the start of a model, or until when it waits because
        of a limit or an outage of the endpoint. None if it waits for neither."""
        if self._preparing is not None or self.finished:
            return None if self.finished else self._preparing
        left_s = self._out_until - self._clock()
        if not self._backing_off or left_s <= 0:
            n = len(self._between)
            return f"{n:,} rows have a first answer and wait for those of others" if n else None
        until = time.strftime("%H:%M:%S", time.localtime(time.time() + left_s))
        return f"{self._outage}: waits until {until}, {left_s:,.0f} s more"

    @property
    def waiting(self) -> int | None:
        """Rows that are neither settled nor in flight; None for a stream."""
        return None if self.total is None else max(0, self.total - self.done - self.in_flight)

    @property
    def elapsed_s(self) -> float:
        """Seconds since the run began; once it is over, its duration."""
        return self._clock() - self._began if self._elapsed_s is None else self._elapsed_s

    @property
    def rows_per_s(self) -> float:
        """Rows per second that were asked and answered (or failed), over the whole run."""
        return self._asked / self.elapsed_s if self._asked and self.elapsed_s > 0 else 0.0

    @property
    def recent_rows_per_s(self) -> float:
        """As `rows_per_s`, over the last 15 s, without pauses."""
        now = self._running_s()
        while len(self._recent) > 1 and now - self._recent[1][0] >= _RATE_WINDOW_S:
            self._recent.popleft()
        if not self._recent or now <= self._recent[0][0]:
            return 0.0
        when, done = self._recent[0]
        return (self._asked - done) / (now - when)

    @property
    def eta_s(self) -> float | None:
        """Seconds to the end at the recent rate; None if the rate cannot tell, for example because
        the last rows are long overdue."""
        if self.total is None or self.paused or self.stopping or self.finished:
            return None
        rate = self.recent_rows_per_s
        overdue = (self._running_s() - self._last_done) * rate > _OVERDUE_ROWS
        return None if overdue or rate <= 0 else (self.total - self.done) / rate

    @property
    def projected_cost_usd(self) -> float | None:
        """Cost at the end if the open rows cost what the settled ones did on average."""
        paid = self.done - self.cached - self.skipped
        cost = self.usage.cost_usd if self.usage else None
        if cost is None or self.total is None or paid <= 0:
            return None
        return cost + cost / paid * (self.total - self.done)

    def shown_latencies_ms(self) -> Sequence[float]:
        """The successful calls' latencies: an evenly spaced sample of at most 20,000."""
        return self.latencies_ms[:: 1 + len(self.latencies_ms) // _SHOWN_LATENCIES]

    def metrics(self) -> ParallelMetrics:
        """The current figures."""
        begun = self.done + self.in_flight + self.backing_off
        total = self.total if self.total is not None else begun + self.not_run
        return ParallelMetrics(
            total=total,
            successes=self.ok,
            failures=self.failed,
            cached=self.cached,
            not_run=total - begun,
            cancelled=self.cancelled,
            latency=Latency.of(self.latencies_ms),
            elapsed_s=self.elapsed_s,
            rows_per_s=self.rows_per_s,
            usage=self.usage,
            max_in_flight=self.max_in_flight,
            saved=self.saved,
            duplicates=self.duplicates,
            repaired=self.repaired,
            judged=self.judged or None,
            unanswered=self.unanswered or None,
            skipped=self.skipped,
            hopeless=self.hopeless,
        )


def _outage_in_words(status: int | None) -> str:
    if status is None:
        return "the endpoint is out of reach"
    verb = "limits requests" if status == 429 else "is overloaded or down"
    return f"the endpoint {verb} (HTTP {status})"


def _countable(value: Any) -> Any:
    """A value as a key of a counter; what is no label is counted as its kind."""
    try:
        hash(value)
    except Exception:  # a list, an array, an object of the user's
        return f"({type(value).__name__})"
    return value
