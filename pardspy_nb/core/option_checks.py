"""The valid values of a run's options, as one table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

_PROGRESS = ("auto", "widget", "tqdm", "none")
_RESULTS = ("pandas", "polars", "pyarrow", "dask")


def is_whole(value: Any) -> bool:
    """Whether this is a whole number; True and False are not."""
    return isinstance(value, int) and not isinstance(value, bool)


def _is_positive(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and value > 0


def _is_count(value: Any) -> bool:
    return is_whole(value) and value >= 1


def _is_failure_limit(value: Any) -> bool:
    is_count = is_whole(value) and value >= 0
    return value is None or is_count or (isinstance(value, float) and 0 < value < 1)


# for each option, a test for valid values and the error text (`{}` stands for the value)
_CHECKS: Mapping[str, tuple[Callable[[Any], bool], str]] = {
    "max_workers": (
        lambda v: v == "auto" or _is_count(v),
        "max_workers must be a whole number of at least 1 or 'auto', got {}",
    ),
    "max_attempts": (_is_count, "max_attempts must be a whole number of at least 1, got {}"),
    "max_failures": (
        _is_failure_limit,
        "max_failures must be a count (0, 1, …), a share between 0 and 1, or None for any number; "
        "got {}",
    ),
    "timeout_s": (
        lambda v: v is None or _is_positive(v),
        "timeout_s must be a number of seconds above 0, got {}",
    ),
    "outage_s": (
        lambda v: isinstance(v, int | float) and not isinstance(v, bool) and 0 <= v < float("inf"),
        "outage_s must be a number of seconds of at least 0, got {}",
    ),
    "image_root": (
        lambda v: v is None or (isinstance(v, str | Path) and Path(v).expanduser().is_dir()),
        "image_root must be a folder that exists, got {}",
    ),
    "image_hosts": (
        lambda v: isinstance(v, list | tuple) and all(isinstance(host, str) for host in v),
        "image_hosts must be a list of host names, got {}",
    ),
    "retry_hopeless": (
        lambda v: isinstance(v, bool),
        "retry_hopeless must be True or False, got {}",
    ),
    "confidence": (lambda v: isinstance(v, bool), "confidence must be True or False, got {}"),
    "truth": (
        lambda v: not isinstance(v, bool | float | bytes),
        "truth names the column of the true labels, or holds the labels; got {}",
    ),
    "columns": (
        lambda v: v is None or isinstance(v, Mapping),
        "columns is a dict of input and column, such as {{'review': 'text'}}; got {}",
    ),
    "keep": (
        lambda v: v in ("attempts", "nothing"),
        "keep must be 'attempts' or 'nothing', got {}",
    ),
    "blank": (lambda v: v in ("skip", "ask"), "blank must be 'skip' or 'ask', got {}"),
    "rpm": (
        lambda v: v is None or _is_positive(v),
        "rpm must be a number a minute above 0, got {}",
    ),
    "tpm": (
        lambda v: v is None or _is_positive(v),
        "tpm must be a number a minute above 0, got {}",
    ),
    "hedge": (
        lambda v: v is None or (_is_positive(v) and v < 1),
        "hedge must be a quantile between 0 and 1 such as 0.95, got {}",
    ),
    "store": (
        lambda v: isinstance(v, bool | str | Path | None),
        "store must be True, a path, or None for no store; got {}",
    ),
    "cache_key": (
        lambda v: v is None or (isinstance(v, str) and bool(v)),
        "cache_key must be a text such as 'v1', got {}",
    ),
    "max_cost_usd": (
        lambda v: v is None or (isinstance(v, int | float) and v >= 0),
        "max_cost_usd must be US dollars, got {}",
    ),
    "on_budget": (
        lambda v: v in ("raise", "return"),
        "on_budget must be 'raise' or 'return', got {}",
    ),
    "progress": (
        lambda v: callable(v) or v in _PROGRESS,
        "progress must be 'auto', 'widget', 'tqdm', 'none' or a function of an event; got {}",
    ),
    "result": (
        lambda v: v in _RESULTS,
        "result must be 'pandas', 'polars', 'pyarrow' or 'dask'; got {}",
    ),
}


def check_values(values: Mapping[str, Any]) -> None:
    """Refuse invalid values. The ValueError names the option and its valid values."""
    for name, (is_good, words) in _CHECKS.items():
        if not is_good(values[name]):
            raise ValueError(words.format(repr(values[name])))


def check_repeat(repeat: Any) -> None:
    """Refuse a `repeat` that is not a number of samples."""
    if not _is_count(repeat):
        raise ValueError(
            f"repeat must be a whole number of at least 1 or 'until decided', got {repeat!r}"
        )


def check_executor(executor: Any, result: str) -> None:
    """Refuse an executor that is not an open, synchronous `dask.distributed.Client`."""
    if executor is None:
        if result == "dask":
            raise ValueError("result='dask' needs executor=, a dask.distributed.Client")
        return
    if not (hasattr(executor, "submit") and hasattr(executor, "scheduler_info")):
        raise TypeError(
            f"executor must be a dask.distributed.Client, got {type(executor).__name__}"
            + ("; pass Client(cluster)" if hasattr(executor, "scheduler") else "")
        )
    if getattr(executor, "status", "") in ("closed", "closing"):
        raise ValueError("executor is a client that is closed: make another Client(…)")
    if getattr(executor, "asynchronous", False):
        raise TypeError(
            "executor must not be an asynchronous client: pass a Client(address), "
            "also to arun_parallel"
        )
