"""The link between a coordinator and its workers."""

from __future__ import annotations

from typing import Protocol

from ...core.errors import PardspyError
from ...engine.controls import RunControls
from .messages import Command, Report
from .work_queue import WorkItem


class ClusterError(PardspyError):
    """The cluster has no worker that can run the module."""


class LinkListener(Protocol):
    """Receives what a link reports, on the loop's thread. See `coordinator.Coordinator`."""

    @property
    def controls(self) -> RunControls: ...

    def worker_joined(self, name: str) -> bool: ...

    def worker_left(
        self, name: str, error: BaseException | None = None, *, died: bool = True
    ) -> None: ...

    def receive(self, name: str, report: Report) -> None: ...

    def item_acknowledged(
        self, name: str, number: int, error: BaseException | None = None
    ) -> None: ...

    def item_unsendable(self, name: str, item: WorkItem, error: BaseException) -> None: ...


class Link(Protocol):
    """Carries messages to the workers. Messages to one worker arrive in order."""

    def open(self, listener: LinkListener) -> None:
        """Begin to pass on to `listener` the workers that join and leave, and their reports."""

    def send(self, worker: str, item: WorkItem) -> None:
        """Bring a work item to a worker."""

    def command(self, worker: str, command: Command) -> None:
        """Bring a command to a worker."""
