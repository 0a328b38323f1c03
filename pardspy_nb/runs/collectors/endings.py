"""The end of a run, as an error and in words."""

from __future__ import annotations

from collections.abc import Sequence

from ...core.error_groups import short_message_of
from ...core.errors import BudgetExceeded, FailFast, ParallelError, RunStopped, TooManyFailures
from ...display.progress import RunProgress

_ERRORS: dict[str, type[ParallelError]] = {
    "failures": TooManyFailures,
    "fail_fast": FailFast,
    "fatal": RunStopped,
    "outage": RunStopped,
    "store": RunStopped,
    "budget": BudgetExceeded,
    "cluster": RunStopped,
    "target": RunStopped,
    "source": ParallelError,
    "crashed": ParallelError,
}
_MAX_SHOWN = 3  # distinct errors


def error_class(reason: str) -> type[ParallelError] | None:
    """The error class for a run that ended for this reason (see `events.RunFinished`); None if
    this reason is not an error."""
    return _ERRORS.get(reason)


def explain(
    kind: type[ParallelError],
    cause: BaseException | None,
    errors: Sequence[BaseException],
    progress: RunProgress,
    *,
    max_failures: float | None,
    kept: str,
) -> str:
    """A text: what happened, to how many rows, the first distinct errors, where the rows are."""
    limit = f" ({max_failures}; None goes on after any number)" if kind is TooManyFailures else ""
    shown = [cause, *errors] if cause is not None and cause not in errors else errors
    distinct = list(dict.fromkeys(f"{type(e).__name__}: {short_message_of(e)}" for e in shown))
    p = progress
    return (
        f"{kind.why}{limit}: {p.ok} rows done, {p.failed} failed, {p.cancelled} cancelled, "
        f"{p.not_run} not run. {' | '.join(distinct[:_MAX_SHOWN])} ({kept})"
    )
