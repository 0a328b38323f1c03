"""Samples of a row until their vote is decided.

A row starts with the smallest number of samples that can decide its vote, all at once. While the
vote is open, the row gets the smallest number of further samples that can decide it. So no sample
is asked that cannot matter: once the lead of the first label exceeds the samples left, no further
sample changes the vote.
"""

from __future__ import annotations

import threading
from collections import Counter, deque
from collections.abc import Hashable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ..core.events import Event, Row, RowFinished, RunFinished
from ..core.labels import plain_label
from ..core.options import UntilDecided
from ..signatures.fields import Field
from .row_batch import RowBatch


def is_decided(counts: Counter[Any], left: int) -> bool:
    """Whether `left` further votes cannot change which label leads."""
    first, second = _two(counts)
    return left == 0 or first - second > left


def needed(counts: Counter[Any], left: int) -> int:
    """The fewest of `left` further votes after which the vote may be decided."""
    first, second = _two(counts)
    return max(1, min(left, (left - first + second) // 2 + 1))


def _two(counts: Counter[Any]) -> tuple[int, int]:
    """The numbers of votes for the two leading labels."""
    best = [n for _, n in counts.most_common(2)]
    return best[0] if best else 0, best[1] if len(best) > 1 else 0


class _Open:
    """A row whose vote is not decided yet."""

    __slots__ = ("asked", "counts", "row", "settled")

    def __init__(self, row: Row, asked: int) -> None:
        self.row, self.asked, self.settled = row, asked, 0
        self.counts: Counter[Any] = Counter()


class SamplesUntilDecided:
    """The samples of a batch's rows, as many as each vote needs. This iterator may wait for
    results; it receives the run's events from another thread.

    Args:
        rows: one row per position.
        most: samples per row at most.
        output: the output that is voted on.
        positions: the number of positions, None for a stream.
    """

    def __init__(
        self, rows: Iterator[Row], most: int, output: str, positions: int | None = None
    ) -> None:
        self._rows, self._most, self._output = rows, most, output
        self.least = None if positions is None else positions * needed(Counter(), most)
        self._exhausted = False
        self._open: dict[int, _Open] = {}  # by position
        self._next: deque[Row] = deque()
        self._closed = False
        self._changed = threading.Condition()

    def __iter__(self) -> Iterator[Row]:
        return self

    def __next__(self) -> Row:
        while True:
            with self._changed:
                while not self._next and self._exhausted:
                    if self._closed or not self._open:
                        raise StopIteration
                    self._changed.wait()
                if self._next:
                    return self._next.popleft()
            row = next(self._rows, None)  # outside the lock, because a stream may wait
            with self._changed:
                if row is None:
                    self._exhausted = True
                else:
                    self._ask(_Open(row, 0), needed(Counter(), self._most))

    def _ask(self, row: _Open, more: int) -> None:
        self._open[row.row.position] = row
        for sample in range(row.asked, row.asked + more):
            number = row.row.position * self._most + sample
            self._next.append(row.row._replace(number=number, sample=sample))
        row.asked += more

    def hear(self, event: Event) -> None:
        """Count a settled sample; when the run has ended, stop waiting."""
        if isinstance(event, RowFinished):
            with self._changed:
                self._count(event)
                self._changed.notify_all()
        elif isinstance(event, RunFinished):
            self.close()

    def close(self) -> None:
        """Stop waiting for results: no further samples are added."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()

    def _count(self, event: RowFinished) -> None:
        row = self._open.get(event.row.position)
        if row is None:
            return
        row.settled += 1
        if event.answer is not None:
            value = event.answer.outputs.get(self._output)
            value = plain_label(value)
            if isinstance(value, Hashable) and value is not None and value == value:
                row.counts[value] += 1
        if row.settled < row.asked:
            return
        if event.status == "skipped":  # further samples would be skipped, too
            del self._open[event.row.position]
            return
        left = self._most - row.asked
        if is_decided(row.counts, left):
            del self._open[event.row.position]
        elif not self._closed:
            self._ask(row, needed(row.counts, left))


def until_decided(batch: RowBatch, rule: UntilDecided, outputs: Mapping[str, Field]) -> RowBatch:
    """A batch whose rows have as many samples as their votes need."""
    output = output_voted_on(rule, outputs)
    if batch.total == 0:
        return replace(batch, repeat=rule.most)
    deciding = SamplesUntilDecided(batch.rows, rule.most, output, batch.positions)
    return replace(
        batch, rows=deciding, total=None, blocking=True, repeat=rule.most, listener=deciding
    )


def output_voted_on(rule: UntilDecided, outputs: Mapping[str, Field]) -> str:
    """The output whose labels are voted on.

    Raises:
        ValueError: the rule names no output and there is not exactly one class output, or it
            names an output that does not exist.
    """
    classes = [name for name, field in outputs.items() if field.labels is not None]
    if rule.of is None and len(classes) != 1:
        raise ValueError(
            f"which output decides? The module has the class outputs {classes}: "
            "pass repeat=pn.UntilDecided(of='…')"
        )
    if rule.of is not None and outputs and rule.of not in outputs:
        raise ValueError(f"repeat: there is no output {rule.of!r}; there are {list(outputs)}")
    return rule.of or classes[0]
