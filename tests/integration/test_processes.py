"""A module in other processes, and in a process without a console."""

from __future__ import annotations

import multiprocessing
import pickle
import subprocess
import sys
from typing import Any

import pytest
from support.scripted_server import ScriptedServer

import pardspy_nb as pn

QUIET: Any = {"store": None, "progress": "none"}


@pytest.mark.skipif(
    "fork" not in multiprocessing.get_all_start_methods(), reason="this system cannot fork"
)
def test_a_forked_process_works_after_a_call_in_its_parent(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    """multiprocessing forks on Linux up to Python 3.13, and so do servers such as gunicorn."""
    assert predict(review="row-1").reason == "row-1"
    pn.run_parallel(predict, ["row-1"], **QUIET)
    context = multiprocessing.get_context("fork")
    answers = context.Queue()

    def child(i: int) -> None:
        reason = predict(review=f"row-{i}").reason
        answers.put((reason, list(pn.run_parallel(predict, [f"row-{i}"] * 2, **QUIET)["reason"])))

    children = [context.Process(target=child, args=(i,)) for i in (2, 3)]
    for process in children:
        process.start()
    found = sorted(answers.get(timeout=60) for _ in children)
    for process in children:
        process.join(30)
    assert found == [(f"row-{i}", [f"row-{i}"] * 2) for i in (2, 3)]
    assert [process.exitcode for process in children] == [0, 0]
    assert predict(review="row-4").reason == "row-4", "the parent goes on"


def test_a_predict_can_be_pickled(predict: pn.Predict) -> None:
    for module in (predict, pn.Predict(predict.signature, predict.lm, confidence=True)):
        again = pickle.loads(pickle.dumps(module))
        assert again.fixed == module.fixed
        assert again(review="row-5").reason == "row-5"


def test_a_process_without_standard_error_shows_nothing_and_works(server: ScriptedServer) -> None:
    program = f"""
import sys
sys.stderr = None
import pardspy_nb as pn
lm = pn.LM("gpt-4o-mini", base_url={server.url!r}, api_key="key")
predict = pn.Predict("review -> sentiment: Literal['positive','neutral','negative'], reason", lm)
for progress in ("auto", "tqdm", "none"):
    df = pn.run_parallel(predict, ["row-1", ""], store=None, progress=progress)
    assert list(df["status"]) == ["ok", "skipped"]
print("done")
"""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, timeout=120, check=True
    )
    assert done.stdout == "done\n"
