"""The options of a run, checked before anything starts."""

from __future__ import annotations

import difflib
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, Literal, TypeVar

from .events import Event
from .option_checks import check_executor, check_repeat, check_values, is_whole

F = TypeVar("F", bound=Callable[..., Any])
ProgressChoice = Literal["auto", "widget", "tqdm", "none"] | Callable[[Event], None]


@dataclass(frozen=True)
class UntilDecided:
    """For `repeat=`: as many samples of a row as its vote needs.

    Args:
        of: the class output that is voted on; None for the only one.
        most: samples of one row at most; an odd number leaves fewer ties.

    Raises:
        ValueError: fewer than 2 samples.
    """

    of: str | None = None
    most: int = 5

    def __post_init__(self) -> None:
        if not is_whole(self.most) or self.most < 2:
            raise ValueError(
                f"most must be a whole number of samples of at least 2, got {self.most!r}"
            )


@dataclass(frozen=True)
class Options:
    """How a batch is run.

    Attributes:
        max_workers: rows in flight. `"auto"` starts at `os.cpu_count()`; for modules that wait
            on an endpoint it grows while that brings more rows a second and backs off on 429
            (at most 512), for the embedded model it is what that works on at once, for
            synchronous functions it stays, for `from_instances` it is their number.
        max_failures: failed rows tolerated: a count, a share of the rows in (0, 1), or None for
            any number. Once exceeded no new row starts, rows in flight finish and are kept.
        fail_fast: the first failure cancels all that is in flight or waiting.
        return_all: all rows' outputs in the result, else only the first successful row.
        only_successful: leave failed rows out of the result.
        batch_key: key of an input dict that holds an explicit list of input dicts.
        repeat: each row n times; `"until decided"`, or an `UntilDecided`, for as many samples (5 at
            most) as the vote on the class output needs, so that no further one could change it.
        truth: the true labels, to be compared with as rows complete: a column of the input table,
            or the labels themselves, one a row, for the only class output; a dict of these by
            output where there are several.
        timeout_s: seconds for one attempt; None for the LM's own, plain functions have none.
        max_attempts: attempts per row on retryable errors.
        outage_s: seconds for which the run waits for an endpoint that is out of reach or limits it
            (429, 502, 503, 504, 529, closed connections, `Retry-After`). Until then, and while
            others get through, no attempt counts. A longer `Retry-After` ends the run.
        rpm, tpm: requests and tokens a minute that the run keeps to; None for what the
            endpoint's response headers say, if they do. A `Retry-After` holds the whole run.
        confidence: add the probabilities of class outputs' labels, as `Predict(confidence=True)`.
        hedge: a quantile of the latencies so far (of 20 at least), best 0.9 to 0.99: a row
            that takes longer is asked a second time, at most once and at most 5 % of the rows; as
            these are used up, only rows that take up to twice as long. The first answer counts,
            the other request is broken off, and counted as having used as much.
        columns: which DataFrame column feeds which input, `{"review": "text"}`.
        blank: rows whose required input is missing or has no visible character: `"skip"` leaves
            them in their place with the status `skipped`, `"ask"` asks them.
        image_root: the folder in which image files must lie that rows name; None for the working
            folder. (A `pn.Image(path)` that you make yourself may be anywhere.)
        image_hosts: hosts that URLs of images in rows may name although they are not public, such
            as `["images.intranet"]`.
        store: where completed rows are remembered, so that a repeated call pays only for what
            is missing: True for the user's cache folder (`PARDSPY_STORE` names another file),
            a path, False or None for nowhere. Modules other than `Predict` and its kin, and
            such with a history or made by a factory, take part only with a `cache_key`.
        cache_key: a name for all that decides a module's answers beside its inputs, such as
            `"v1"`; change it when the module changes. With it any module is remembered; for
            `Predict` it makes a separate set of answers. Outputs are kept as JSON.
        dedupe: rows with equal inputs are asked once and share the answer (samples of `repeat`
            are always asked singly). For modules that can be remembered.
        retry_hopeless: ask rows again that an earlier run found to be hopeless: the model or its
            filter declined them, or they are too long for it. Otherwise they fail without a
            request, with the error of then.
        max_cost_usd: what the run may cost. Before each request the most it can cost is
            reserved, so the limit holds whatever is in flight. LMs without `max_tokens` get one
            of 4,096 or what a quarter of the budget pays. Only for modules with known prices.
        on_budget: `"raise"` a `BudgetExceeded` with the frame when the next request could
            exceed the limit, or `"return"` the frame.
        keep: `"attempts"` keeps what is needed to tell a row's story (`df.parallel.row`): of each
            failed attempt its error and the ends of what came back, 2,000 characters each, and 3
            million of a run at most (the latest rows'); `"nothing"` keeps none.
        name: what the run is called in panel, bar and summary, in `compare` and by a batch job.
        progress: `"auto"`, `"widget"`, `"tqdm"`, `"none"`, or a callable taking an event.
        executor: a `dask.distributed.Client`: rows go to the workers of its cluster, each of
            which runs an engine of its own; all limits are those of the whole run, and answers
            are remembered here. None for this process.
        result: what the frame comes as: `"pandas"`, `"polars"`, `"pyarrow"`; or, with an
            executor, `"dask"` for a Dask DataFrame whose partitions stay on the workers.

    Raises:
        ValueError: a value out of range; the message names the option and what it takes.
    """

    max_workers: int | Literal["auto"] = "auto"
    max_failures: float | None = 0
    fail_fast: bool = False
    return_all: bool = True
    only_successful: bool = False
    batch_key: str = "_batch"
    repeat: int | Literal["until decided"] | UntilDecided = 1
    truth: str | Sequence[Any] | Mapping[str, Any] | None = None
    timeout_s: float | None = None
    max_attempts: int = 4
    outage_s: float = 120.0
    image_root: str | Path | None = None
    image_hosts: Sequence[str] = ()
    rpm: float | None = None
    tpm: float | None = None
    confidence: bool = False
    hedge: float | None = None
    columns: Mapping[str, Any] | None = None
    blank: Literal["skip", "ask"] = "skip"
    store: bool | str | Path | None = True
    cache_key: str | None = None
    dedupe: bool = True
    retry_hopeless: bool = False
    max_cost_usd: float | None = None
    on_budget: Literal["raise", "return"] = "raise"
    keep: Literal["attempts", "nothing"] = "attempts"
    name: str | None = None
    progress: ProgressChoice = "auto"
    executor: Any = None
    result: Literal["pandas", "polars", "pyarrow", "dask"] = "pandas"

    def __post_init__(self) -> None:
        check_values({field.name: getattr(self, field.name) for field in fields(self)})
        if self.until_decided is None:
            check_repeat(self.repeat)
        check_executor(self.executor, self.result)

    @property
    def until_decided(self) -> UntilDecided | None:
        """The rule for samples, None for a fixed number."""
        if isinstance(self.repeat, UntilDecided):
            return self.repeat
        return UntilDecided() if self.repeat == "until decided" else None

    @property
    def samples(self) -> int:
        """How often each row is asked, where that is a fixed number. ValueError if it is not."""
        if self.until_decided is not None or not isinstance(self.repeat, int):
            raise ValueError("repeat='until decided' is not for this: give a number")
        return self.repeat

    @property
    def image_sources(self) -> tuple[Path | None, tuple[str, ...]]:
        """Where images in rows may come from: the folder of files, hosts that are not public."""
        root = None if self.image_root is None else Path(self.image_root).expanduser()
        return root, tuple(self.image_hosts)

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Options:
        """From keyword arguments; TypeError names an unknown one and the nearest known."""
        known = [f.name for f in fields(cls)]
        for name in given:
            if name not in known:
                near = difflib.get_close_matches(name, known, 1)
                hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(known)}"
                raise TypeError(f"unknown option {name!r}; {hint}")
        return cls(**given)

    def to_dict(self) -> dict[str, Any]:
        """The options as JSON-able values."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        values["executor"] = None if self.executor is None else "dask"
        if callable(self.progress):
            values["progress"] = "callable"
        values["repeat"] = self.repeat if isinstance(self.repeat, int) else str(self.repeat)
        values["truth"] = _named(self.truth)
        values["image_root"] = None if self.image_root is None else str(self.image_root)
        values["image_hosts"] = list(self.image_hosts)
        values["columns"] = dict(self.columns) if self.columns else None
        values["store"] = str(self.store) if isinstance(self.store, Path) else self.store
        return values


def takes_options(function: F) -> F:
    """Show the options that `**options` takes in the function's signature, so that a notebook
    completes them."""
    signature = inspect.signature(function)
    own = [p for p in signature.parameters.values() if p.kind is not p.VAR_KEYWORD]
    more = [
        inspect.Parameter(
            f.name, inspect.Parameter.KEYWORD_ONLY, default=f.default, annotation=f.type
        )
        for f in fields(Options)
    ]
    function.__signature__ = signature.replace(parameters=[*own, *more])  # type: ignore[attr-defined]
    return function


def _named(truth: Any) -> Any:
    """Columns of true labels; labels themselves are not kept."""
    if isinstance(truth, Mapping):
        return {output: _named(of) for output, of in truth.items()}
    return truth if isinstance(truth, str) else None
