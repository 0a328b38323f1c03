"""What a run costs, checked against the server's own count; and the limit it never exceeds."""

from __future__ import annotations

import json
import random
from collections import Counter
from typing import Annotated, Any

import pandas as pd
import pytest
from pydantic import AfterValidator
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn
from pardspy_nb.llm.response import read_usage

QUIET: dict[str, Any] = {"progress": "none", "store": None}


ROW_USD = (11 * 0.15 + 7 * 0.6) / 1e6  # of the server's usual answer, at the price of gpt-4o-mini


def billed_usd(server: ScriptedServer) -> float:
    """What the server's own log comes to, at the price of gpt-4o-mini."""
    fresh = server.billed_prompt - server.billed_cached
    return (fresh * 0.15 + server.billed_cached * 0.075 + server.billed_completion * 0.6) / 1e6


def storm(marker: int, attempt: int) -> Reply:
    """Every kind of trouble, each row and attempt with a usage of its own."""
    dice = random.Random(marker * 100 + attempt)
    prompt = dice.randint(50, 5000)
    usage = {"usage": (prompt, dice.randint(1, 90), dice.choice([0, prompt // 2, prompt]))}
    kind = dice.choices(
        ["ok", "status", "garbage", "wrong_label", "length", "reset"], [60, 15, 9, 6, 5, 5]
    )[0]
    if kind == "status":
        return Reply("status", code=dice.choice([429, 500]), **usage)
    return Reply(kind, **usage)


def test_the_cost_of_a_run_is_that_of_the_servers_log_to_the_last_token(
    predict: pn.Predict, server: ScriptedServer, fast_retries: None
) -> None:
    """With retries, invalid answers, failed rows and prompts the provider had cached."""
    server.script = storm
    df = pn.run_parallel(
        predict, [f"row-{i}" for i in range(300)], max_failures=None, max_workers=64, **QUIET
    )
    assert (df["status"] == "failed").any()
    assert df["attempts"].max() > 1
    assert int(df["prompt_tokens"].sum()) == server.billed_prompt
    assert int(df["completion_tokens"].sum()) == server.billed_completion
    assert df["cost_usd"].sum() == pytest.approx(billed_usd(server), rel=1e-9)
    assert df.parallel.cost == pytest.approx(billed_usd(server), rel=1e-9)
    assert server.billed_cached > 0


def budget(server: ScriptedServer, signature: pn.Signature, usd: float, **more: Any) -> Any:
    lm = pn.LM("gpt-4o-mini", base_url=server.url, max_tokens=more.pop("max_tokens", 20))
    options = QUIET | {"max_workers": 256, "max_failures": None, "max_cost_usd": usd} | more
    rows = [f"row-{i} is a review" for i in range(1000)]
    return pn.run_parallel(pn.Predict(signature, lm), rows, **options)


@pytest.mark.parametrize("max_tokens", [None, 20, 100])
def test_a_budget_for_100_rows_is_never_exceeded_with_256_in_flight(
    server: ScriptedServer, signature: pn.Signature, max_tokens: int | None
) -> None:
    server.latency_s = lambda marker: 0.001 * (marker % 7)
    with pytest.raises(pn.BudgetExceeded, match=r"max_cost_usd=0\.000585") as info:
        budget(server, signature, 100 * ROW_USD, max_tokens=max_tokens)
    df = info.value.df
    assert len(df) == 1000
    done = int((df["status"] == "ok").sum())
    assert 0 < done <= 100
    assert (df["status"] == "not_run").sum() == 1000 - done
    assert billed_usd(server) <= 100 * ROW_USD
    assert df.parallel.cost == pytest.approx(billed_usd(server))


def test_a_budget_is_used_up_to_one_requests_worst_case(
    server: ScriptedServer, signature: pn.Signature
) -> None:
    server.script = lambda marker, attempt: Reply(usage=(700, 100, 0))  # near the bound
    row_usd = (700 * 0.15 + 100 * 0.6) / 1e6
    df = budget(server, signature, 100 * row_usd, max_tokens=100, on_budget="return")
    assert 95 <= (df["status"] == "ok").sum() <= 100
    assert billed_usd(server) <= 100 * row_usd
    assert df.attrs["pardspy"]["ended"] == "budget"
    assert "max_cost_usd" in df.parallel.summary().notice


@pytest.mark.slow
def test_answers_have_a_bound_where_the_lm_names_none(
    server: ScriptedServer, signature: pn.Signature
) -> None:
    budget(server, signature, 10.0, max_tokens=None)
    budget(server, signature, 0.006, max_tokens=None, on_budget="return")
    budget(server, signature, 10.0, max_tokens=33)
    caps = {request["max_tokens"] for request in server.requests}
    assert caps == {4096, 2500, 33}, "or what a quarter of the budget pays"
    server.requests.clear()
    pn.run_parallel(pn.Predict(signature, pn.LM("m", base_url=server.url)), ["row-1"], **QUIET)
    assert "max_tokens" not in server.requests[0]


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(3))
def test_storms_do_not_break_a_budget(
    server: ScriptedServer, signature: pn.Signature, fast_retries: None, seed: int
) -> None:
    """429, 500, resets, and stalls that the server bills although nobody waits any more."""

    def script(marker: int, attempt: int) -> Reply:
        dice = random.Random(seed * 1_000_000 + marker * 100 + attempt)
        kind = dice.choices(["ok", "status", "stall", "garbage", "reset"], [50, 20, 10, 10, 10])[0]
        usage = (dice.randint(300, 700), dice.randint(1, 100), 0)
        if kind == "stall":
            # billed, whoever has hung up
            server.billed_prompt += usage[0]
            server.billed_completion += usage[1]
        more = {"code": dice.choice([429, 500])} if kind == "status" else {}
        return Reply(kind, usage=usage, **more)

    server.script = script
    limit = 0.02
    df = budget(
        server, signature, limit, max_tokens=100, max_workers=48, timeout_s=0.7, on_budget="return"
    )
    assert (df["status"] == "ok").sum() > 20
    assert (df["status"] == "not_run").any()
    assert 0 < billed_usd(server) <= limit


def test_what_may_have_been_billed_is_held_and_said(
    server: ScriptedServer, signature: pn.Signature
) -> None:
    server.script = lambda marker, attempt: Reply("stall" if marker < 3 else "ok")
    with pytest.raises(pn.BudgetExceeded, match="held for attempts that may be billed"):
        budget(server, signature, 0.001, max_workers=3, timeout_s=0.1, max_attempts=1)


def test_an_answer_that_does_not_say_what_it_used_keeps_its_reservation(
    server: ScriptedServer, signature: pn.Signature
) -> None:
    server.script = lambda marker, attempt: Reply("no_usage")
    df = budget(server, signature, 0.01, max_tokens=20, on_budget="return")
    worst = server_worst_case_usd(server)
    assert len(server.requests) == int(0.01 / worst)
    assert df["cost_usd"].isna().all()


def server_worst_case_usd(server: ScriptedServer) -> float:
    """The bound of one such request, from the bytes the server got."""
    body = server.requests[-1]
    size = len(json.dumps(body, ensure_ascii=False).encode())
    return ((size + 64 + 16 * len(body["messages"])) * 0.15 + body["max_tokens"] * 0.6) / 1e6


def test_a_body_that_is_no_json_may_have_been_billed(
    server: ScriptedServer, signature: pn.Signature
) -> None:
    server.script = lambda marker, attempt: Reply("not_json")
    df = budget(server, signature, 0.01, max_attempts=1, on_budget="return")
    assert len(server.requests) == int(0.01 / server_worst_case_usd(server)) < 1000
    assert df.attrs["pardspy"]["ended"] == "budget"


def test_several_answers_to_one_request_are_all_reserved() -> None:
    lm = pn.LM("gpt-4o-mini", max_tokens=100, n=3)
    assert lm.worst_case([{"role": "user", "content": "x"}]).completion_tokens == 300
    assert lm.worst_case([{"role": "user", "content": "x"}], n=1).completion_tokens == 100
    capped = pn.LM("gpt-4o-mini", max_completion_tokens=70)
    assert capped.worst_case([{"role": "user", "content": "é" * 1000}]).prompt_tokens > 2000
    assert capped.worst_case([{"role": "user", "content": "x"}]).completion_tokens == 70


def test_no_request_is_sent_that_could_exceed_the_budget(
    server: ScriptedServer, signature: pn.Signature
) -> None:
    with pytest.raises(pn.BudgetExceeded, match="0 rows done"):
        budget(server, signature, 1e-6)
    assert not server.requests


def test_remembered_rows_need_no_budget(server: ScriptedServer, signature: pn.Signature) -> None:
    lm = pn.LM("gpt-4o-mini", base_url=server.url, max_tokens=20)
    rows = [f"row-{i}" for i in range(50)]
    pn.run_parallel(pn.Predict(signature, lm), rows, progress="none")
    df = pn.run_parallel(pn.Predict(signature, lm), rows, progress="none", max_cost_usd=0)
    assert df["cached"].all()


def test_a_budget_that_cannot_be_kept_is_refused(
    server: ScriptedServer, signature: pn.Signature
) -> None:
    unknown = pn.Predict(signature, pn.LM("my-own-model", base_url=server.url))
    with pytest.raises(ValueError, match=r"'my-own-model' is not known.*LM\(price="):
        pn.run_parallel(unknown, ["row-1"], max_cost_usd=1.0, **QUIET)

    def function(review: str) -> str:
        return review

    with pytest.raises(ValueError, match="cannot be kept for 'function'"):
        pn.run_parallel(function, ["row-1"], max_cost_usd=1.0, **QUIET)

    class Custom:
        async def complete(self, messages: Any, **more: Any) -> Any:
            raise AssertionError

    with pytest.raises(ValueError, match="worst_case"):
        pn.run_parallel(pn.Predict(signature, Custom()), ["row-1"], max_cost_usd=1.0, **QUIET)
    assert not server.requests
    priced = pn.LM("my-own-model", base_url=server.url, price=(1.0, 2.0))
    df = pn.run_parallel(pn.Predict(signature, priced), ["row-1"], max_cost_usd=1.0, **QUIET)
    assert df.parallel.cost == pytest.approx((11 + 14) / 1e6)


def test_modules_of_a_factory_and_instances_keep_a_budget(
    server: ScriptedServer, signature: pn.Signature
) -> None:
    lm = pn.LM("gpt-4o-mini", base_url=server.url, max_tokens=20)
    made: list[int] = []

    def factory(i: int) -> pn.Predict:
        made.append(i)
        return pn.Predict(signature, lm, history=pn.History())

    options = QUIET | {"max_cost_usd": 20 * ROW_USD + 0.0002}
    rows = [f"row-{i}" for i in range(100)]
    three = [pn.Predict(signature, lm) for _ in range(3)]
    for parallel in (
        pn.Parallel.from_factory(factory, **options),
        pn.Parallel.from_instances(three, **options),
    ):
        server.billed_prompt = server.billed_completion = 0
        with pytest.raises(pn.BudgetExceeded) as info:
            parallel(review=rows)
        assert 0 < (info.value.df["status"] == "ok").sum() < 100
        assert billed_usd(server) <= options["max_cost_usd"]


def run_within(server: ScriptedServer, module: Any, usd: float, rows: int = 60) -> pd.DataFrame:
    df: pd.DataFrame = pn.run_parallel(
        module,
        [f"row-{i}" for i in range(rows)],
        max_failures=None,
        max_cost_usd=usd,
        max_workers=8,
        on_budget="return",
        **QUIET,
    )
    assert 0 < billed_usd(server) <= usd
    return df


def test_an_answer_that_breaks_the_reading_of_it_is_paid_and_counted(
    server: ScriptedServer,
) -> None:
    server.script = lambda marker, attempt: Reply(usage=(100, 400, 0))
    broken = Annotated[str, AfterValidator(lambda value: {"a": 1}[value])]
    signature = pn.Signature("x").add_input("review").add_output("reason", broken)
    lm = pn.LM("gpt-4o-mini", base_url=server.url, max_tokens=400)
    df = run_within(server, pn.Predict(signature, lm), 0.002)
    assert df["error_type"].dropna().unique().tolist() == ["KeyError"]
    assert int(df["total_tokens"].sum()) == server.billed_prompt + server.billed_completion


def test_odd_reports_of_usage_hurt_nobody(server: ScriptedServer, signature: pn.Signature) -> None:
    lm = pn.LM("gpt-4o-mini", base_url=server.url)
    for details in ([], [1], "x", {"cached_tokens": "many"}, {"cached_tokens": -5}, None):
        reported = {"prompt_tokens": 11, "completion_tokens": 7, "prompt_tokens_details": details}
        usage = read_usage(reported, lm.rate, 1.0)
        assert (usage.total_tokens, usage.cost_usd) == (18, pytest.approx(ROW_USD))


@pytest.mark.parametrize(
    ("lm_params", "params"),
    [
        ({"max_tokens": -1}, {}),
        ({"max_tokens": 0}, {}),
        ({"max_tokens": 5000}, {"max_completion_tokens": 10}),
        ({"max_completion_tokens": 10}, {"max_tokens": 5000}),
    ],
)
def test_a_cap_that_is_none_or_not_the_only_one(
    server: ScriptedServer, signature: pn.Signature, lm_params: Any, params: Any
) -> None:
    server.script = lambda marker, attempt: Reply(
        usage=(
            100,
            max(server.requests[-1].get(n, 0) for n in ("max_tokens", "max_completion_tokens")),
            0,
        )
    )
    lm = pn.LM("gpt-4o-mini", base_url=server.url, **lm_params)
    run_within(server, pn.Predict(signature, lm, **params), 0.02)
    assert all(request["max_tokens"] > 0 for request in server.requests)


def test_an_lm_that_asks_in_a_way_of_its_own_is_refused_and_counted_in_full(
    server: ScriptedServer, signature: pn.Signature
) -> None:
    class Twice(pn.LM):
        async def complete(self, messages: Any, **more: Any) -> pn.Completion:
            await super().complete(messages, **more)
            return await super().complete(messages, **more)

    module = pn.Predict(signature, Twice("gpt-4o-mini", base_url=server.url, max_tokens=20))
    with pytest.raises(ValueError, match="of its own"):
        pn.run_parallel(module, ["row-1"], max_cost_usd=1.0, **QUIET)
    df = pn.run_parallel(module, ["row-1", "row-2"], **QUIET)
    assert df["total_tokens"].tolist() == [36, 36]


def test_a_gateway_that_gave_up_may_have_been_billed(
    server: ScriptedServer, signature: pn.Signature
) -> None:
    server.script = lambda marker, attempt: Reply("status", code=504)
    df = budget(server, signature, 0.005, max_attempts=1, on_budget="return")
    assert len(server.requests) < 100
    assert df.attrs["pardspy"]["ended"] == "budget"


def test_a_factory_is_asked_once_a_row_however_often_it_has_to_wait(
    server: ScriptedServer, signature: pn.Signature
) -> None:
    server.latency_s = lambda marker: 0.005
    made: list[int] = []
    lm = pn.LM("gpt-4o-mini", base_url=server.url, max_tokens=20)

    def factory(i: int) -> pn.Predict:
        made.append(i)
        return pn.Predict(signature, lm)

    options = QUIET | {"max_cost_usd": 0.0006, "max_workers": 16, "on_budget": "return"}
    pn.Parallel.from_factory(factory, **options)(review=[f"row-{i}" for i in range(40)])
    assert max(Counter(made[1:]).values()) <= 2  # row 0 is also the sample of its kind


def test_what_is_sent_back_is_reserved_for_too(
    predict: pn.Predict, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every reservation is as many tokens as its own request has bytes, also of a second one."""
    from pardspy_nb.modules.invocation import Caller

    reserved, plain = [], Caller.worst_case

    def spied(self: Caller, row: Any) -> Any:
        reserved.append(plain(self, row))
        return reserved[-1]

    monkeypatch.setattr(Caller, "worst_case", spied)
    server.script = lambda marker, attempt: Reply("wrong_label" if attempt == 1 else "ok")
    lm = pn.LM("gpt-4o-mini", base_url=server.url, api_key="k", max_tokens=20)
    df = pn.run_parallel(
        pn.Predict(predict.signature, lm), ["row-0"], max_cost_usd=1.0, progress="none", store=None
    )
    assert list(df["attempts"]) == [2]
    sizes = [len(json.dumps(r, ensure_ascii=False).encode()) for r in server.requests]
    assert sizes[1] > sizes[0] + 200
    assert [bound.prompt_tokens >= size for bound, size in zip(reserved, sizes, strict=True)] == [
        True,
        True,
    ]


def test_a_retry_shares_the_budget_of_its_frame(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    server.script = lambda marker, attempt: (
        Reply("status", code=413) if marker >= 10 and attempt == 1 else Reply()
    )
    limit = 15 * ROW_USD + 0.0002
    df = pn.run_parallel(
        predict, [f"row-{i}" for i in range(40)], max_failures=None, max_cost_usd=limit, **QUIET
    )
    assert (df["status"] == "ok").sum() == 10
    with pytest.raises(pn.BudgetExceeded):
        df.parallel.retry_failed()
    assert billed_usd(server) <= limit
    with pytest.raises(pn.BudgetExceeded, match=r"budget of .* is spent"):
        spent(df).parallel.retry_failed()
    df.parallel.retry_failed(max_cost_usd=1.0)
    assert (df["status"] == "ok").all()


def spent(df: Any) -> Any:
    """The frame as if all of its budget were spent."""
    other = df.copy()
    other.attrs = df.attrs
    other.loc[0, "cost_usd"] = 1.0
    return other
