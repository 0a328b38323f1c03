"""How a job stands: what is written down of it after each step."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from .client import ENDED, Batch

_UNDER_WAY = ("validating", "in_progress", "finalizing", "cancelling")
_ORDER = ("submitting", *_UNDER_WAY, "failed", "expired", "cancelled")
_NO_ROOM = "token_limit_exceeded"  # so much of this model is enqueued; later there is room


@dataclass
class PartState:
    """One batch of a job, and its file of requests.

    Attributes:
        rows: numbers of the rows that are asked.
        file: the provider's id of the uploaded file, None before.
        batch: the batch at the provider, None before it was begun.
        attempt: how often it was begun again, because there was no room.
        fetched: whether its answers are here.
    """

    rows: list[int]
    file: str | None = None
    batch: Batch | None = None
    attempt: int = 0
    fetched: bool = False

    @property
    def is_open(self) -> bool:
        """Whether the provider is at work on it."""
        return self.batch is not None and not self.batch.has_ended

    @property
    def had_no_room(self) -> bool:
        """Whether the provider refused it for now."""
        batch = self.batch
        return batch is not None and batch.status == "failed" and batch.code == _NO_ROOM

    def begin_again(self) -> None:
        """Have it begun once more."""
        self.batch, self.fetched = None, False
        self.attempt += 1

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> PartState:
        """What `JobState.to_json` wrote of it."""
        batch = value["batch"]
        return cls(**{**value, "batch": None if batch is None else Batch(**batch)})


@dataclass
class JobState:
    """How a job stands.

    Attributes:
        id: the job's name.
        model: the model's name.
        n_rows: rows of the input, samples counted singly.
        window: how long the provider has, in its words.
        price_factor: what a row costs, of the usual price.
        created_at, ended_at: seconds since the epoch.
        was_begun: whether a batch may have been begun already.
        is_cancelled: whether nothing may be begun any more.
        name: what the user calls the job.
    """

    id: str
    model: str
    n_rows: int
    window: str
    price_factor: float
    created_at: float
    ended_at: float | None = None
    parts: list[PartState] = field(default_factory=list)
    was_begun: bool = False
    is_cancelled: bool = False
    name: str | None = None

    @property
    def status(self) -> str:
        """The least advanced status of the batches, and once all have ended the least complete."""
        not_begun = "cancelled" if self.is_cancelled else "submitting"
        found = {part.batch.status if part.batch else not_begun for part in self.parts}
        return next((status for status in _ORDER if status in found), "completed")

    @property
    def is_done(self) -> bool:
        """Whether all batches have ended and their answers are here."""
        return self.status in ENDED and all(p.fetched or p.batch is None for p in self.parts)

    @property
    def counts(self) -> dict[str, int]:
        """Requests: `total`, `completed`, `failed`, as the provider last reported."""
        batches = [part.batch for part in self.parts if part.batch is not None]
        return {
            "total": sum(len(part.rows) for part in self.parts),
            "completed": sum(batch.completed for batch in batches),
            "failed": sum(batch.failed for batch in batches),
        }

    @property
    def reason(self) -> str | None:
        """Why the provider refused a batch, None if it refused none."""
        reasons = [part.batch.reason for part in self.parts if part.batch is not None]
        return next(filter(None, reasons), None)

    def to_json(self) -> dict[str, Any]:
        """The state as JSON-able values."""
        parts = []
        for part in self.parts:
            batch = None if part.batch is None else part.batch._asdict()
            parts.append({**asdict(part), "batch": batch})
        value = {**asdict(self), "parts": parts}
        value["rows"] = value.pop("n_rows")
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> JobState:
        """What `to_json` gave. KeyError or TypeError if it is something else."""
        rest = {k: v for k, v in value.items() if k not in ("parts", "rows")}
        parts = [PartState.from_json(part) for part in value["parts"]]
        return cls(**rest, n_rows=value["rows"], parts=parts)
