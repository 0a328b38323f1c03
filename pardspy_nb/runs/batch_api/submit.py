"""Rows through a provider's batch API: within a day instead of minutes, at half the price."""

from __future__ import annotations

import time
import uuid
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from ...core.errors import StoreError
from ...core.events import Row
from ...core.options import Options
from ...llm.lm import LM
from ...modules.module import Module, from_module
from ...modules.predict import Predict
from ...modules.provenance import Sources
from ...store.cache import AnswerCache, open_cache
from ...tables.readers import as_table
from ...tables.row_batch import RowBatch
from ...tables.rows import read_rows
from .job import BatchJob
from .job_folder import JobFolder, job_folders
from .job_state import JobState, PartState
from .jsonl import MAX_BYTES, MAX_REQUESTS, files_of
from .results import JobRequest

__all__ = ["BatchJob", "batch_jobs", "submit_batch"]

_TAKES = (
    *("columns", "repeat", "batch_key", "blank", "store", "cache_key", "confidence", "dedupe"),
    "name",
)


def submit_batch(
    module: Any,
    inputs: Any,
    *,
    completion_window: str = "24h",
    price_factor: float = 0.5,
    max_requests: int = MAX_REQUESTS,
    max_bytes: int = MAX_BYTES,
    **options: Any,
) -> BatchJob:
    """Hand every row to the provider's batch API (OpenAI's `/v1/batches`, which others have, too).

    Rows that are remembered are not sent, equal rows are sent once; answers enter the store. The
    job is kept beside the store, so that another kernel finds it with `batch_jobs`: the rows, the
    module, the provider's ids, but no key.

    Args:
        module: a `Predict` or its kin with an `LM` behind an endpoint, without a history.
        inputs: as in `run_parallel`.
        completion_window: how long the provider has; OpenAI knows `"24h"`.
        price_factor: what a row costs there, of the usual price.
        max_requests, max_bytes: of one file; more rows are several batches.
        options: `columns`, `repeat`, `batch_key`, `store`, `cache_key`, `confidence`, `dedupe` and
            `name`, as in `Options`.

    Returns:
        A `BatchJob`: `.status`, `.wait()`, `.df`, `.cancel()`, `.retry_failed()`.

    Raises:
        TypeError, ValueError: bad input, or a job with the same requests is under way; nothing was
            sent.
        StoreError: the job cannot be kept; nothing was sent.
        LMError: the provider refused. The job is kept: `batch_jobs()[-1].refresh()` goes on.
    """
    if unknown := [name for name in options if name not in _TAKES]:
        raise TypeError(
            f"submit_batch has no option {unknown[0]!r}: it takes {', '.join(_TAKES)}; "
            "how fast rows are asked is the provider's business"
        )
    checked = Options.of(options)
    checked.samples  # noqa: B018 - as many as it takes is not known beforehand
    if not checked.store:
        raise ValueError("a batch job is kept beside the store: give store=True, or a path")
    described = from_module(module)
    described = described.with_confidence() if checked.confidence else described
    predict = _checked(described)
    table = as_table(list(inputs) if isinstance(inputs, Iterator) else inputs)
    rows = read_rows(table, described.inputs, described.outputs, checked)
    cache = open_cache(checked, described, Sources(described, checked.cache_key), total=rows.total)
    try:
        sent, leaders = _to_be_sent(rows, cache)
    finally:
        if cache is not None:
            cache.close()
    # in another folder a relative path would be another store
    store = True if checked.store is True else str(Path(checked.store).expanduser().absolute())
    request = JobRequest(_without_key(predict), table, options | {"store": store}, leaders)
    bodies = ((row.number, predict.request(row.inputs)) for row in sent)
    now = time.time()
    state = JobState(
        id=f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now))}-{uuid.uuid4().hex[:6]}",
        model=str(getattr(predict.lm, "model", "")),
        n_rows=rows.total or 0,
        window=completion_window,
        price_factor=price_factor,
        created_at=now,
        name=checked.name,
    )
    folder = _new_folder(request, files_of(bodies, max_requests, max_bytes), state)
    _refuse_twice(folder, request.options["store"])
    job = BatchJob(folder).use(predict)
    job.submit()
    return job


def _refuse_twice(folder: JobFolder, store: Any) -> None:
    """Refuse a job whose requests another job has under way: they would be paid for twice."""
    asked = folder.get("requests-0.jsonl")
    for other in job_folders(store):
        try:
            is_twin = (
                asked is not None
                and other.path != folder.path
                and not other.load().is_done
                and other.get("requests-0.jsonl") == asked
            )
        except StoreError:  # a damaged job
            continue
        if is_twin:
            folder.remove()
            raise ValueError(
                f"the job {other.path.name} has the same requests under way: go on with it "
                "(pn.batch_jobs()), or cancel it and job.forget() it first"
            )


def _new_folder(
    request: JobRequest, files: Iterable[tuple[bytes, list[int]]], state: JobState
) -> JobFolder:
    """The folder of a new job, with nothing begun yet."""
    folder = JobFolder.of(request.options["store"], state.id)
    folder.begin(request)
    try:
        for number, (lines, numbers) in enumerate(files):
            folder.put(f"requests-{number}.jsonl", lines)
            state.parts.append(PartState(numbers))
    except BaseException:
        folder.remove()
        raise
    if not state.parts:
        state.ended_at = state.created_at
    folder.save(state)
    return folder


def batch_jobs(store: bool | str | Path | None = True) -> list[BatchJob]:
    """The jobs kept beside a store, the oldest first; a kernel that was restarted goes on with
    them. Nothing is asked of the provider. One that is damaged is left out, with a warning.
    """
    jobs = []
    for folder in job_folders(store):
        try:
            jobs.append(BatchJob(folder))
        except StoreError as error:
            warnings.warn(f"{error}; its folder is {folder.path}", RuntimeWarning, stacklevel=2)
    return sorted(jobs, key=lambda job: job.created_at)


def _checked(module: Module) -> Predict:
    """The module, if the batch API can ask what it would."""
    predict = module.source
    if not (isinstance(predict, Predict) and module.predicts and isinstance(predict.lm, LM)):
        raise TypeError(
            f"a batch is made of Predict or its kin with an LM, without a history, not "
            f"of {module.name!r}: use run_parallel"
        )
    if predict.lm.endpoint.make is not None:
        raise ValueError(
            "an LM with client= cannot be kept for another kernel: give base_url=, "
            "and the key in OPENAI_API_KEY"
        )
    if predict.lm.endpoint.headers:
        raise ValueError(
            "extra_headers may hold what should not be written down: an LM of a batch takes none"
        )
    return predict


def _without_key(predict: Predict) -> Predict:
    kept = predict.varied()
    assert isinstance(predict.lm, LM)
    kept.lm = predict.lm.without_key()
    return kept


def _to_be_sent(rows: RowBatch, cache: AnswerCache | None) -> tuple[list[Row], dict[int, int]]:
    """Rows that have to be asked, and those that will share the answer of one of these."""
    all_rows = [row for row in rows.rows if not row.is_blank]
    if cache is None:
        return all_rows, {}
    for start in range(0, len(all_rows), 1000):
        cache.prefetch(all_rows[start : start + 1000])
    sent: list[Row] = []
    leaders: dict[int, int] = {}  # by the numbers of rows that share an answer
    first_of: dict[bytes, int] = {}  # by key
    for row in all_rows:
        key = cache.key(row)
        if key is not None and key in first_of:
            leaders[row.number] = first_of[key]
        elif cache.get(row, key) is None:
            sent.append(row)
            if key is not None:
                first_of[key] = row.number
    return sent, leaders
