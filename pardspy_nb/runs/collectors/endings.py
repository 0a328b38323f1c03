"""How a run ended, as an error and in words."""

from __future__ import annotations

from collections.abc import Sequence

from ...core.error_groups import message_of
from ...core.errors import BudgetExceeded, FailFast, ParallelError, RunStopped, TooManyFailures
from ...display.progress import RunProgress

_ERRORS: dict[str, type[ParallelError]] = {
    "failures": TooManyFailures,
    "fail_fast": FailFast,
    "fatal": RunStopped,
    "store": RunStopped,
    "budget": BudgetExceeded,
    "cluster": RunStopped,
    "target": RunStopped,
    "source": ParallelError,
    "crashed": ParallelError,
}
_MAX_SHOWN = 3  # distinct errors


def error_class(reason: str) -> type[ParallelError] | None:
    """The error for a run that ended for this reason (see `events.RunFinished`); None where that
    is no error."""
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
    """What happened, to how many rows, the first distinct errors, and where the rows are."""
    limit = f" ({max_failures}; None goes on whatever fails)" if kind is TooManyFailures else ""
    shown = [cause, *errors] if cause is not None and cause not in errors else errors
    distinct = list(dict.fromkeys(f"{type(e).__name__}: {message_of(e)}" for e in shown))
    p = progress
    return (
        f"{kind.why}{limit}: {p.ok} rows done, {p.failed} failed, {p.cancelled} cancelled, "
        f"{p.not_run} not run. {' | '.join(distinct[:_MAX_SHOWN])} ({kept})"
    )
