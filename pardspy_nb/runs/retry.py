"""Runs the rows without an answer again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from ..core.error_groups import ErrorGroup, belongs
from ..core.errors import ParallelError
from ..core.options import Options
from ..modules.module import Module, from_module
from ..tables.inputs import again
from ..tables.merge import merge
from .plan import plan_run
from .registry import module_of
from .run import Run


def retry_failed(
    df: Any, module: Any = None, *, error: str | ErrorGroup | None = None, **options: Any
) -> Any:
    """Run the rows that are not `ok` again and write their results in their places.

    With `from_instances` a row goes to the instance of its place in `df`, so do not sort `df`
    before. With `dedupe=False` the new answers are not remembered.

    Args:
        df: a result; it is changed in place.
        module: None for the module that made `df` (in this process); another module for a retry
            with, say, a larger model.
        error: only failures of this type (`"RateLimitError"`), with this text in their message, or
            of this group (`df.parallel.summary().groups[0]`); None for every row that is not ok.
        options: the options that differ from the run that made `df`.

    Returns:
        `df`, its rows in their old places.

    Raises:
        ValueError: the module is not known any more, its inputs are not in `df`, or it would
            overwrite a column that was not an output.
        ParallelError: as in `run_parallel`; its `df` is `df`, with the rows settled so far.
    """
    about = df.attrs.get("pardspy", {})
    made_by = module_of(about.get("run"))
    if module is None and made_by is None:
        raise ValueError(
            "the module that made this frame is not known in this process (another kernel made "
            "the frame, or attrs were lost): pass it, df.parallel.retry_failed(predict)"
        )
    described = made_by[0] if module is None and made_by else from_module(module)
    first = made_by[1] if made_by else Options()
    given = Options.of({**_as_kwargs(first), **options})
    outcomes = zip(df["status"], df["error_type"], df["error"], strict=True)
    at = [
        i for i, (status, kind, text) in enumerate(outcomes) if _is_meant(status, kind, text, error)
    ]
    if not at:
        return df
    _check_outputs(df, described, about)
    batch = again(
        _inputs(df, at, described, about, given),
        described.inputs,
        at,
        _samples(df, at),
        given.columns,
    )
    # without `dedupe` the order tells equal rows apart in the store; a retry has another order
    store = given.store if given.dedupe else None
    truth = _truth(df, at, given)
    options_again = replace(
        given, repeat=1, truth=truth, return_all=True, only_successful=False, store=store
    )
    run = Run(plan_run(described, batch, options_again))
    try:
        rows = run.start().result()
    except ParallelError as stopped:
        if stopped.df is not None:
            merge(df, at, stopped.df)
            stopped.df = df
        raise
    merge(df, at, rows)
    return df


def _as_kwargs(options: Options) -> dict[str, Any]:
    return {name: getattr(options, name) for name in Options.__dataclass_fields__}


def _is_meant(status: str, error_type: Any, message: Any, error: str | ErrorGroup | None) -> bool:
    if error is None:
        return status != "ok"
    return status == "failed" and belongs(str(error_type), str(message), error)


def _inputs(df: Any, at: list[int], module: Module, about: Any, options: Options) -> Any:
    """The rows' input columns."""
    names = about.get("inputs") or list(module.inputs.fields)
    columns = [(options.columns or {}).get(name, name) for name in names]
    return df.iloc[at][[c for c in columns if c in df.columns]]


def _samples(df: Any, at: list[int]) -> list[int]:
    if "sample" not in df.columns:
        return [0] * len(at)
    return [int(k) for k in df["sample"].iloc[at].fillna(0)]


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


def _check_outputs(df: Any, module: Module, about: Any) -> None:
    """Refuse a module that would overwrite the user's own columns."""
    written = about.get("outputs")
    carried = df.columns[: df.columns.get_loc("status")]
    if written is None:
        return
    if clash := [n for n in module.outputs if n in carried and n not in written]:
        raise ValueError(
            f"the frame has columns {clash} of its own, which this module writes; rename them"
        )
