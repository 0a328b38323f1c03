"""The provider's batch API, against a server that has it as OpenAI documents it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
import time
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.batch_server import BatchServer
from support.scripted_server import COMPLETION_TOKENS, PROMPT_TOKENS, Reply, ScriptedServer

import pardspy_nb as pn
from pardspy_nb.runs.batch_api import client

KEY = "sk-test-secret-key"


@pytest.fixture
def provider() -> Iterator[BatchServer]:
    server = BatchServer()
    server.start()
    yield server
    server.stop()


@pytest.fixture
def lm(provider: BatchServer) -> pn.LM:
    return pn.LM("gpt-4o-mini", base_url=provider.url, api_key=KEY, price=(100.0, 200.0))


def rows(n: int) -> list[str]:
    return [f"row-{i} is a review" for i in range(n)]


def without_times(df: pd.DataFrame) -> pd.DataFrame:
    return df.drop(columns=["latency_ms", "queued_ms", "waited_ms", "started_at", "cost_usd"])


def test_the_frame_is_that_of_a_run_at_half_the_price(
    provider: BatchServer, predict: pn.Predict
) -> None:
    table = pd.DataFrame({"review": rows(12), "stars": range(12)}, index=range(50, 62))
    job = pn.submit_batch(predict, table)
    assert job.status == "validating"
    assert (job.df["status"] == "not_run").all()
    provider.finish()
    df = job.wait(poll_s=0.01)
    assert job.status == "completed"
    assert job.counts == {"total": 12, "completed": 12, "failed": 0}

    here = pn.run_parallel(predict, table, store=None, progress="none")
    pd.testing.assert_frame_equal(without_times(df), without_times(here))
    usual = (PROMPT_TOKENS * 100 + COMPLETION_TOKENS * 200) / 1e6
    assert df["cost_usd"].tolist() == pytest.approx([usual / 2] * 12)
    assert df["latency_ms"].isna().all()
    assert df["started_at"].notna().all()
    assert df.parallel.metrics.successes == 12
    assert df.parallel.cost == pytest.approx(12 * usual / 2)
    assert "12 of 12 requests answered" in repr(job)


def test_a_request_is_what_a_run_would_send(provider: BatchServer, predict: pn.Predict) -> None:
    pn.submit_batch(predict, rows(1))
    [sent] = provider.files.values()
    line = json.loads(sent)
    pn.run_parallel(predict, rows(1), progress="none")
    assert line["body"] == provider.requests[0]
    assert (line["custom_id"], line["method"], line["url"]) == (
        "row-0",
        "POST",
        "/v1/chat/completions",
    )


def test_answers_enter_the_store_and_remembered_rows_are_not_sent(
    provider: BatchServer, predict: pn.Predict
) -> None:
    """In both directions: what a run has asked costs a job nothing, and the other way round."""
    pn.run_parallel(predict, rows(5), progress="none")
    job = pn.submit_batch(predict, [*rows(8), "row-7 is a review", "row-2 is a review"])
    [sent] = provider.files.values()
    assert [json.loads(x)["custom_id"] for x in sent.splitlines()] == ["row-5", "row-6", "row-7"]
    provider.finish()
    df = job.wait(poll_s=0.01)
    assert (df["status"] == "ok").all()
    assert df["cached"].tolist() == [True] * 5 + [False] * 3 + [True] * 2
    assert df["reason"].tolist() == [f"row-{i}" for i in (*range(8), 7, 2)]
    again = pn.run_parallel(predict, rows(8), progress="none")
    assert again["cached"].all()
    assert len(provider.requests) == 5

    nothing = pn.submit_batch(predict, rows(8))
    assert nothing.status == "completed"
    assert len(provider.batches) == 1
    assert nothing.df["cached"].all()


def test_files_keep_to_the_providers_limits(provider: BatchServer, predict: pn.Predict) -> None:
    """By count and by size; the answers of all batches are one frame."""
    job = pn.submit_batch(predict, rows(25), max_requests=10)
    assert [len(f.splitlines()) for f in provider.files.values()] == [10, 10, 5]
    provider.finish()
    df = job.wait(poll_s=0.01)
    assert df["reason"].tolist() == [f"row-{i}" for i in range(25)]

    one = len(next(iter(provider.files.values())).splitlines()[0]) + 1
    provider.files.clear()
    job = pn.submit_batch(
        predict, [f"row-1{i} is a review" for i in range(9)], store=fresh(), max_bytes=4 * one + 10
    )
    assert [len(f.splitlines()) for f in provider.files.values()] == [4, 4, 1]
    with pytest.raises(ValueError, match=r"the request of row 1 has [\d,]+ bytes"):
        pn.submit_batch(predict, ["row-90", "row-91 " + "x" * 5000], max_bytes=4000)
    assert len(provider.files) == 3


def fresh() -> Path:
    import tempfile

    return Path(tempfile.mkdtemp()) / "answers.sqlite"


def test_partial_errors_are_rows_and_can_be_finished_online(
    provider: BatchServer, predict: pn.Predict
) -> None:
    """A refused request, an answer that does not fit: the rest is as it is, these are asked
    again at once."""
    faults = {1: Reply("status", code=400), 4: Reply("wrong_label"), 6: Reply("status", code=500)}
    provider.script = lambda m, attempt: faults.get(m, Reply()) if attempt == 1 else Reply()
    job = pn.submit_batch(predict, rows(8))
    with pytest.raises(ValueError, match="would be asked twice"):
        job.retry_failed()
    provider.finish()
    df = job.wait(poll_s=0.01)
    assert job.status == "completed"
    assert df["error_type"].dropna().to_dict() == {
        1: "BadRequestError",
        4: "OutOfVocabularyError",
        6: "ServerError",
    }
    assert df.loc[4, "cost_usd"] > 0  # it was paid for
    done = job.retry_failed(progress="none")
    assert (done["status"] == "ok").all()
    assert done is job.df
    assert len(provider.requests) == 3
    assert (pn.batch_jobs()[-1].df["status"] == "ok").all()


def test_what_expires_is_failed_and_the_rest_is_kept(
    provider: BatchServer, predict: pn.Predict
) -> None:
    provider.expires = True
    job = pn.submit_batch(predict, rows(10))
    provider.advance()
    provider.advance(answers=4)
    df = job.wait(poll_s=0.01)
    assert job.status == "expired"
    assert df["status"].tolist() == ["ok"] * 4 + ["failed"] * 6
    assert set(df["error_type"].dropna()) == {"BatchExpiredError"}
    assert pn.run_parallel(predict, rows(4), progress="none")["cached"].all()
    assert (job.retry_failed(progress="none")["status"] == "ok").all()


def test_a_cancelled_job_keeps_what_was_answered(
    provider: BatchServer, predict: pn.Predict
) -> None:
    job = pn.submit_batch(predict, rows(10))
    provider.advance()
    provider.advance(answers=3)
    assert job.refresh().counts["completed"] == 3
    job.cancel()
    assert job.refresh().status == "cancelling"
    provider.advance()
    df = job.wait(poll_s=0.01)
    assert job.status == "cancelled"
    assert df["status"].tolist() == ["ok"] * 3 + ["cancelled"] * 7
    assert sum(provider.attempts.values()) == 3


def test_a_batch_that_is_refused_says_why(provider: BatchServer, signature: Any) -> None:
    """Validation fails: every row has the provider's words."""
    lm = pn.LM("no-batch", base_url=provider.url, api_key=KEY)
    job = pn.submit_batch(pn.Predict(signature, lm), rows(3))
    provider.advance()
    df = job.wait(poll_s=0.01)
    assert job.status == "failed"
    assert set(df["error_type"]) == {"BatchRejectedError"}
    assert set(df["error"]) == {"line 1: The model does not support the batch API."}
    with pytest.raises(pn.LMError, match="completion_window must be 24h"):
        pn.submit_batch(pn.Predict(signature, lm), rows(3), completion_window="1h")


def test_a_batch_without_room_waits_for_the_others(
    provider: BatchServer, predict: pn.Predict
) -> None:
    """The provider takes so many tokens at a time: what it refuses for that is tried again."""
    provider.room = 1
    job = pn.submit_batch(predict, rows(6), max_requests=3)
    provider.advance()
    assert [b["status"] for b in provider.batches.values()] == ["in_progress", "failed"]
    for _ in range(8):
        provider.advance()
        job.refresh()
    assert job.status == "completed"
    assert (job.df["status"] == "ok").all()
    assert sum(provider.attempts.values()) == 6


@pytest.mark.slow
def test_a_job_survives_the_kernel(
    provider: BatchServer, predict: pn.Predict, store_path: Path, tmp_path: Path
) -> None:
    """Another process finds it, waits for it and has the frame; the key is nowhere on disk."""
    program = f"""
import pardspy_nb as pn
signature = (pn.Signature("Analyze customer review sentiment")
    .add_input("review", str, "Customer review text")
    .add_class_output("sentiment", ["positive", "neutral", "negative"], "Overall sentiment")
    .add_output("reason", str, "Brief explanation"))
lm = pn.LM("gpt-4o-mini", base_url={provider.url!r}, api_key={KEY!r}, price=(1, 1))
job = pn.submit_batch(pn.Predict(signature, lm), {rows(7)!r})
print(job.id)
"""
    env = {**os.environ, "PARDSPY_STORE": str(store_path)}
    made = subprocess.run(
        [sys.executable, "-c", program], env=env, capture_output=True, text=True, check=True
    )
    for file in store_path.parent.rglob("*"):
        content = file.read_bytes() if file.is_file() else b""
        if file.name == "asked.pickle":
            content = zlib.decompress(content)
        assert KEY.encode() not in content, file
    provider.finish()
    [job] = pn.batch_jobs()
    assert job.id == made.stdout.strip()
    os.environ["OPENAI_API_KEY"] = "sk-from-the-environment"
    try:
        df = job.wait(poll_s=0.01)
    finally:
        del os.environ["OPENAI_API_KEY"]
    assert df["reason"].tolist() == [f"row-{i}" for i in range(7)]
    assert df["cost_usd"].notna().all()
    assert pn.run_parallel(predict, rows(7), progress="none")["cached"].all()
    job.forget()
    assert pn.batch_jobs() == []


def test_a_job_goes_on_with_a_module_that_is_given(
    provider: BatchServer, predict: pn.Predict, signature: pn.Signature, lm: pn.LM
) -> None:
    """Where the kept one cannot be loaded, `use` gives another; what is none is refused."""
    job = pn.submit_batch(predict, rows(3))
    provider.finish()
    [found] = pn.batch_jobs()
    found.use(pn.Predict(signature, lm))
    assert (found.wait(poll_s=0.01)["status"] == "ok").all()
    with pytest.raises(TypeError, match="Predict that has an LM"):
        job.use(lambda review: review)  # type: ignore[arg-type]


@pytest.mark.parametrize("breaks", [1, 2])
def test_nothing_is_begun_twice(
    provider: BatchServer, predict: pn.Predict, breaks: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The connection breaks off after the provider has begun a batch: it is found, not begun
    again. So is one whose kernel died before it noted it."""
    from pardspy_nb.engine.policies import RetryPolicy

    monkeypatch.setattr(client, "RetryPolicy", lambda: RetryPolicy(base_s=0.01))
    provider.breaks = breaks
    job = pn.submit_batch(predict, rows(9), max_requests=3)
    assert len(provider.batches) == 3
    state = job._folder.load()
    for part in state.parts:
        part.batch = None
    job._folder.save(state)
    [found] = pn.batch_jobs()
    assert found.use(predict).status == "validating"
    assert len(provider.batches) == 3


def test_interrupts_and_time_limits_leave_the_job_alone(
    provider: BatchServer, predict: pn.Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = pn.submit_batch(predict, rows(3))
    df = job.wait(timeout_s=0.05, poll_s=0.01)
    assert set(df["status"]) == {"not_run"}

    def interrupted(_: float) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", interrupted)
    assert set(job.wait(poll_s=0.01)["status"]) == {"not_run"}
    monkeypatch.undo()
    provider.finish()
    assert (job.wait(poll_s=0.01)["status"] == "ok").all()


def test_a_provider_that_hangs_holds_up_nobody(provider: BatchServer, predict: pn.Predict) -> None:
    """Neither `wait` beyond its time, nor who wants to cancel while another thread waits."""
    job = pn.submit_batch(predict, rows(3))
    provider.advance()  # it is begun
    provider.hangs = True
    began = time.monotonic()
    df = job.wait(timeout_s=0.3, poll_s=0.01)
    assert set(df["status"]) == {"not_run"}
    assert time.monotonic() - began < 10  # a call may take three times as long

    provider.hanging.clear()
    waiting = threading.Thread(target=job.wait, kwargs={"poll_s": 0.01}, daemon=True)
    waiting.start()
    assert provider.hanging.wait(20)
    began = time.monotonic()
    job.cancel()
    assert time.monotonic() - began < 10
    assert {b["status"] for b in provider.batches.values()} == {"cancelling"}
    provider.hangs = False
    provider.finish()
    waiting.join(20)
    assert job.done
    assert not waiting.is_alive()


def test_a_job_that_another_process_is_at_says_so(
    provider: BatchServer, predict: pn.Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pardspy_nb.runs.batch_api import job as module

    job = pn.submit_batch(predict, rows(3))
    monkeypatch.setattr(module, "_SHARED_S", 0.05)
    monkeypatch.setattr(module, "_MOST_WAIT_S", 0.05)
    with job._folder.lock(1.0):  # what another process would hold
        assert job.refresh().status == "validating"  # as it was when last seen
        with pytest.raises(pn.StoreError, match="another process is at the job"):
            job.cancel()
    job.cancel()


def test_what_no_batch_can_do_is_refused_before_anything_is_sent(
    provider: BatchServer, predict: pn.Predict, signature: pn.Signature, lm: pn.LM
) -> None:
    def words(*args: Any, error: type[Exception] = TypeError, **options: Any) -> str:
        with pytest.raises(error) as refused:
            pn.submit_batch(*args, **options)
        return str(refused.value)

    assert "no option 'rpm'" in words(predict, rows(2), rpm=3)
    assert "use run_parallel" in words(lambda review: review, rows(2))
    has_history = pn.Predict(signature, lm, history=pn.History())
    assert "without a history" in words(has_history, rows(2))
    local = pn.Predict(signature, pn.LM("local:smollm2-135m"))
    assert "use run_parallel" in words(local, rows(2), error=ValueError)
    assert "beside the store" in words(predict, rows(2), error=ValueError, store=None)
    assert "give a number" in words(predict, rows(2), error=ValueError, repeat="until decided")
    header = pn.LM("m", base_url=provider.url, extra_headers={"Authorization": "Bearer sk"})
    assert "extra_headers" in words(pn.Predict(signature, header), rows(2), error=ValueError)
    assert "unknown ['text']" in words(predict, [{"text": "x"}], error=ValueError)
    assert provider.files == {}
    assert pn.batch_jobs() == []


def test_a_damaged_job_is_named(provider: BatchServer, predict: pn.Predict) -> None:
    job = pn.submit_batch(predict, rows(2))
    (job._folder.path / "asked.pickle").write_bytes(b"no pickle")
    [found] = pn.batch_jobs()
    with pytest.raises(pn.StoreError, match=f"what the job {job.id} asked cannot be read"):
        found.df  # noqa: B018


def test_samples_and_confidence_go_through_a_batch(
    provider: BatchServer, predict: pn.Predict
) -> None:
    job = pn.submit_batch(predict, rows(3), repeat=2, confidence=True)
    [sent] = provider.files.values()
    bodies = [json.loads(line)["body"] for line in sent.splitlines()]
    assert len(bodies) == 6
    assert all(body["logprobs"] for body in bodies)
    provider.finish()
    df = job.wait(poll_s=0.01)
    assert df["sample"].tolist() == [0, 1] * 3
    assert "sentiment_confidence" in df.columns


def test_a_batch_that_is_refused_for_room_is_begun_again_once(
    provider: BatchServer, predict: pn.Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whether the connection breaks off, or another kernel is at it as well."""
    from pardspy_nb.engine.policies import RetryPolicy

    monkeypatch.setattr(client, "RetryPolicy", lambda: RetryPolicy(base_s=0.01))
    provider.room = 1
    job = pn.submit_batch(predict, rows(4), max_requests=2)
    [other] = pn.batch_jobs()
    other.use(predict)
    provider.advance()
    provider.advance()
    provider.breaks = 1
    provider.advance()
    job.refresh()
    other.refresh()
    assert len(provider.batches) == 3
    for _ in range(6):
        provider.advance()
        job.refresh()
        other.refresh()
    assert (job.status, other.status) == ("completed", "completed")
    assert sum(provider.attempts.values()) == 4
    assert (job.df["status"] == "ok").all()


@pytest.mark.slow
def test_two_kernels_begin_each_batch_once(
    provider: BatchServer, predict: pn.Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One looks at the job while the other is still submitting it."""
    from pardspy_nb.runs.batch_api.client import BatchClient

    create, looked = BatchClient.create, []

    def slowly(self: BatchClient, *args: Any) -> Any:
        if not looked:
            [other] = pn.batch_jobs()
            thread = threading.Thread(target=other.use(predict).refresh)
            looked.append(thread)
            thread.start()
            thread.join(0.3)  # it would be through by then, were it let in
        return create(self, *args)

    monkeypatch.setattr(BatchClient, "create", slowly)
    pn.submit_batch(predict, rows(4), max_requests=2)
    looked[0].join(10)
    assert len(provider.batches) == 2


def test_nothing_is_begun_after_a_cancel(provider: BatchServer, predict: pn.Predict) -> None:
    """What was refused for room stays so; a part that has just ended does not stand in the way."""
    provider.room = 1
    job = pn.submit_batch(predict, rows(6), max_requests=2)
    provider.advance()
    job.refresh()
    provider.advance()
    provider.advance()  # the first has ended by itself
    job.cancel()
    provider.room = None
    for _ in range(4):
        provider.advance()
        job.refresh()
    assert len(provider.batches) == 3
    assert job.df["status"].tolist()[:2] == ["ok", "ok"]
    assert sum(provider.attempts.values()) == 2


@pytest.mark.parametrize(
    "odd",
    [
        {"response": None, "error": "rate limited"},
        {"response": "oops"},
        {"response": ["x"]},
        {"response": {"status_code": 200, "body": "text"}},
        {"response": {"status_code": "?"}},
    ],
)
def test_an_odd_line_is_that_rows_failure(
    provider: BatchServer, predict: pn.Predict, odd: dict[str, Any]
) -> None:
    """Whatever a provider writes, the answers beside it are kept."""
    job = pn.submit_batch(predict, rows(3))
    provider.finish()
    [file] = [b["output_file_id"] for b in provider.batches.values()]
    lines = [json.loads(line) for line in provider.files[file].splitlines()]
    lines[1] = {"custom_id": lines[1]["custom_id"], **odd}
    told = [json.dumps(line) for line in lines]
    provider.files[file] = "\n".join([*told, "no json", "[1]", '{"custom_id": 3}']).encode()
    df = job.wait(poll_s=0.01)
    assert df["status"].tolist() == ["ok", "failed", "ok"]
    assert pn.run_parallel(predict, rows(3), progress="none")["cached"].sum() == 2


def test_trouble_with_the_store_or_the_files_is_only_for_now(
    provider: BatchServer, predict: pn.Predict, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Answers that could not be fetched or remembered are, the next time."""
    from pardspy_nb.runs.batch_api.results import JobResults

    job = pn.submit_batch(predict, rows(3))
    provider.finish()
    with monkeypatch.context() as broken:
        broken.setattr(JobResults, "remember", _no_store)
        with pytest.raises(pn.StoreError):
            job.refresh()
    assert not job.done
    df = job.wait(poll_s=0.01)
    assert (df["status"] == "ok").all()
    assert pn.run_parallel(predict, rows(3), progress="none")["cached"].all()


async def _no_store(self: Any, *args: Any) -> None:
    raise pn.StoreError("disk full")


def test_a_finished_job_keeps_what_was_asked_online(
    provider: BatchServer, predict: pn.Predict
) -> None:
    """Also where equal rows are asked singly, whose answers the store cannot tell apart."""
    provider.script = lambda m, attempt: Reply("status", code=400) if attempt == 1 else Reply()
    job = pn.submit_batch(predict, rows(2), dedupe=False)
    provider.finish()
    job.wait(poll_s=0.01)
    job.retry_failed(progress="none")
    assert (job.wait(poll_s=0.01)["status"] == "ok").all()
    assert (pn.batch_jobs()[-1].df["status"] == "ok").all()
    job.retry_failed(progress="none")
    assert len(provider.requests) == 2


def test_the_same_cell_run_again_pays_nothing_twice(
    provider: BatchServer, predict: pn.Predict
) -> None:
    job = pn.submit_batch(predict, rows(3))
    with pytest.raises(ValueError, match=f"the job {job.id} has the same requests under way"):
        pn.submit_batch(predict, rows(3))
    assert len(provider.batches) == len(pn.batch_jobs()) == 1
    provider.finish()
    job.wait(poll_s=0.01)
    assert pn.submit_batch(predict, rows(3)).done, "now all is remembered"


def test_a_cancel_finds_what_was_begun_without_a_note(
    provider: BatchServer, predict: pn.Predict
) -> None:
    """A kernel may die, or be interrupted, between the provider's yes and the note of it."""
    job = pn.submit_batch(predict, rows(3))
    state = job._folder.load()
    state.parts[0].batch = None  # as if the answer had never come
    job._folder.save(state)
    [found] = pn.batch_jobs()
    found.use(predict).cancel()
    assert [b["status"] for b in provider.batches.values()] == ["cancelling"]


def test_forgetting_a_job_leaves_files_that_are_not_ours(
    provider: BatchServer, predict: pn.Predict
) -> None:
    job = pn.submit_batch(predict, rows(3))
    notes = job._folder.path / "notes.txt"
    notes.write_text("mine")
    job.forget()
    assert [file.name for file in notes.parent.iterdir()] == ["notes.txt"]


def test_jobs_are_listed_by_age_and_damaged_ones_are_left_out(
    provider: BatchServer, predict: pn.Predict
) -> None:
    jobs = [pn.submit_batch(predict, [f"row-{i}"]) for i in range(4)]
    assert [job.id for job in pn.batch_jobs()] == [job.id for job in jobs]
    (jobs[1]._folder.path / "job.json").write_text("{")
    with pytest.warns(RuntimeWarning, match=jobs[1].id):
        assert len(pn.batch_jobs()) == 3


def test_what_another_kernel_fetched_is_in_the_frame(
    provider: BatchServer, predict: pn.Predict
) -> None:
    """Also where the frame was looked at before."""
    job = pn.submit_batch(predict, rows(3))
    assert (job.df["status"] == "not_run").all()
    provider.finish()
    [other] = pn.batch_jobs()
    other.use(predict).wait(poll_s=0.01)
    assert (job.wait(poll_s=0.01)["status"] == "ok").all()


def test_an_endpoint_without_a_batch_api_says_so(
    server: ScriptedServer, signature: pn.Signature
) -> None:
    lm = pn.LM("m", base_url=server.url, api_key=KEY)
    with pytest.raises(pn.LMError, match="has no batch API"):
        pn.submit_batch(pn.Predict(signature, lm), rows(2))
    [job] = pn.batch_jobs()
    job.forget()
    assert pn.batch_jobs() == []


def test_a_batch_is_found_however_many_newer_ones_there_are(
    provider: BatchServer, predict: pn.Predict
) -> None:
    job = pn.submit_batch(predict, rows(3))
    state = job._folder.load()
    state.parts[0].batch = None  # as if the kernel had died before it noted it
    job._folder.save(state)
    newer = {**provider.batches["batch_0"], "metadata": {}, "created_at": int(time.time()) + 5}
    for i in range(1, 450):
        provider.batches[f"batch_{i}"] = {**newer, "id": f"batch_{i}"}
    [found] = pn.batch_jobs()
    assert found.use(predict).refresh().status == "validating"
    assert len(provider.batches) == 450


def test_a_job_with_a_relative_store_goes_on_from_another_folder(
    provider: BatchServer,
    predict: pn.Predict,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here, there = tmp_path / "here", tmp_path / "there"
    here.mkdir()
    there.mkdir()
    monkeypatch.chdir(here)
    job = pn.submit_batch(predict, rows(3), store="mine.sqlite")
    provider.finish()
    monkeypatch.chdir(there)
    assert job.wait(poll_s=0.01)["status"].eq("ok").all()
    assert list(there.iterdir()) == []
    assert pn.run_parallel(predict, rows(3), store=here / "mine.sqlite", progress="none")[
        "cached"
    ].all()


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="Windows has no modes")
@pytest.mark.parametrize("which", ["job", "jobs", "link"])
def test_a_job_that_others_may_have_planted_is_not_read(
    provider: BatchServer, predict: pn.Predict, which: str, tmp_path: Path
) -> None:
    job = pn.submit_batch(predict, rows(3))
    folder = job._folder.path
    if which == "job":
        folder.chmod(0o755)
    elif which == "jobs":
        folder.parent.chmod(0o777)
    else:
        folder.rename(tmp_path / "elsewhere")
        folder.symlink_to(tmp_path / "elsewhere")
    [found] = pn.batch_jobs()
    with pytest.raises(pn.StoreError, match="so its jobs are not read"):
        found.df  # noqa: B018
