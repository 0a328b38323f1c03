"""Rows remembered between calls, over real HTTP and a real file."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn
from pardspy_nb.store.sqlite import Kept, Store

QUIET: dict[str, Any] = {"progress": "none"}


DEMO = {"review": "x", "sentiment": "neutral", "reason": "y"}


KEPT = Kept("words", "text", "m", "stop", 1, 2, 3, 0.5, 12.25, "source", 1.5)


def test_the_same_call_again_asks_nothing_and_says_so(
    predict: pn.Predict, server: ScriptedServer, reviews: list[str], store_path: Path
) -> None:
    first = pn.run_parallel(predict, reviews, **QUIET)
    again = pn.run_parallel(predict, reviews, **QUIET)
    assert len(server.requests) == 12
    assert not first["cached"].any()
    assert again["cached"].all()
    assert list(again["reason"]) == list(first["reason"])
    assert list(again["sentiment"]) == list(first["sentiment"])
    assert again["sentiment"].dtype == first["sentiment"].dtype
    assert again.parallel.cost == 0
    assert again["total_tokens"].sum() == 0
    for name in ("attempts", "latency_ms", "repaired"):
        assert again[name].equals(first[name]), "what is known of an answer stays known"
    assert (again["started_at"] >= first["started_at"]).all()
    assert (again["started_at"] <= again.attrs["pardspy"]["started_at"]).all(), "as of then"
    assert (again.parallel.metrics.cached, again.parallel.metrics.successes) == (12, 12)
    assert list(again["model"]) == list(first["model"])
    assert ("cached", "12") in again.parallel.summary().figures
    assert "histogram" not in again.parallel.summary()._repr_html_(), "there was no call to time"
    assert stat.S_IMODE(store_path.stat().st_mode) == 0o600


def test_only_what_is_missing_is_asked(
    predict: pn.Predict, server: ScriptedServer, reviews: list[str]
) -> None:
    """Failed rows are not remembered; new rows, samples and changed inputs are new."""
    server.script = lambda marker, attempt: Reply("status", code=400) if marker == 3 else Reply()
    pn.run_parallel(predict, reviews, max_failures=None, **QUIET)
    server.script = lambda marker, attempt: Reply()
    server.requests.clear()
    df = pn.run_parallel(predict, [*reviews, "row-50 is new"], **QUIET)
    asked = [r["messages"][-1]["content"] for r in server.requests]
    assert sorted(asked) == ["review: row-3 is a review", "review: row-50 is new"]
    assert list(df.index[~df["cached"]]) == [3, 12]

    server.requests.clear()
    df = pn.run_parallel(predict, reviews[:2], repeat=3, **QUIET)
    assert len(server.requests) == 4
    assert list(df["cached"]) == [True, False, False] * 2


@pytest.mark.parametrize(
    "other",
    [
        lambda s, lm: pn.Predict(s, lm, instructions="Be brief"),
        lambda s, lm: pn.Predict(s, lm, temperature=0.5),
        lambda s, lm: pn.Predict(s, lm, demos=[DEMO]),
        lambda s, lm: pn.Predict(s, pn.LM("other", base_url=lm._endpoint.base_url)),
        lambda s, lm: pn.Predict(s, pn.LM("gpt-4o-mini", base_url=lm._endpoint.base_url, seed=1)),
        lambda s, lm: pn.Predict(s.add_output("extra", str, optional=True), lm),
    ],
    ids=["instructions", "params", "demos", "model", "lm params", "signature"],
)
def test_what_decides_the_answer_is_part_of_the_key(
    signature: pn.Signature, lm: pn.LM, server: ScriptedServer, other: Any
) -> None:
    pn.run_parallel(pn.Predict(signature, lm), ["row-1"], **QUIET)
    df = pn.run_parallel(other(signature, lm), ["row-1"], **QUIET)
    assert not df["cached"].any()
    assert len(server.requests) == 2


def test_a_new_object_of_the_same_meaning_finds_the_answers(
    signature: pn.Signature, server: ScriptedServer
) -> None:
    """And the key of the account is no part of it."""
    for key in ("sk-one-secret", "sk-two-secret"):
        lm = pn.LM("m", base_url=server.url, api_key=key)
        df = pn.run_parallel(pn.Predict(signature, lm), ["row-1"], **QUIET)
    assert df["cached"].all()
    assert len(server.requests) == 1


def test_a_run_stopped_half_way_is_continued(
    predict: pn.Predict, server: ScriptedServer, reviews: list[str]
) -> None:
    server.script = lambda marker, attempt: Reply("stall" if marker >= 5 else "ok")
    run = pn.start_parallel(predict, reviews, max_workers=3, **QUIET)
    for done, _ in enumerate(run.iter(), 1):
        if done == 5:
            break
    run.cancel()
    run.result()
    server.script = lambda marker, attempt: Reply()
    df = pn.run_parallel(predict, reviews, **QUIET)
    assert list(df["cached"]) == [True] * 5 + [False] * 7
    assert list(df["reason"]) == [f"row-{i}" for i in range(12)]


KILLED = """
import pardspy_nb as pn
lm = pn.LM("m", base_url={url!r})
signature = pn.Signature("x").add_input("review").add_output("reason")
pn.run_parallel(pn.Predict(signature, lm), [f"row-{{i}}" for i in range(200)], max_workers=4)
"""


@pytest.mark.slow
def test_a_process_that_is_killed_loses_only_its_rows_in_flight(server: ScriptedServer) -> None:
    server.delay_s = 0.02
    program = KILLED.format(url=server.url)
    killed = subprocess.Popen([sys.executable, "-c", program], stderr=subprocess.DEVNULL)
    while len(server.requests) < 50:
        time.sleep(0.01)
    killed.kill()
    killed.wait()
    subprocess.run([sys.executable, "-c", program], check=True, stderr=subprocess.DEVNULL)
    assert set(server.attempts) == set(range(200))
    assert sum(server.attempts.values()) <= 200 + 4


@pytest.mark.parametrize("store", [None, False])
def test_store_none_remembers_nothing(
    predict: pn.Predict, server: ScriptedServer, store_path: Path, store: Any
) -> None:
    for _ in range(2):
        pn.run_parallel(predict, ["row-1"], store=store, **QUIET)
    assert len(server.requests) == 2
    assert not store_path.exists()


def test_a_path_is_used(predict: pn.Predict, server: ScriptedServer, tmp_path: Path) -> None:
    path = tmp_path / "deep" / "mine.sqlite"
    for given in (path, str(path)):
        df = pn.run_parallel(predict, ["row-1"], store=given, **QUIET)
    assert df["cached"].all()
    assert path.exists()


def test_modules_whose_answers_depend_on_more_are_not_remembered(
    signature: pn.Signature, lm: pn.LM, server: ScriptedServer, store_path: Path
) -> None:
    calls: list[int] = []

    def function(i: int) -> int:
        calls.append(i)
        return i

    chatty = pn.Predict(signature, lm, history=pn.History())
    for _ in range(2):
        assert not pn.run_parallel(function, [1], **QUIET)["cached"].any()
        assert not pn.run_parallel(chatty, ["row-1"], max_workers=1, **QUIET)["cached"].any()
    assert (calls, len(server.requests)) == ([1, 1], 2)
    assert not store_path.exists()


def test_instances_share_what_was_remembered(
    signature: pn.Signature, lm: pn.LM, server: ScriptedServer, reviews: list[str]
) -> None:
    for _ in range(2):
        three = [pn.Predict(signature, lm) for _ in range(3)]
        prediction = pn.Parallel.from_instances(three, **QUIET)(review=reviews)
    assert len(server.requests) == 12
    assert prediction.metrics is not None
    assert prediction.metrics.cached == 12


def test_a_damaged_store_is_told_before_anything_is_sent(
    predict: pn.Predict, server: ScriptedServer, tmp_path: Path
) -> None:
    path = tmp_path / "broken.sqlite"
    path.write_bytes(b"this is no database, and long enough to look like one" * 100)
    with pytest.raises(pn.StoreError, match=r"broken\.sqlite.*store="):
        pn.run_parallel(predict, ["row-1"], store=path, **QUIET)
    assert not server.requests
    assert path.read_bytes().startswith(b"this is no database")


def test_a_store_of_another_format_is_refused(predict: pn.Predict, tmp_path: Path) -> None:
    path = tmp_path / "future.sqlite"
    Store(path).close()
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    with pytest.raises(pn.StoreError, match="format 99"):
        pn.run_parallel(predict, ["row-1"], store=path, **QUIET)


def test_without_a_cache_folder_a_run_goes_on_with_a_warning(
    predict: pn.Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("PARDSPY_STORE", str(tmp_path / "file" / "answers.sqlite"))
    with pytest.warns(RuntimeWarning, match="not remembered"):
        df = pn.run_parallel(predict, ["row-1"], **QUIET)
    assert list(df["status"]) == ["ok"]


def test_a_store_that_fails_stops_the_run_and_loses_no_paid_row(
    predict: pn.Predict, reviews: list[str], store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full(self: Store, key: bytes, kept: Kept) -> None:
        raise pn.StoreError("disk full")

    monkeypatch.setattr(Store, "put", full)
    with pytest.raises(pn.RunStopped, match="disk full") as info:
        pn.run_parallel(predict, reviews, max_workers=1, **QUIET)
    assert list(info.value.df["status"]) == ["ok"] + ["not_run"] * 11
    assert info.value.df["reason"][0] == "row-0"


def test_an_answer_that_cannot_be_written_is_told_and_not_waited_for(tmp_path: Path) -> None:
    async def write() -> None:
        store = Store(tmp_path / "s.sqlite")
        with pytest.raises(pn.StoreError, match="surrogates"):
            await asyncio.wait_for(store.put(b"1", KEPT._replace(text="\ud800")), 10)
        await asyncio.wait_for(store.put(b"2", KEPT), 10)
        store.close()

    asyncio.run(write())


def test_what_is_put_is_committed_when_put_returns(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"

    async def write() -> None:
        store = Store(path)
        await asyncio.gather(*(store.put(bytes([i]), KEPT) for i in range(50)))
        other = sqlite3.connect(path)  # as another process would see it, before we close
        assert other.execute("SELECT count(*) FROM answers").fetchone() == (50,)
        other.close()
        assert store.get(bytes([7])) == KEPT
        assert store.get(b"unknown") is None
        store.close()

    asyncio.run(write())


@pytest.mark.slow
def test_a_new_file_may_be_opened_by_many_at_the_same_moment(tmp_path: Path) -> None:
    errors: list[Exception] = []

    def work(barrier: threading.Barrier, path: Path) -> None:
        barrier.wait()
        try:
            Store(path).close()
        except pn.StoreError as error:
            errors.append(error)

    for n in range(15):
        barrier = threading.Barrier(8)
        threads = [
            threading.Thread(target=work, args=(barrier, tmp_path / f"{n}.sqlite"))
            for _ in range(8)
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert errors == []


@pytest.mark.slow
def test_many_may_open_and_write_one_file_at_once(tmp_path: Path) -> None:
    path = tmp_path / "s.sqlite"
    errors: list[BaseException] = []

    def work(worker: int) -> None:
        async def write() -> None:
            store = Store(path)
            for i in range(20):
                await store.put(f"{worker}-{i}".encode(), KEPT)
            store.close()

        try:
            asyncio.run(write())
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    db = sqlite3.connect(path)
    assert db.execute("SELECT count(*) FROM answers").fetchone() == (160,)
    db.close()


def test_subclasses_that_ask_or_complete_in_their_own_way_are_not_remembered(
    signature: pn.Signature, server: ScriptedServer
) -> None:
    class Shout(pn.Predict):
        async def ask(self, inputs: Any) -> Any:
            answer = await super().ask(inputs)
            return answer._replace(outputs=answer.outputs | {"reason": "LOUD"})

    class OtherLM(pn.LM):
        async def complete(self, messages: Any, **more: Any) -> Any:
            return await super().complete(messages, **more)

    lm = pn.LM("m", base_url=server.url)
    pn.run_parallel(pn.Predict(signature, lm), ["row-1"], **QUIET)
    for module in (Shout(signature, lm), pn.Predict(signature, OtherLM("m", base_url=server.url))):
        assert not pn.run_parallel(module, ["row-1"], **QUIET)["cached"].any()
    assert len(server.requests) == 3
    cot = pn.ChainOfThought(signature, lm)
    assert cot.cache_identity is not None


def test_a_database_of_something_else_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.sqlite"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE answers (id, note)")
    before = path.read_bytes()
    with pytest.raises(pn.StoreError, match="something else"):
        Store(path)
    assert path.read_bytes() == before


@pytest.mark.parametrize("store", ["~nobody-of-this-name/x.sqlite", "nul\0byte", "."])
def test_paths_that_cannot_be_are_told(predict: pn.Predict, store: str) -> None:
    with pytest.raises(pn.StoreError, match="store"):
        pn.run_parallel(predict, ["row-1"], store=store, **QUIET)


def test_odd_words_of_an_endpoint_are_remembered_as_text(predict: pn.Predict) -> None:
    class Odd:
        cache_identity = {"model": "odd"}  # noqa: RUF012 - a constant

        async def complete(self, messages: Any, **more: Any) -> pn.Completion:
            usage = pn.Usage(2**64, 1, 1)
            return pn.Completion('{"b": "x"}', usage, "m\ud800", "stop")

    module = pn.Predict("a -> b", Odd())
    for cached in (False, True):
        df = pn.run_parallel(module, ["x"], **QUIET)
        assert (df["cached"][0], df["b"][0]) == (cached, "x")
