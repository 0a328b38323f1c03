"""Runs the rows without an answer again."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import numpy as np

from ..core.error_groups import ErrorGroup, belongs
from ..core.errors import BudgetExceeded, ParallelError
from ..core.options import Options
from ..display.notebook import WaitMode
from ..modules.cascade import Cascade
from ..modules.module import Module, from_module
from ..tables.inputs import again
from ..tables.merge import by_hand, mark_by_hand, merge, outputs_in
from ..tables.names import own_names
from ..tables.rows import shape_of
from .plan import plan_run
from .registry import attempts_of, module_of
from .result_rows import input_columns, named_columns, samples_of
from .run import Run


def retry_failed(
    df: Any, module: Any = None, *, error: str | ErrorGroup | None = None, **options: Any
) -> Any:
    """Run the rows that are not `ok` again and write their results in their places.

    With `from_instances` a row goes to the instance of its place in `df`, so do not sort `df`
    before. With `dedupe=False` the new answers are not remembered.

    A value that was put by hand into an output of a row without an answer stays, and `repaired`
    says so; a row all of whose outputs were set by hand is not asked.

    Args:
        df: a result; it is changed in place.
        module: None for the module that made `df` (in this process); another module for a retry
            with, say, a larger model.
        error: only failures of this type (`"RateLimitError"`), with this text in their message, or
            of this group (`df.parallel.summary().groups[0]`); None for every row that is not ok.
        options: the options that differ from the run that made `df`. `max_cost_usd` is a budget of
            the retry's own; else what is left of the frame's.

    Returns:
        `df`, its rows in their old places.

    Raises:
        ValueError: the module is not known any more, or its inputs are not in `df`.
        ParallelError: as in `run_parallel`; its `df` is `df`, with the rows settled so far.
    """
    return ask_again(df, module, error, options, "blocking")


def ask_again(
    df: Any,
    module: Any,
    error: str | ErrorGroup | None,
    options: Mapping[str, Any],
    wait_mode: WaitMode,
    began: Callable[[Run], None] = lambda run: None,
) -> Any:
    """See `retry_failed`; `wait_mode` says how the caller waits, and `began` is told the run."""
    about = df.attrs.get("pardspy", {})
    made_by = module_of(about.get("run"))
    if module is None and made_by is None:
        raise ValueError(
            "the module that made this frame is not known in this process (another kernel made "
            "the frame, or attrs were lost): pass it, df.parallel.retry_failed(predict)"
        )
    described = made_by[0] if module is None and made_by else from_module(_known(module, about))
    first = made_by[1] if made_by else Options()
    given = Options.of({**_as_kwargs(first), "retry_hopeless": True, **options})
    at = _places(df, error, list(described.outputs))
    if not at:
        return df
    _check_inputs(df, described, about, given)
    shape = replace(shape_of(given, 1), columns=named_columns(described, about, given))
    batch = again(
        df.iloc[at][input_columns(df, described, about, shape)],
        described.inputs,
        at,
        samples_of(df, at),
        shape,
    )
    # without `dedupe` the order tells equal rows apart in the store; a retry has another order
    store = given.store if given.dedupe else None
    truth = _truth(df, at, given)
    if given.max_cost_usd is not None and "max_cost_usd" not in options:
        given = replace(given, max_cost_usd=_left_usd(df, given.max_cost_usd))
    options_again = replace(
        given, repeat=1, truth=truth, return_all=True, only_successful=False, store=store
    )
    run = Run(plan_run(described, batch, options_again), attempts=attempts_of(about.get("run")))
    try:
        began(run.start(wait_mode))
        rows = run.result()
    except ParallelError as stopped:
        if stopped.df is not None:
            merge(df, at, own_names(stopped.df))
            stopped.df = df
        raise
    merge(df, at, own_names(rows))
    return df


def _known(module: Any, about: Mapping[str, Any]) -> Any:
    """The module; a cascade with the thresholds that the frame's run has found."""
    accept = about.get("cascade", {}).get("accept", [None])
    finds_them = isinstance(module, Cascade) and module.accept is None
    return module.accepting(accept) if finds_them and None not in accept else module


def _left_usd(df: Any, limit_usd: float) -> float:
    """What is left of a frame's budget. BudgetExceeded if nothing is."""
    spent = own_names(df)["cost_usd"].sum()
    if spent >= limit_usd:
        raise BudgetExceeded(
            f"the frame's budget of ${limit_usd:g} is spent (${spent:.4g}); "
            "retry_failed(max_cost_usd=…) gives the retry one of its own",
            df=df,
        )
    return float(limit_usd - spent)


def _as_kwargs(options: Options) -> dict[str, Any]:
    return {name: getattr(options, name) for name in Options.__dataclass_fields__}


def _places(df: Any, error: str | ErrorGroup | None, declared: list[str]) -> list[int]:
    """The rows to ask again. Rows that were set by hand are marked."""
    hand = by_hand(df, declared)
    mark_by_hand(df, hand)
    outputs = [name for name in outputs_in(df, declared) if name in df.columns]
    is_whole = np.full(len(df), bool(outputs))
    for name in outputs:
        is_whole &= hand.get(name, False)
    plain = own_names(df)
    outcomes = list(zip(plain["status"], plain["error_type"], plain["error"], strict=True))
    meant = [i for i, outcome in enumerate(outcomes) if _is_meant(*outcome, error)]
    if error is not None and not meant:
        kinds = Counter(str(kind) for status, kind, _ in outcomes if status == "failed")
        there = ", ".join(f"{kind} ({n:,} rows)" for kind, n in kinds.most_common(5))
        words = error.error_type if isinstance(error, ErrorGroup) else error
        warnings.warn(
            f"no failed row has the error {words!r}, so none is asked again; there are: "
            f"{there or 'no row failed'}",
            UserWarning,
            stacklevel=3,
        )
    return [i for i in meant if not is_whole[i]]


def _is_meant(status: str, error_type: Any, message: Any, error: str | ErrorGroup | None) -> bool:
    if error is None:
        return status != "ok"
    return status == "failed" and belongs(str(error_type), str(message), error)


def _check_inputs(df: Any, module: Module, about: Mapping[str, Any], options: Options) -> None:
    """Refuse a frame that lacks inputs. ValueError."""
    columns = named_columns(module, about, options)
    lacks = [n for n in module.inputs.required if columns.get(n, n) not in df.columns]
    if lacks:
        raise ValueError(
            f"the frame has no column for {lacks}; it has {list(df.columns)}: name the column with "
            f"columns={{{lacks[0]!r}: …}}"
        )


def _truth(df: Any, at: list[int], options: Options) -> Any:
    """The true labels of these rows, if `truth` is a column or has one label per row."""

    def of(truth: Any) -> Any:
        if isinstance(truth, str):
            return df[truth].iloc[at].tolist() if truth in df.columns else None
        labels = list(truth)
        return [labels[i] for i in at] if len(labels) == len(df) else None

    if not isinstance(options.truth, Mapping):
        return None if options.truth is None else of(options.truth)
    found = {name: of(truth) for name, truth in options.truth.items()}
    return {name: labels for name, labels in found.items() if labels is not None} or None
