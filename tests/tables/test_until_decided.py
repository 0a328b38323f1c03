"""How many samples a vote needs."""

from __future__ import annotations

import itertools
import json
from collections import Counter
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn
from pardspy_nb.tables.until_decided import is_decided, needed

LABELS = ["positive", "neutral", "negative"]


QUIET: dict[str, Any] = {"progress": "none", "store": None}


def leaders(votes: list[str]) -> set[str]:
    counts = Counter(votes)
    return {label for label, n in counts.items() if n == max(counts.values())}


def could_change(votes: list[str], left: int) -> bool:
    """Whether any way to cast the votes left, none included, ends without the same single winner:
    by trying all of them."""
    ends = [
        leaders([*votes, *(v for v in more if v)])
        for more in itertools.product([*LABELS, "another", None], repeat=left)
    ]
    return any(end != ends[0] or len(end) != 1 for end in ends)


@given(st.lists(st.sampled_from(LABELS), max_size=6), st.integers(1, 4))
def test_a_vote_is_decided_once_no_way_to_go_on_changes_it(votes: list[str], left: int) -> None:
    assert is_decided(Counter(votes), left) == (not could_change(votes, left))


@given(st.lists(st.sampled_from(LABELS), max_size=6), st.integers(1, 5))
def test_no_sample_is_asked_that_cannot_matter(votes: list[str], left: int) -> None:
    """The fewest further votes after which it may be decided, by trying all numbers."""
    if is_decided(Counter(votes), left):
        return
    ways = (
        n
        for n in range(1, left + 1)
        if any(
            is_decided(Counter([*votes, *more]), left - n)
            for more in itertools.product(LABELS, repeat=n)
        )
    )
    assert needed(Counter(votes), left) == next(ways)


# what the k-th sample of a row says
SAID = {
    0: [0, 0, 0, 1, 1],  # decided after three
    1: [0, 1, 0, 0, 2],  # after four
    2: [0, 1, 0, 1, 2],  # a tie after five
    3: [0, 1, 2, 1, 1],  # after five
}


@pytest.fixture
def voters(server: ScriptedServer) -> ScriptedServer:
    server.script = lambda marker, attempt: Reply(label=SAID[marker % 4][(attempt - 1) % 5])
    return server


def test_a_row_has_as_many_samples_as_its_vote_needs(
    predict: pn.Predict, voters: ScriptedServer
) -> None:
    rows = {"review": [f"row-{i}" for i in range(40)]}
    df = pn.run_parallel(predict, rows, repeat="until decided", max_workers=8, **QUIET)
    samples = df.groupby("review", sort=False)["sample"].agg(list)
    assert list(samples.index) == rows["review"]
    assert samples.map(len).tolist() == [3, 4, 5, 5] * 10
    assert all(of == list(range(len(of))) for of in samples)
    assert voters.attempts == Counter({i: [3, 4, 5, 5][i % 4] for i in range(40)})
    voted = df.parallel.vote("sentiment")
    assert list(voted["sentiment"][:4]) == ["positive", "positive", "positive", "neutral"]
    assert list(voted["tied"][:4]) == [False, False, True, False]
    whole = pn.run_parallel(predict, {"review": ["row-0"]}, repeat=5, **QUIET)
    assert len(whole) == 5


def test_the_store_pays_for_no_sample_twice(predict: pn.Predict, voters: ScriptedServer) -> None:
    rows = {"review": [f"row-{i}" for i in range(8)]}
    options: dict[str, Any] = {"repeat": pn.UntilDecided(most=5), "progress": "none"}
    first = pn.run_parallel(predict, rows, max_workers=1, **options)
    asked = len(voters.requests)
    second = pn.run_parallel(predict, rows, **options)
    assert len(voters.requests) == asked
    assert list(second["sentiment"]) == list(first["sentiment"])


def test_failed_samples_have_no_vote_and_the_others_decide(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    def script(marker: int, attempt: int) -> Reply:
        return Reply("status", code=413) if attempt == 1 else Reply(label=0)

    server.script = script
    df = pn.run_parallel(
        predict, ["row-0"], repeat="until decided", max_failures=None, max_workers=1, **QUIET
    )
    assert list(df["status"]) == ["failed", "ok", "ok", "ok"]


def test_a_run_that_is_stopped_names_the_rows_it_did_not_reach(
    predict: pn.Predict, voters: ScriptedServer
) -> None:
    import threading

    voters.gate = threading.Event()
    run = pn.start_parallel(
        predict,
        {"review": [f"row-{i}" for i in range(10)]},
        repeat="until decided",
        max_workers=2,
        **QUIET,
    )
    while voters.in_flight < 2:
        assert not run.done
    run.cancel()
    df = run.result()
    voters.gate.set()
    assert df["review"].nunique() == 10
    assert set(df["status"]) == {"cancelled", "not_run"}
    assert len(df) == 30


def test_what_cannot_be_decided_is_refused(predict: pn.Predict, lm: pn.LM) -> None:
    with pytest.raises(ValueError, match="class outputs"):
        pn.run_parallel(lambda review: review, ["a"], repeat="until decided", **QUIET)
    with pytest.raises(ValueError, match="mood"):
        pn.run_parallel(predict, ["a"], repeat=pn.UntilDecided(of="mood"), **QUIET)
    with pytest.raises(ValueError, match="at least 2"):
        pn.UntilDecided(most=1)
    with pytest.raises(ValueError, match="or 'until decided'"):
        pn.run_parallel(predict, ["a"], repeat="until bored", **QUIET)
    assert len(pn.run_parallel(predict, [], repeat="until decided", **QUIET)) == 0


def test_a_missing_label_is_no_vote_and_neither_is_what_cannot_be_counted(
    lm: pn.LM, server: ScriptedServer
) -> None:
    said = [None, None, None, "a", "a"]
    server.script = lambda marker, attempt: Reply(content=json.dumps({"label": said[attempt - 1]}))
    label = (
        pn.Signature("S").add_input("review").add_class_output("label", ["a", "b"], optional=True)
    )
    df = pn.run_parallel(
        pn.Predict(label, lm), ["row-5"], repeat="until decided", max_workers=1, **QUIET
    )
    assert len(df) == 5
    assert df.parallel.vote("label")["label"].tolist() == ["a"]
    lists = pn.run_parallel(
        lambda x: {"label": [1]}, {"x": [1, 2]}, repeat=pn.UntilDecided(of="label"), **QUIET
    )
    assert lists["status"].eq("ok").all()
    assert len(lists) == 10


def test_a_share_of_failures_and_true_labels_hold_for_samples_too(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    rows = [{"review": f"row-{i}"} for i in range(20)]
    truth = [LABELS[i % 3] for i in range(20)]
    df = pn.run_parallel(predict, rows, repeat="until decided", truth=truth, **QUIET)
    assert df.parallel.metrics.judged == {"sentiment": (60, 60)}
    server.script = lambda marker, attempt: Reply("status", code=400)
    before = len(server.requests)
    with pytest.raises(pn.TooManyFailures):
        pn.run_parallel(
            predict, rows, repeat="until decided", max_failures=0.1, max_workers=1, **QUIET
        )
    assert len(server.requests) - before == 7  # more than a tenth of the 60 there are at least


def test_a_stream_that_waits_holds_up_nobody(predict: pn.Predict, server: ScriptedServer) -> None:
    import queue
    import time

    rows: queue.Queue[dict[str, str]] = queue.Queue()

    def stream() -> Iterator[dict[str, str]]:
        while True:
            yield rows.get()

    rows.put({"review": "row-0"})
    run = pn.start_parallel(predict, stream(), repeat="until decided", **QUIET)
    for n, _ in enumerate(run.iter(), start=1):
        if n == 3:
            break
    began = time.monotonic()
    run.cancel()
    assert len(run.result()) == 3
    assert time.monotonic() - began < 1.0
