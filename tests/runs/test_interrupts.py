"""Cancels and interrupts at any moment."""

from __future__ import annotations

import asyncio
import os
import threading
import time
from pathlib import Path
from typing import Any

import pytest
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn

QUIET: dict[str, Any] = {"progress": "none", "store": None}


def test_cancel_returns_the_frame_as_it_stands(
    predict: pn.Predict, server: ScriptedServer, reviews: list[str], capsys: Any
) -> None:
    server.script = lambda marker, attempt: Reply("stall" if marker >= 2 else "ok")
    run = pn.start_parallel(predict, reviews, max_workers=2, **QUIET)
    completions = run.iter()
    got = {next(completions).reason, next(completions).reason}
    run.cancel()
    df = run.result()
    assert got == {"row-0", "row-1"}
    assert list(df["status"]) == ["ok"] * 2 + ["cancelled"] * 2 + ["not_run"] * 8
    assert "Stopped before the end: 2 of 12 rows" in capsys.readouterr().err


def test_a_keyboard_interrupt_returns_the_partial_frame(
    predict: pn.Predict, server: ScriptedServer, reviews: list[str]
) -> None:
    import _thread

    server.script = lambda marker, attempt: Reply("stall" if marker >= 2 else "ok")

    def interrupt(event: Any) -> None:
        if type(event).__name__ == "RowStarted" and event.row.number == 3:
            _thread.interrupt_main()

    df = pn.run_parallel(predict, reviews, max_workers=2, progress=interrupt)
    assert list(df["status"][:4]) == ["ok", "ok", "cancelled", "cancelled"]


def test_an_interrupt_is_answered_though_a_module_blocks_the_loop() -> None:
    """An async function that never awaits holds the engine's thread; the frame comes anyway."""
    import _thread

    release, blocked = threading.Event(), threading.Event()
    called: list[int] = []

    async def rude(i: int) -> int:
        called.append(i)
        if i == 2:
            blocked.set()
            release.wait(30)
        return i

    def interrupt() -> None:
        blocked.wait(10)
        _thread.interrupt_main()

    threading.Thread(target=interrupt).start()
    df = pn.run_parallel(rude, list(range(9)), max_workers=2, **QUIET)
    assert not release.is_set()
    release.set()
    assert list(df["i"]) == list(range(9))
    assert df["status"][2] == "cancelled"
    assert set(df["status"][3:]) == {"not_run"}
    until = time.monotonic() + 5
    while any(t.name == "pardspy-run" for t in threading.enumerate()):
        assert time.monotonic() < until, "the engine's thread did not end"
        time.sleep(0.02)
    assert 3 not in called, "a row was started after the interrupt"


def test_a_module_that_blocks_the_loop_is_not_called_again_after_an_interrupt() -> None:
    import _thread

    called: list[int] = []

    async def rude(i: int) -> int:
        called.append(i)
        if i == 2:
            _thread.interrupt_main()
        time.sleep(0.1)  # that it blocks is the point
        return i

    df = pn.run_parallel(rude, list(range(40)), max_workers=2, **QUIET)
    assert len(called) <= 4
    assert len(df) == 40


def test_an_interrupt_at_the_very_start_ends_the_run_all_the_same(
    predict: pn.Predict, reviews: list[str], server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    from pardspy_nb.runs.engine_thread import EngineThread

    start = EngineThread.start

    def interrupted(self: EngineThread) -> None:
        start(self)
        raise KeyboardInterrupt

    server.delay_s = 0.2
    monkeypatch.setattr(EngineThread, "start", interrupted)
    df = pn.run_parallel(predict, reviews * 20, max_workers=2, **QUIET)
    assert len(df) == 240
    assert (df["status"] == "not_run").sum() > 200


def test_cancel_while_an_embedded_model_starts_ends_the_run(signature: pn.Signature) -> None:
    class Slow:
        starting = threading.Event()

        async def prepare(self) -> None:
            self.starting.set()
            await asyncio.sleep(60)

        async def complete(self, messages: Any, **more: Any) -> pn.Completion:
            raise AssertionError("nothing may be asked")

    lm = Slow()
    run = pn.start_parallel(pn.Predict(signature, lm), ["a", "b"], **QUIET)
    assert lm.starting.wait(10)
    run.pause()  # steering before there are rows is heard, and nobody waits for it
    run.cancel()
    assert list(run.result()["status"]) == ["not_run", "not_run"]


def test_stragglers_can_be_dropped(predict: pn.Predict, server: ScriptedServer) -> None:
    server.script = lambda marker, attempt: Reply("stall" if marker == 1 else "ok")
    run = pn.start_parallel(predict, [f"row-{i}" for i in range(9)], **QUIET)
    while run.metrics.successes < 8:
        pass
    run.drop_stragglers()
    assert list(run.result()["status"]) == ["ok", "cancelled"] + ["ok"] * 7


@pytest.mark.slow
def test_interrupts_at_any_moment_lose_no_row() -> None:
    """Before, during and after the rows are entered, and while the frame is built."""
    import random
    import signal

    async def same(i: int) -> int:
        return i

    noise, hits = random.Random(5), 0
    pn.run_parallel(same, [1], **QUIET)  # what is imported at first use, is
    for _ in range(25):
        timer = threading.Timer(
            noise.uniform(0.001, 0.2), lambda: os.kill(os.getpid(), signal.SIGINT)
        )
        try:
            run = pn.start_parallel(same, list(range(4000)), **QUIET)
            timer.start()
            df = run.result()
            timer.cancel()
            timer.join()
        except KeyboardInterrupt:  # it came too early or too late for the call
            df = run.result()
        hits += (df["status"] == "not_run").any()
        assert list(df["i"]) == list(range(4000))
        ok = df["status"] == "ok"
        assert df["output"][ok].tolist() == df["i"][ok].tolist()
        assert df.parallel.metrics.successes == ok.sum()
    assert hits, "no interrupt met a run"


@pytest.mark.slow
def test_a_large_table_that_is_cancelled_keeps_every_row() -> None:
    async def nap(i: int) -> int:
        await asyncio.sleep(0.05)
        return i

    run = pn.start_parallel(nap, list(range(400_000)), max_workers=8, **QUIET)
    while run.metrics.successes < 8:
        time.sleep(0.01)
    run.cancel()
    df = run.result()
    assert len(df) == 400_000
    assert df["i"].is_monotonic_increasing
    assert set(df["status"][-100:]) == {"not_run"}
    assert df.parallel.metrics.max_in_flight == 8


def test_a_cancel_is_not_kept_waiting_by_a_store_that_cannot_close(
    predict: pn.Predict, server: ScriptedServer, reviews: list[str], store_path: Path
) -> None:
    """And the run's own end, here FailFast, is told."""
    import sqlite3

    server.script = lambda marker, attempt: Reply("status", code=400) if marker == 0 else Reply()
    pn.run_parallel(predict, ["row-99"], progress="none")
    other = sqlite3.connect(store_path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    run = pn.start_parallel(predict, reviews, max_workers=3, fail_fast=True, progress="none")
    time.sleep(0.5)
    begin = time.monotonic()
    run.cancel()
    with pytest.raises(pn.FailFast):
        run.result()
    assert time.monotonic() - begin < 2
    other.close()


def test_what_a_blocked_row_was_billed_before_is_kept() -> None:
    blocked, release = threading.Event(), threading.Event()
    attempts: list[int] = []

    class Billed(Exception):
        retryable, retry_after_s, usage = True, 0.01, pn.Usage(10, 5, 15, 0.25)

    class Module:
        async def acall(self, i: int) -> int:
            attempts.append(i)
            if len(attempts) < 3:
                raise Billed
            blocked.set()
            release.wait(30)
            return i

    run = pn.start_parallel(Module(), [1], **QUIET)
    assert blocked.wait(10)
    run.cancel()
    df = run.result()
    release.set()
    assert list(df["status"]) == ["cancelled"]
    assert (df["attempts"][0], df["cost_usd"][0], df["error_type"][0]) == (3, 0.5, "Billed")
    assert df.parallel.cost == 0.5
