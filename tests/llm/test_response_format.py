"""The form of a request that an endpoint takes, found out by use."""

from __future__ import annotations

import json
from typing import Any

import pydantic
import pytest
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn

QUIET: dict[str, Any] = {"progress": "none", "store": None}


GOOD = {"sentiment": "negative", "reason": "too loud"}


@pytest.mark.parametrize(
    ("refuses", "form"),
    [
        (set(), "json_schema"),
        ({"json_schema"}, "json_object"),
        ({"json_schema", "json_object"}, "text"),
    ],
)
def test_the_form_an_endpoint_takes_is_found_out_once_and_not_once_a_row(
    predict: pn.Predict, server: ScriptedServer, refuses: set[str], form: str
) -> None:
    server.refuses = refuses
    rows = [f"row-{i}" for i in range(40)]
    df = pn.run_parallel(predict, rows, max_workers=16, **QUIET)
    assert list(df["reason"]) == rows
    assert list(df["attempts"]) == [1] * 40
    assert server.refused == len(refuses)
    assert server.requests[-1].get("response_format", {}).get("type", "text") == form
    said = server.requests[-1]["messages"][0]["content"]
    assert ("JSON schema" in said and '"enum"' in said) == (form != "json_schema")
    pn.run_parallel(predict, [f"row-{i}" for i in range(40, 60)], max_workers=16, **QUIET)
    other = pn.Predict("review -> reason", pn.LM("gpt-4o-mini", base_url=server.url, api_key="k"))
    pn.run_parallel(other, ["row-60"], **QUIET)  # another schema, another LM: the same endpoint
    assert server.refused == len(refuses)


def test_a_schema_that_an_endpoint_refuses_does_not_cost_the_others_their_form(
    predict: pn.Predict, lm: pn.LM, server: ScriptedServer
) -> None:
    pn.run_parallel(predict, ["row-0"], **QUIET)
    server.refuses = {"json_schema"}
    other = pn.Predict("review -> reason", lm)
    assert list(pn.run_parallel(other, ["row-1"], **QUIET)["status"]) == ["ok"]
    server.refuses = set()
    pn.run_parallel(predict, ["row-2"], **QUIET)
    pn.run_parallel(other, ["row-3"], **QUIET)
    forms = [r["response_format"]["type"] for r in server.requests]
    assert forms == ["json_schema", "json_schema", "json_object", "json_schema", "json_object"]


def test_other_refusals_are_the_rows_own(predict: pn.Predict, server: ScriptedServer) -> None:
    server.script = lambda marker, attempt: Reply("status", code=400, message="prompt too long")
    df = pn.run_parallel(predict, ["row-0", "row-1"], max_failures=None, **QUIET)
    assert list(df["error_type"]) == ["BadRequestError"] * 2
    assert len(server.requests) == 2


def test_a_row_that_is_too_long_teaches_nothing_about_forms(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    told = (
        "This model's maximum context length is 128000 tokens. However, your messages resulted "
        "in 150000 tokens (including 76 in the response_format schemas.)"
    )
    server.script = lambda marker, attempt: (
        Reply("status", code=400, message=told) if marker == 1 else Reply()
    )
    df = pn.run_parallel(
        predict, [f"row-{i}" for i in range(4)], max_workers=1, max_failures=None, **QUIET
    )
    assert df["status"].tolist() == ["ok", "failed", "ok", "ok"]
    assert {r["response_format"]["type"] for r in server.requests} == {"json_schema"}


def test_a_refusal_for_another_reason_changes_nothing(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    """The lower forms are refused, too: so it was not the form, or nothing works."""
    server.refuses = {"json_schema", "json_object", "text"}
    df = pn.run_parallel(predict, ["row-0"], max_failures=None, **QUIET)
    assert (df["error_type"][0], server.refused) == ("BadRequestError", 3)
    server.refuses = set()
    pn.run_parallel(predict, ["row-1"], **QUIET)
    assert server.requests[-1]["response_format"]["type"] == "json_schema"


def test_a_response_format_of_ones_own_does_not_loop(
    signature: pn.Signature, server: ScriptedServer
) -> None:
    server.refuses = {"json_schema", "json_object"}
    lm = pn.LM("m", base_url=server.url, api_key="k", response_format={"type": "json_object"})
    df = pn.run_parallel(pn.Predict(signature, lm), ["row-1"], **QUIET)
    assert list(df["status"]) == ["ok"]
    assert server.refused == 2


def test_an_endpoint_that_knows_schemas_and_no_json_mode_keeps_its_schemas(
    predict: pn.Predict, lm: pn.LM, server: ScriptedServer
) -> None:
    pn.run_parallel(predict, ["row-0"], **QUIET)
    server.refuses = {"json_schema", "json_object"}
    other = pn.Predict("review -> reason", lm)
    pn.run_parallel(other, ["row-1"], max_failures=None, **QUIET)
    server.refuses = {"json_object"}
    pn.run_parallel(predict, ["row-2"], **QUIET)
    assert server.requests[-1]["response_format"]["type"] == "json_schema"


class Slow(pn.LM):
    """Asks in a way of its own, so nothing is ever learnt of its endpoint."""

    inside = most = 0

    async def complete(self, messages: Any, **more: Any) -> pn.Completion:
        import asyncio

        self.inside += 1
        self.most = max(self.most, self.inside)
        await asyncio.sleep(0.1)
        self.inside -= 1
        return pn.Completion(json.dumps(GOOD), pn.Usage(), "m")


def test_one_goes_ahead_until_it_is_answered_or_half_a_second_has_passed() -> None:
    from pardspy_nb.core.events import Answer, Row
    from pardspy_nb.engine.probe import Probe

    row = Row(0, 0, 0, {})
    answered, waited, known = (Probe(lambda: False), Probe(lambda: False), Probe(lambda: True))
    for scout in (answered, waited, known):
        assert scout.wait_s(row, 7.0) == 0
        scout.enter(row, 7.0)
    assert answered.wait_s(row, 7.1) == pytest.approx(0.4)
    answered.leave(row, ValueError(), 7.2)
    answered.enter(row, 7.2)
    assert answered.wait_s(row, 7.3) == pytest.approx(0.2)  # of all, not of each
    answered.leave(row, Answer({}), 7.3)
    answered.enter(row, 7.3)
    assert (answered.wait_s(row, 7.3), known.wait_s(row, 7.1)) == (0, 0)
    assert (waited.wait_s(row, 7.6), waited.wait_s(row, 7.2)) == (0, 0)


def test_finding_out_the_form_holds_up_a_run_once(
    signature: pn.Signature, server: ScriptedServer
) -> None:
    server.delay_s = 0.1
    rows = [f"row-{i}" for i in range(30)]
    slow = Slow("m4", base_url=server.url, api_key="k")
    two = [pn.Predict(signature, pn.LM(m, base_url=server.url, api_key="k")) for m in "ab"]
    pairs = [(two[0], {"review": r}) for r in rows] + [(two[1], {"review": "row-50"})]
    pn.run_parallel(pn.Predict(signature, slow), rows, max_workers=30, **QUIET)
    pn.run_parallel(pairs, max_workers=30, **QUIET)
    assert slow.most > 10
    assert server.max_in_flight > 10


def refuses(server: ScriptedServer, *forms: str, status: int = 500, message: str = "oops") -> Any:
    """A script that refuses these forms without saying that it is them."""

    def script(marker: int, attempt: int) -> Reply:
        form = server.requests[-1].get("response_format", {}).get("type", "text")
        return Reply("status", code=status, message=message) if form in forms else Reply()

    return script


@pytest.mark.parametrize("status", [400, 415, 422])
@pytest.mark.parametrize("forms", [["json_schema"], ["json_schema", "json_object"]])
def test_a_form_that_fails_for_two_rows_where_a_lower_one_works_is_not_used_again(
    predict: pn.Predict, server: ScriptedServer, status: int, forms: list[str]
) -> None:
    server.script = refuses(server, *forms, status=status)
    rows = [f"row-{i}" for i in range(20)]
    df = pn.run_parallel(predict, rows, max_workers=1, **QUIET)
    assert df["reason"].tolist() == rows
    assert df["attempts"].eq(1).all()
    assert len(server.requests) == 20 + 2 * len(forms)
    lower = {1: "json_object", 2: "text"}[len(forms)]
    assert predict.lm.capabilities["form"] == lower
    assert df.attrs["pardspy"]["form"] == lower
    assert f"form {lower}" in df.parallel.summary()._repr_html_()


def test_an_error_of_the_server_is_taken_to_pass_and_then_for_the_form(
    predict: pn.Predict, server: ScriptedServer, fast_retries: None
) -> None:
    server.script = refuses(server, "json_schema", status=500)
    rows = [f"row-{i}" for i in range(40)]
    df = pn.run_parallel(predict, rows, max_workers=1, **QUIET)
    assert df["reason"].tolist() == rows
    assert df["attempts"].iloc[-1] == 1
    assert df["attempts"].max() == 3  # where the third is in the lower form
    assert predict.lm.capabilities["form"] == "json_object"


def test_an_error_of_the_server_that_passes_leaves_the_form(
    predict: pn.Predict, server: ScriptedServer, fast_retries: None
) -> None:
    server.script = lambda marker, attempt: Reply("status", code=500) if attempt < 2 else Reply()
    pn.run_parallel(predict, [f"row-{i}" for i in range(4)], max_workers=1, **QUIET)
    assert {r["response_format"]["type"] for r in server.requests} == {"json_schema"}


def test_an_odd_refusal_of_a_single_row_costs_the_others_nothing(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    """The words name the form, but it has worked: row 5 is odd, and only row 5."""

    def script(marker: int, attempt: int) -> Reply:
        form = server.requests[-1]["response_format"]["type"]
        is_odd = marker == 5 and form == "json_schema"
        return Reply("status", code=400, message="invalid json_schema") if is_odd else Reply()

    server.script = script
    df = pn.run_parallel(predict, [f"row-{i}" for i in range(12)], max_workers=1, **QUIET)
    assert df["status"].eq("ok").all()
    forms = [r["response_format"]["type"] for r in server.requests]
    assert forms == ["json_schema"] * 6 + ["json_object"] + ["json_schema"] * 6
    assert "form" not in df.attrs["pardspy"]


def test_a_refusal_that_names_nothing_is_the_rows_where_the_form_has_worked(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    server.script = lambda marker, attempt: (
        Reply("status", code=400, message="bad request") if marker == 3 else Reply()
    )
    df = pn.run_parallel(
        predict, [f"row-{i}" for i in range(6)], max_workers=1, max_failures=None, **QUIET
    )
    assert df.index[df["status"] == "failed"].tolist() == [3]
    assert len(server.requests) == 6


def test_an_endpoint_where_nothing_works_is_not_tried_again_and_again(
    predict: pn.Predict, server: ScriptedServer, fast_retries: None
) -> None:
    server.script = lambda marker, attempt: Reply("status", code=500, message="broken")
    df = pn.run_parallel(
        predict, [f"row-{i}" for i in range(8)], max_workers=1, max_failures=None, **QUIET
    )
    assert df["error"].str.contains("broken").all()
    assert len(server.requests) == 8 * 4


class Item(pydantic.BaseModel):
    name: str
    price: float


class Receipt(pn.Signature):
    """Read the receipt"""

    text: str = pn.InputField()
    items: list[Item] = pn.OutputField()


def test_a_schema_that_an_endpoint_ignores_is_sent_in_words(server: ScriptedServer) -> None:
    """As litellm with `drop_params`: the nested names are known from the words only."""
    good, bad = '{"items": [{"name": "tea", "price": 2.5}]}', '{"items": ["tea 2.5"]}'

    def script(marker: int, attempt: int) -> Reply:
        said = json.dumps(server.requests[-1]["messages"])
        return Reply(content=good if "JSON schema" in said else bad)

    server.script = script
    predict = pn.Predict(Receipt, pn.LM("m9", base_url=server.url, api_key="k"))
    df = pn.run_parallel(predict, [f"row-{i}" for i in range(10)], max_workers=1, **QUIET)
    assert df["status"].eq("ok").all()
    assert df["attempts"].tolist() == [2, 2] + [1] * 8
    assert predict.lm.capabilities["ignores_schemas"]
    assert df.attrs["pardspy"]["form"] == "json_schema, in words too"
    flat = pn.Predict("text -> reason", predict.lm)
    server.script = lambda marker, attempt: Reply()
    pn.run_parallel(flat, ["row-1"], **QUIET)
    assert "JSON schema" not in json.dumps(server.requests[-1]["messages"])


def test_answers_that_seldom_do_not_fit_teach_nothing(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    server.script = lambda marker, attempt: Reply(
        "garbage" if marker % 4 == 0 and attempt == 1 else "ok"
    )
    df = pn.run_parallel(predict, [f"row-{i}" for i in range(1, 25)], max_workers=1, **QUIET)
    assert df["status"].eq("ok").all()
    assert not predict.lm.capabilities["ignores_schemas"]  # type: ignore[attr-defined]
