"""The settled rows of a run, stored by column. A row takes a tenth of the memory of its events,
and the frame's columns are quick to build."""

from __future__ import annotations

import contextlib
from array import array
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from ..core.events import STATUSES, Answer, Origin, RowFinished, Status
from ..core.usage import Usage

ABSENT: Any = object()  # in an output's column: the row's answer has no such output
_CODES = {status: code for code, status in enumerate(STATUSES)}
_WITH_FRAMES = 100  # so many errors keep their tracebacks
_TEXT_ENDS = 2_000  # characters of an answer that did not fit, at either end
_NAN = float("nan")


class Result(NamedTuple):
    """One settled row. `outputs` is None unless the status is "ok"; `latency_ms` is nan if there
    was no attempt."""

    number: int
    inputs: dict[str, Any]
    status: Status
    outputs: dict[str, Any] | None
    usage: Usage | None
    error: BaseException | None
    origin: Origin | None
    latency_ms: float


class Results:
    """Columns of settled rows, in order of completion. All columns have the same length.

    Attributes:
        numbers, positions, samples, attempts: as in `Row` and `RowFinished`.
        codes: the statuses, as positions in `STATUSES`.
        latency_ms, queued_ms, waited_ms, started_at: as in `RowFinished`, nan for None.
        outputs: by name; `ABSENT` if a row has no output of that name.
        usages, models, reasons: None if nothing was reported.
        errors, origins, repairs: by place in the columns; only rows that have one.
        inputs: each row's inputs; None if the batch has them in `columns`.

    Args:
        columns: the batch's inputs by name and position; None for a stream, whose inputs are
            kept in `inputs`.
    """

    def __init__(self, columns: Mapping[str, Sequence[Any]] | None = None) -> None:
        self.numbers, self.positions, self.samples = array("q"), array("q"), array("q")
        self.attempts, self.codes = array("q"), bytearray()
        self.latency_ms, self.queued_ms = array("d"), array("d")
        self.waited_ms, self.started_at = array("d"), array("d")
        self.outputs: dict[str, list[Any]] = {}
        self.usages: list[Usage | None] = []
        self.models: list[str | None] = []
        self.reasons: list[str | None] = []
        self.errors: dict[int, BaseException] = {}
        self.origins: dict[int, Origin] = {}
        self.repairs: dict[int, str] = {}
        self.inputs: list[Mapping[str, Any]] | None = [] if columns is None else None
        self._columns = columns

    def __len__(self) -> int:
        return len(self.codes)

    def add(self, event: RowFinished) -> None:
        """Add one settled row, whole or not at all."""
        place = len(self.codes)
        try:
            self._add(event, place)
        except Exception:
            self._cut(place)
            raise

    def _add(self, event: RowFinished, place: int) -> None:
        row, status, answer, error, attempts, latency, queued, waited, started, usage = event
        number, position, sample, inputs = row[:4]
        self.numbers.append(number)
        self.positions.append(position)
        self.samples.append(sample)
        self.attempts.append(attempts)
        self.latency_ms.append(_NAN if latency is None else latency)
        self.queued_ms.append(_NAN if queued is None else queued)
        self.waited_ms.append(_NAN if waited is None else waited)
        self.started_at.append(_NAN if started is None else started)
        self.usages.append(usage)
        self._add_answer(place, answer)
        if error is not None:
            self.errors[place] = _light(error, keep_frames=len(self.errors) < _WITH_FRAMES)
        if self.inputs is not None:
            self.inputs.append(inputs)
        self.codes.append(_CODES[status])  # last, so that other threads see only complete rows

    def _cut(self, place: int) -> None:
        """Take back what was added of a row."""
        inputs = [] if self.inputs is None else [self.inputs]
        times = (self.latency_ms, self.queued_ms, self.waited_ms, self.started_at)
        numbers = (self.numbers, self.positions, self.samples, self.attempts)
        lists = (self.usages, self.models, self.reasons, *inputs, *self.outputs.values())
        columns: tuple[Any, ...] = (*numbers, *times, *lists)
        for column in columns:
            del column[place:]
        for by_place in (self.errors, self.origins, self.repairs):
            by_place.pop(place, None)

    def _add_answer(self, place: int, answer: Answer | None) -> None:
        if answer is None:
            self.models.append(None)
            self.reasons.append(None)
            outputs: Mapping[str, Any] = {}
        else:
            self.models.append(answer.model)
            self.reasons.append(answer.finish_reason)
            if answer.origin is not None:
                self.origins[place] = answer.origin
            if answer.repaired is not None:
                self.repairs[place] = answer.repaired
            outputs = answer.outputs
        for name, value in outputs.items():
            column = self.outputs.get(name)
            if column is None:
                column = self.outputs[name] = [ABSENT] * place
            column.append(value)
        if len(outputs) < len(self.outputs):
            for column in self.outputs.values():
                if len(column) == place:
                    column.append(ABSENT)

    def order(self) -> list[int]:
        """The places, sorted by row number."""
        return sorted(range(len(self)), key=self.numbers.__getitem__)

    def is_ok(self, place: int) -> bool:
        """Whether the row at a place has an answer."""
        return self.codes[place] == 0

    def at(self, place: int) -> Result:
        """The row at a place."""
        status = STATUSES[self.codes[place]]
        outputs = None
        if status == "ok":
            values = {name: column[place] for name, column in self.outputs.items()}
            outputs = {name: value for name, value in values.items() if value is not ABSENT}
        return Result(
            self.numbers[place],
            self._inputs_at(place),
            status,
            outputs,
            self.usages[place],
            self.errors.get(place),
            self.origins.get(place),
            self.latency_ms[place],
        )

    def inputs_of(self, name: str, places: Sequence[int]) -> list[Any]:
        """One input of the rows at these places; None if a row has no input of that name."""
        if self.inputs is not None:
            return [self.inputs[place].get(name) for place in places]
        assert self._columns is not None
        column = self._columns[name]
        return [column[self.positions[place]] for place in places]

    def _inputs_at(self, place: int) -> dict[str, Any]:
        if self.inputs is not None:
            return dict(self.inputs[place])
        assert self._columns is not None
        return {name: column[self.positions[place]] for name, column in self._columns.items()}

    def __iter__(self) -> Iterator[Result]:
        return map(self.at, self.order())


def _light(error: BaseException, *, keep_frames: bool) -> BaseException:
    """The error without what would keep much in memory for as long as the run is known: the middle
    of a long answer, the errors before it, and its frames with all that they refer to."""
    text = getattr(error, "text", None)
    if isinstance(text, str) and len(text) > 2 * _TEXT_ENDS:
        with contextlib.suppress(Exception):
            error.text = f"{text[:_TEXT_ENDS]} … {text[-_TEXT_ENDS:]}"  # type: ignore[attr-defined]
    if not keep_frames:
        error.__traceback__ = error.__context__ = error.__cause__ = None
    if getattr(error, "rejected", None) is not None:
        with contextlib.suppress(Exception):
            error.rejected = None  # type: ignore[attr-defined]
    return error
