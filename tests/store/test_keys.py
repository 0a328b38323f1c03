"""Equal rows, functions with a cache key, and what is in a key."""

from __future__ import annotations

import asyncio
from datetime import datetime
from decimal import Decimal
from enum import Enum
from typing import Any

import pytest
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn

QUIET: dict[str, Any] = {"progress": "none"}


@pytest.mark.parametrize("workers", [1, 8])
@pytest.mark.parametrize("store", [True, None])
def test_equal_rows_of_a_run_are_asked_once(
    predict: pn.Predict, server: ScriptedServer, store: Any, workers: int
) -> None:
    """Whether they come while the first is under way or when it is done."""
    server.latency_s = lambda marker: 0.02
    rows = [f"row-{i % 4}" for i in range(40)]
    df = pn.run_parallel(predict, rows, max_workers=workers, store=store, **QUIET)
    assert sorted(server.attempts.items()) == [(i, 1) for i in range(4)]
    assert list(df["reason"]) == rows
    assert df["cached"].sum() == 36
    assert df.loc[df["cached"], "cost_usd"].eq(0).all()
    assert df.parallel.metrics.saved.total_tokens == 36 * 18
    assert int(df["total_tokens"].sum()) == server.billed_prompt + server.billed_completion


@pytest.mark.parametrize("store", [True, None])
def test_equal_rows_are_asked_singly_if_you_say_so(
    predict: pn.Predict, server: ScriptedServer, store: Any
) -> None:
    rows = [f"row-{i % 2}" for i in range(6)]
    df = pn.run_parallel(predict, rows, dedupe=False, store=store, **QUIET)
    assert not df["cached"].any()
    assert dict(server.attempts) == {0: 3, 1: 3}
    server.requests.clear()
    again = pn.run_parallel(predict, [*rows, "row-1"], dedupe=False, store=store, **QUIET)
    assert again["cached"].tolist() == ([True] * 6 + [False] if store else [False] * 7)


def test_samples_of_a_repeat_are_never_shared(predict: pn.Predict, server: ScriptedServer) -> None:
    df = pn.run_parallel(predict, ["row-1", "row-1"], repeat=3, **QUIET)
    assert len(server.requests) == 3
    assert df["cached"].sum() == 3


def test_equal_rows_share_a_failure_and_retry_together(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    server.script = lambda marker, attempt: Reply("status", code=400, message="prompt is too long")
    df = pn.run_parallel(predict, ["row-1"] * 5, max_failures=None, **QUIET)
    assert len(server.requests) == 1
    assert (df["status"] == "failed").all()
    assert (df["error_type"] == "ContextLengthError").all()
    server.script = lambda marker, attempt: Reply()
    df.parallel.retry_failed()
    assert len(server.requests) == 2
    assert (df["status"] == "ok").all()


def test_a_function_takes_part_with_a_cache_key() -> None:
    calls: list[int] = []

    def double(x: int) -> dict[str, Any]:
        calls.append(x)
        return {"twice": 2 * x, "words": ["a", {"b": None}], "half": x / 2}

    options = QUIET | {"cache_key": "v1"}
    first = pn.run_parallel(double, [1, 2, 2], **options)
    again = pn.run_parallel(double, [1, 2, 3], **options)
    assert calls == [1, 2, 3]
    assert again["cached"].tolist() == [True, True, False]
    assert again["twice"].tolist() == [2, 4, 6]
    assert again["words"][0] == first["words"][0]
    assert again["half"].dtype == first["half"].dtype
    pn.run_parallel(double, [1], progress="none", cache_key="v2")
    pn.run_parallel(double, [1], progress="none")
    assert calls == [1, 2, 3, 1, 1]


def test_a_key_of_its_own_makes_a_set_of_its_own_for_predict(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    for key in (None, "b", "b", None):
        pn.run_parallel(predict, ["row-1"], cache_key=key, **QUIET)
    assert len(server.requests) == 2


def test_a_subclass_and_typed_outputs_come_back_as_they_were(
    lm: pn.LM, server: ScriptedServer
) -> None:
    class Mood(Enum):
        GOOD = "positive"
        SO_SO = "neutral"
        BAD = "negative"

    class Shout(pn.Predict):
        async def ask(self, inputs: Any) -> Any:
            answer = await super().ask(inputs)
            return answer._replace(outputs=answer.outputs | {"reason": "LOUD"})

    signature = pn.Signature("x").add_input("review").add_output("reason")
    module = Shout(signature.add_output("sentiment", Mood), lm)
    first, again = (pn.run_parallel(module, ["row-1"], cache_key="v1", **QUIET) for _ in range(2))
    assert again["cached"].all()
    assert again["reason"][0] == "LOUD"
    assert again["sentiment"].equals(first["sentiment"])
    assert again.dtypes.equals(first.dtypes)


def test_what_json_does_not_give_back_is_not_remembered_and_said_once() -> None:
    async def pair(x: int) -> dict[str, Any]:
        await asyncio.sleep(0)
        return {"pair": (x, x)}

    for _ in range(2):
        with pytest.warns(RuntimeWarning, match="'pair' is a tuple") as told:
            df = pn.run_parallel(pair, [1, 2, 3], cache_key="v1", **QUIET)
        assert not df["cached"].any()
        assert df["pair"][2] == (3, 3)
        assert len(told) == 1


@pytest.mark.parametrize("bad", ["", 3])
def test_a_cache_key_that_is_none_is_refused(bad: Any) -> None:
    with pytest.raises(ValueError, match="cache_key"):
        pn.run_parallel(lambda x: x, [1], cache_key=bad)


@pytest.mark.parametrize(("option", "value"), [("max_cost_usd", -1), ("on_budget", "ignore")])
def test_options_of_money_are_checked(option: str, value: Any) -> None:
    with pytest.raises(ValueError, match=option):
        pn.Options(**{option: value})


def test_dates_and_arrays_are_words_of_a_key() -> None:
    import numpy as np

    calls: list[Any] = []

    def function(x: Any) -> int:
        calls.append(x)
        return 1

    values = [datetime(2026, 1, 1), np.int64(3), np.array([1, 2]), datetime(2026, 1, 2)]
    for _ in range(2):
        pn.run_parallel(function, [{"x": v} for v in values], cache_key="v1", **QUIET)
    assert len(calls) == 4
    for _ in range(2):  # what has no words is asked each time
        pn.run_parallel(function, [{"x": object()}], cache_key="v1", **QUIET)
    assert len(calls) == 6


def test_one_output_that_no_file_takes_does_not_cost_the_others() -> None:
    calls: list[int] = []

    async def function(x: int) -> str:
        calls.append(x)
        await asyncio.sleep(0.01)
        return "bad \ud800" if x == 3 else "ok"

    for _ in range(2):
        df = pn.run_parallel(function, list(range(50)), cache_key="v1", max_workers=16, **QUIET)
    assert df["cached"].all(), "JSON spells it out"
    assert calls == list(range(50))


def test_an_output_of_another_type_than_declared_is_not_remembered() -> None:
    class Odd:
        signature = pn.Signature("x").add_input("x", int).add_output("y", int)

        async def acall(self, x: int) -> dict[str, Any]:
            return {"y": object()}

    with pytest.warns(RuntimeWarning, match="not remembered"):
        df = pn.run_parallel(Odd(), [1, 2], cache_key="v1", **QUIET)
    assert (df["status"] == "ok").all()


def test_instances_that_are_not_alike_do_not_share_answers(
    signature: pn.Signature, server: ScriptedServer
) -> None:
    def a(x: str) -> str:
        return "A:" + x

    def b(x: str) -> str:
        return "B:" + x

    parallel = pn.Parallel.from_instances([a, b], cache_key="v1", **QUIET)
    for _ in range(2):
        df = parallel(["q", "q", "z", "z"]).to_frame()
        assert df["output"].tolist() == ["A:q", "B:q", "A:z", "B:z"]
    assert df["cached"].all()

    class Own(pn.Predict):
        async def ask(self, inputs: Any) -> Any:
            return await super().ask(inputs)

    models = [Own(signature, pn.LM(name, base_url=server.url)) for name in "mn"]
    df = pn.Parallel.from_instances(models, cache_key="v1", **QUIET)(["row-1"] * 2).to_frame()
    assert df["model"].tolist() == ["m", "n"]
    about = df.attrs["pardspy"]
    places = {about["sources"][s]["model"]: of for s, of in about["rows_by_source"].items()}
    assert places == {"m": "0", "n": "1"}


@pytest.mark.parametrize("method", ["complete", "request", "read"])
def test_an_lm_that_asks_in_a_way_of_its_own_is_not_remembered(method: str) -> None:
    own = type("Own", (pn.LM,), {method: lambda *args, **more: None})
    assert own("m", base_url="http://127.0.0.1:9/v1").cache_identity is None


def test_inputs_that_json_confuses_have_keys_of_their_own() -> None:
    values = [
        {1: "a"},
        {"1": "a"},
        (1, 2),
        [1, 2],
        True,
        1,
        "1",
        None,
        "None",
        Decimal("1"),
        b"1",
        datetime(2026, 1, 1),
        "2026-01-01 00:00:00",
    ]
    rows = [{"x": value} for value in values]
    for _ in range(2):
        df = pn.run_parallel(repr_of, rows, cache_key="v1", blank="ask", **QUIET)
        assert df["output"].tolist() == [repr(value) for value in values]
    assert df["cached"].all()


def repr_of(x: Any) -> str:
    return repr(x)


@pytest.mark.parametrize("store", [True, None])
def test_equal_rows_do_not_share_what_can_be_changed(store: Any) -> None:
    async def tags(x: int) -> dict[str, Any]:
        await asyncio.sleep(0.01)
        return {"tags": ["a"]}

    df = pn.run_parallel(tags, [1, 1, 1], cache_key="v1", store=store, max_workers=1, **QUIET)
    together = pn.run_parallel(tags, [2, 2, 2], cache_key="v1", store=store, **QUIET)
    for frame in (df, together):
        frame["tags"][0].append("b")
        frame["tags"][1].append("c")
        assert frame["tags"].tolist() == [["a", "b"], ["a", "c"], ["a"]]


def test_a_slash_at_the_end_of_a_url_is_no_other_endpoint(
    signature: pn.Signature, server: ScriptedServer
) -> None:
    for url in (server.url, server.url + "/"):
        df = pn.run_parallel(pn.Predict(signature, pn.LM("m", base_url=url)), ["row-1"], **QUIET)
    assert df["cached"].all()


def test_equal_rows_on_lanes_are_asked_once(lm: pn.LM, server: ScriptedServer) -> None:
    signature = pn.Signature("x").add_input("review").add_output("reason")
    server.latency_s = lambda marker: 0.5 if marker == 90 else 0.001
    rows = [f"row-{91 if i == 92 else i}" for i in range(130)]
    two = [pn.Predict(signature, lm) for _ in range(2)]
    pn.Parallel.from_instances(two, **QUIET)(rows)
    assert server.attempts[91] == 1


def test_what_a_row_had_cost_includes_its_failed_attempts(
    predict: pn.Predict, server: ScriptedServer, fast_retries: None
) -> None:
    server.script = lambda marker, attempt: Reply("garbage" if attempt < 3 else "ok")
    first = pn.estimate(predict, [f"row-{i}" for i in range(30)], sample=10, **QUIET)
    second = pn.estimate(predict, [f"row-{i}" for i in range(30)], sample=10, **QUIET)
    assert first.tokens == second.tokens == (1080, 1080, 1080)
    saved = pn.run_parallel(predict, ["row-1"] * 3, **QUIET).parallel.metrics.saved
    assert saved.total_tokens in (2 * 54, 3 * 54)
