"""Answers from endpoints that know less, or say more, than was asked for."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, Literal

import pandas as pd
import pytest
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn
from pardspy_nb.signatures.output_parser import AnswerParser

QUIET: dict[str, Any] = {"progress": "none", "store": None}
GOOD = {"sentiment": "negative", "reason": "too loud"}
DRAFT = {"sentiment": "positive", "reason": "so far"}


def read(signature: pn.Signature, text: str) -> tuple[dict[str, Any], str | None]:
    return AnswerParser(signature).parse(text, "stop", None)[:2]


@pytest.fixture
def label_only() -> pn.Signature:
    return (
        pn.Signature("Label")
        .add_input("review")
        .add_class_output("sentiment", ["good", "very good", "bad"], aliases={"great": "very good"})
    )


# -- forms ---------------------------------------------------------------------------------------


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


# -- texts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "how"),
    [
        (json.dumps(GOOD), None),
        (f"```json\n{json.dumps(GOOD, indent=1)}\n```", "fenced"),
        (f"Sure! Here it is:\n```\n{json.dumps(GOOD)}\n```\nAnything else?", "fenced"),
        (f"I think {{it}} is this: {json.dumps(GOOD)}. Hope that helps {{you}}!", "embedded"),
        (f"<think>loud {{…}}</think>\n{json.dumps(GOOD)}", "embedded"),
        ("{'sentiment': 'negative', 'reason': 'too loud',}", "mended"),
        (json.dumps({"Sentiment": "Negative", "REASON": "too loud"}), "renamed"),
        (json.dumps({"answer": GOOD}), "renamed"),
        ("**Sentiment:** Negative.\n- Reason: too loud", "prose"),
    ],
)
def test_an_answer_is_read_in_spite_of_its_form_and_that_is_recorded(
    signature: pn.Signature, text: str, how: str | None
) -> None:
    assert read(signature, text) == (GOOD, how)


@pytest.mark.parametrize(
    "text",
    [
        '{"sentiment": "negative", "reason": "too lo',
        '{"meta": {"a": 1}, "sentiment": "negative", "reason": "too lo',
        '```json\n{"sentiment": "negative", "rea',
        f"<think>Perhaps {json.dumps(GOOD)}</think> I do not know.",
        "Sentiment: negative",
        "It is negative.",
        "{}",
        "[1, 2]",
    ],
)
def test_nothing_is_made_up_of_half_an_answer(signature: pn.Signature, text: str) -> None:
    with pytest.raises(pn.InvalidOutputError):
        read(signature, text)


def test_what_is_optional_is_not_lost_with_half_an_answer() -> None:
    signature = pn.Signature("S").add_input("r").add_output("meta", dict)
    signature = signature.add_output("reason", str, optional=True)
    with pytest.raises(pn.InvalidOutputError):
        read(signature, '{"meta": {"a": 1}, "reason": "too lo')


@pytest.mark.parametrize(
    ("text", "label"),
    [
        ("Very good!", "very good"),
        ("It is a good one.", "good"),
        ("great", "very good"),
        ("not bad", None),
        ("good or bad", None),
        ("It isn't good", None),
        ("fine", None),
        ("goodness", None),
    ],
)
def test_prose_counts_where_it_names_one_label_and_denies_nothing(
    label_only: pn.Signature, text: str, label: str | None
) -> None:
    if label is None:
        with pytest.raises(pn.InvalidOutputError):
            read(label_only, text)
    else:
        assert read(label_only, text) == ({"sentiment": label}, "prose")


@pytest.mark.parametrize(
    "text",
    [
        f"<think>Like {json.dumps(DRAFT)}? No.</think>{json.dumps(GOOD)}",
        f"```\n{json.dumps(DRAFT)}\n```\nNo:\n```\n{json.dumps(GOOD)}\n```",
        f'Schema: {{"sentiment": "positive|negative"}}\nAnswer: {json.dumps(GOOD)}',
        f'{json.dumps(GOOD)} as in {{"sentiment": "positive|negative"}}',
    ],
)
def test_of_several_answers_the_last_that_fits_counts(signature: pn.Signature, text: str) -> None:
    assert read(signature, text)[0] == GOOD


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("score: .5", 0.5),
        ("score: 3.", 3.0),
        ("Score = -2", -2.0),
        ("score: 3 or 4", None),
        ("score: 3\nscore: 4", None),
        ('{"score": 3 or 4}', None),
        ('{"score": 5%}', None),
        ('{"score": 4 (of 5)}', None),
        ('{"score": 1e3 000}', None),
        ("{'score': 4,}", 4.0),
    ],
)
def test_numbers_are_read_whole_or_not_at_all(text: str, value: float | None) -> None:
    signature = pn.Signature("S").add_input("r").add_output("score", float)
    if value is None:
        with pytest.raises(pn.InvalidOutputError):
            read(signature, text)
    else:
        assert read(signature, text)[0] == {"score": value}


def test_labels_that_deny_are_read_like_the_others() -> None:
    spam = pn.Signature("S").add_input("r").add_class_output("spam", ["yes", "no"])
    assert read(spam, "Yes.")[0] == {"spam": "yes"}
    assert read(spam, "No.")[0] == {"spam": "no"}
    other = pn.Signature("S").add_input("r").add_class_output("is", ["spam", "not spam"])
    assert read(other, "This is not spam.")[0] == {"is": "not spam"}
    for text in ("I cannot tell whether this is spam.", "This is anything but spam", "Is it spam?"):
        with pytest.raises(pn.InvalidOutputError):
            read(other, text)
    with pytest.raises(pn.InvalidOutputError):
        read(pn.Signature("S").add_input("r").add_output("reason"), '{"reason": }')


@pytest.mark.parametrize(
    "text",
    [
        "Hello" + "\n" * 50000,
        "```" + " " * 50000,
        "```" + "a" * 50000,
        "*" * 50000,
        "sentiment: a a" + " " * 50000 + "b",
        "{" * 50000 + "}" * 50000,
        '{"a":' * 3000,
        '{"a":' * 3000 + "1" + "}" * 3000,
        "x" * 200_000,
        '{"sentiment": ' + "[" * 5000 + "]" * 5000 + ",}",
    ],
)
def test_no_text_holds_up_the_others_or_breaks_the_reading(
    signature: pn.Signature, label_only: pn.Signature, text: str
) -> None:
    import time

    for one in (signature, label_only):
        began = time.process_time()
        with pytest.raises(pn.InvalidOutputError):
            read(one, text)
        assert time.process_time() - began < 1.0  # it was 3 to 25 s


def test_repairs_are_a_column_and_a_figure(
    predict: pn.Predict, server: ScriptedServer, reviews: list[str]
) -> None:
    fenced = f"```json\n{json.dumps(GOOD)}\n```"
    server.script = lambda marker, attempt: Reply(content=fenced if marker == 1 else None)
    options = QUIET | {"store": True}
    df = pn.run_parallel(predict, reviews, **options)
    assert df["repaired"].dropna().to_dict() == {1: "fenced"}
    assert df.columns[df.columns.get_loc("error") + 1] == "repaired"
    assert df.parallel.metrics.repaired == 1
    assert ("repaired", "1") in df.parallel.summary().figures
    again = pn.run_parallel(predict, reviews, **options)
    assert again["cached"].all()
    assert again["repaired"].dropna().to_dict() == {1: "fenced"}
    df.attrs.clear()
    assert df.parallel.metrics.repaired == 1


# -- answers sent back ---------------------------------------------------------------------------


def test_an_invalid_answer_is_sent_back_at_once_with_what_was_wrong(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    def script(marker: int, attempt: int) -> Reply:
        if attempt == 2:  # trouble in between does not make it forget
            return Reply("status", code=500, headers={"retry-after-ms": "1"})
        return Reply("wrong_label" if attempt == 1 else "ok")

    server.script = script
    df = pn.run_parallel(predict, ["row-1 is it"], **QUIET)
    assert list(df["attempts"]) == [3]
    assert list(df["repaired"]) == ["asked again"]
    assert df["total_tokens"][0] == 2 * 18
    assert df["waited_ms"][0] < 200
    first, _, third = (r["messages"][-1]["content"] for r in server.requests)
    assert third.startswith(first)
    assert "splendid" in third
    assert "Input should be 'positive', 'neutral' or 'negative'" in third
    assert "splendid" not in first


def test_a_bounded_number_of_times(predict: pn.Predict, server: ScriptedServer) -> None:
    server.script = lambda marker, attempt: Reply("wrong_label")
    df = pn.run_parallel(predict, ["row-0"], max_attempts=3, max_failures=1, **QUIET)
    assert (df["error_type"][0], df["attempts"][0]) == ("OutOfVocabularyError", 3)
    assert df["total_tokens"][0] == 3 * 18


@pytest.mark.parametrize("faults", [1, 2, 3])
def test_a_single_call_sends_back_twice(
    predict: pn.Predict, server: ScriptedServer, faults: int
) -> None:
    server.script = lambda marker, attempt: Reply("garbage" if attempt <= faults else "ok")
    if faults == 3:
        with pytest.raises(pn.InvalidOutputError):
            predict(review="row-0")
    else:
        prediction = predict(review="row-0")
        assert prediction.usage is not None
        assert prediction.usage.total_tokens == 18 * (faults + 1)
    assert server.attempts[0] == min(faults + 1, 3)


def test_a_subclass_that_asks_for_inputs_alone_is_left_alone(
    signature: pn.Signature, lm: pn.LM, server: ScriptedServer
) -> None:
    class Own(pn.Predict):
        async def ask(self, inputs: Any) -> Any:  # type: ignore[override]
            return await super().ask(inputs)

    server.script = lambda marker, attempt: Reply("garbage" if attempt == 1 else "ok")
    assert Own(signature, lm)(review="row-0").reason == "row-0"
    assert list(pn.run_parallel(Own(signature, lm), ["row-1"], **QUIET)["attempts"]) == [2]


def test_a_cut_answer_is_asked_for_more_briefly(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    server.script = lambda marker, attempt: Reply("length" if attempt == 1 else "ok")
    df = pn.run_parallel(predict, ["row-0"], **QUIET)
    assert list(df["status"]) == ["ok"]
    assert "Be much shorter" in server.requests[1]["messages"][-1]["content"]


def test_a_conversation_remembers_the_question_and_not_what_was_sent_back(
    signature: pn.Signature, lm: pn.LM, server: ScriptedServer
) -> None:
    server.script = lambda marker, attempt: Reply("garbage" if attempt == 1 else "ok")
    talk = pn.Predict(signature, lm, history=pn.History())
    talk(review="row-0")
    assert talk.history is not None
    assert talk.history.messages[0]["content"] == "review: row-0"


# -- confidence ----------------------------------------------------------------------------------


def token(text: str, p: float | None = 1.0, **others: float) -> dict[str, Any]:
    """One token as an endpoint reports it, `_` in a name stands for a quote."""
    import math

    def one(text: str, p: float | None) -> dict[str, Any]:
        logprob = None if p is None else math.log(p)
        return {"token": text, "logprob": logprob, "bytes": list(text.encode())}

    tops = [one(text, p), *(one(o.replace("_", '"'), q) for o, q in others.items())]
    return one(text, p) | {"top_logprobs": tops}


def spread(tokens: list[dict[str, Any]], labels: Any) -> dict[str, float | None] | None:
    from pardspy_nb.signatures.logprobs import distributions

    signature = pn.Signature("L").add_input("t").add_output("reason").add_output("x", labels)
    text = "".join(t["token"] for t in tokens).strip()
    return distributions(text, 0, tokens, signature.outputs).get("x")


THREE = Literal["positive", "neutral", "negative"]


@pytest.mark.parametrize(
    ("tokens", "expected"),
    [
        # one token decides; what is no label does not count: 0.6, 0.2, 0.1 of 0.9
        (
            [
                token('{"x": "'),
                token("positive", 0.6, negative=0.2, neutral=0.1, happy=0.1),
                token('"}'),
            ],
            (0.6 / 0.9, 0.1 / 0.9, 0.2 / 0.9),
        ),
        # the quote belongs to the label's token; the reason says "positive", too
        (
            [
                token('{"reason":"positive",'),
                token('"x":'),
                token('"pos', 0.5, _neg=0.25, _neutral=0.25),
                token("itive", 0.9, ing=0.1),
                token('"}'),
            ],
            (0.5, 0.25, 0.25),
        ),
        # two labels share a first token: 0.3 for positive, then 0.7 times 0.8 and 0.2
        (
            [
                token('{"x":"'),
                token("ne", 0.7, positive=0.3),
                token("gative", 0.8, utral=0.2),
                token('"}'),
            ],
            (0.3, 0.7 * 0.2, 0.7 * 0.8),
        ),
        # two ways to cut the same label
        (
            [token('{"x":"'), token("positive", 0.5, pos=0.1, negative=0.4), token('"}')],
            (0.6, 0.0, 0.4),
        ),
        # what leads to two labels is shared out as the rest is
        (
            [
                token('{"x":"'),
                token("positive", 0.5, ne=0.2, negative=0.2, neutral=0.1),
                token('"}'),
            ],
            (0.5, 0.1 + 0.2 / 3, 0.2 + 0.4 / 3),
        ),
        # nothing tells which of the two it leads to
        ([token('{"x":"'), token("positive", 0.5, ne=0.5), token('"}')], (0.5, None, None)),
        # a token that was forced by the mask has a small probability of its own
        (
            [token(' {"x":"'), token("negative", 0.001, joy=0.99, positive=0.003), token('"}')],
            (0.75, 0.0, 0.25),
        ),
    ],
)
def test_the_distribution_is_that_of_the_logprobs_by_hand(
    tokens: list[dict[str, Any]], expected: tuple[float | None, ...]
) -> None:
    told = spread(tokens, THREE)
    assert told is not None
    assert list(told) == ["positive", "neutral", "negative"]
    for got, right in zip(told.values(), expected, strict=True):
        assert got == (None if right is None else pytest.approx(right))


SLOPPY = [
    ["a"],
    [None],
    [{"token": 3}],
    [{"bytes": [300]}],
    [{"bytes": 10**12}],
    [{"logprob": "x"}],
    [{"logprob": float("nan")}],
    [{"top_logprobs": 5}],
    [{"top_logprobs": [None]}],
    [{"top_logprobs": {"a": -1}}],
    {"a": 1},
    "abc",
]


@pytest.mark.parametrize("tokens", SLOPPY, ids=repr)
def test_logprobs_in_no_shape_leave_the_answer_alone(
    signature: pn.Signature, lm: pn.LM, server: ScriptedServer, tokens: Any
) -> None:
    said = json.dumps({"sentiment": "positive", "reason": "r"})
    base = {"token": said, "logprob": -0.1, "bytes": None, "top_logprobs": []}
    told = (
        [base | t if isinstance(t, dict) else t for t in tokens] if tokens != {"a": 1} else tokens
    )
    server.script = lambda marker, attempt: Reply(content=said, logprobs=told)
    df = pn.run_parallel(pn.Predict(signature, lm, confidence=True), ["row-0"], **QUIET)
    assert (df["status"][0], df["sentiment"][0]) == ("ok", "positive")
    assert df["sentiment_confidence"].isna().all()


def test_a_label_that_begins_another_and_numbers_and_aliases() -> None:
    longer = [token('{"x":"'), token("very", 0.9), token(" good", 0.8), token('"', 0.4), token("}")]
    labels = Literal["very good", "very good indeed"]
    longer[3]["top_logprobs"].append(token(" indeed", 0.1))
    assert spread(longer, labels) == {
        "very good": pytest.approx(0.8),
        "very good indeed": pytest.approx(0.2),
    }
    numbers = [token('{"x": '), token("1", 0.5), token("}", 0.75), token("\n")]
    numbers[1]["top_logprobs"].append(token("2", 0.5))
    numbers[2]["top_logprobs"].append(token("0", 0.25))
    assert spread(numbers, Literal[1, 2, 10]) == {
        "1": pytest.approx(0.375),
        "2": pytest.approx(0.5),
        "10": pytest.approx(0.125),
    }


@pytest.mark.parametrize(
    "tokens",
    [
        [token('{"x":"'), token("positive", None, negative=0.5), token('"}')],
        [token('{"y":"positive"}')],
        [token('{"x":null}')],
        [],
    ],
)
def test_confidence_is_never_made_up(tokens: list[dict[str, Any]]) -> None:
    from pardspy_nb.signatures.logprobs import distributions

    fields = pn.Signature("L").add_input("t").add_output("x", THREE, optional=True).outputs
    assert distributions('{"x":"positive"}', 0, tokens, fields) == {}
    assert spread(tokens, THREE) is None if tokens else True


@pytest.fixture
def sure(server: ScriptedServer) -> Callable[..., None]:
    def answer(p: float) -> None:
        said = '{"sentiment": "negative", "reason": "r"}'
        tokens = [
            token('{"sentiment": "'),
            token("negative", p, positive=(1 - p) / 2),
            token('", "reason": "r"}'),
        ]
        server.script = lambda marker, attempt: Reply(content=said, logprobs=tokens)

    return answer


@pytest.mark.parametrize("way", ["module", "option"])
def test_confidence_is_two_columns_which_the_store_keeps(
    signature: pn.Signature, lm: pn.LM, server: ScriptedServer, sure: Callable[..., None], way: str
) -> None:
    sure(0.8)
    predict = pn.Predict(signature, lm, confidence=way == "module")
    options: dict[str, Any] = {"progress": "none"} | (
        {"confidence": True} if way == "option" else {}
    )
    df = pn.run_parallel(predict, ["row-0", "row-1"], **options)
    assert list(df.columns[1:5]) == [
        "sentiment",
        "reason",
        "sentiment_confidence",
        "sentiment_probabilities",
    ]
    assert str(df["sentiment_confidence"].dtype) == "Float64"
    assert df["sentiment_confidence"].tolist() == [pytest.approx(0.8 / 0.9)] * 2
    assert df["sentiment_probabilities"][0] == {
        "positive": pytest.approx(1 / 9),
        "neutral": 0.0,
        "negative": pytest.approx(8 / 9),
    }
    assert server.requests[0]["logprobs"] is True
    sure(0.5)
    again = pn.run_parallel(predict, ["row-0", "row-1"], **options)
    assert again["cached"].all()
    pd.testing.assert_series_equal(again["sentiment_confidence"], df["sentiment_confidence"])
    plain = pn.run_parallel(pn.Predict(signature, lm), ["row-0"], progress="none")
    assert not plain["cached"].any()
    assert "sentiment_confidence" not in plain


@pytest.mark.parametrize("refuses", [set(), {"logprobs"}])
def test_an_endpoint_without_logprobs_leaves_confidence_missing(
    signature: pn.Signature, lm: pn.LM, server: ScriptedServer, refuses: set[str]
) -> None:
    server.refuses = refuses
    predict = pn.Predict(signature, lm, confidence=True)
    df = pn.run_parallel(predict, [f"row-{i}" for i in range(20)], max_workers=8, **QUIET)
    assert df["status"].eq("ok").all()
    assert df["sentiment_confidence"].isna().all()
    assert df["sentiment_probabilities"].isna().all()
    assert server.refused == (2 if refuses else 0)  # 20 and 5 alternatives


def test_confidence_without_a_class_output_is_refused(lm: pn.LM) -> None:
    with pytest.raises(ValueError, match="class outputs"):
        pn.Predict("text -> reason", lm, confidence=True)
    with pytest.raises(ValueError, match="Predict"):
        pn.run_parallel(lambda text: text, ["a"], confidence=True, **QUIET)


# -- images --------------------------------------------------------------------------------------

PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c63f8cfc0f01f0005000 1ff89993d1d0000000049454e44ae426082".replace(
        " ", ""
    )
)


def test_images_go_as_parts_beside_the_text(
    lm: pn.LM, server: ScriptedServer, tmp_path: Any
) -> None:
    import base64

    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    look = pn.Predict(
        pn.Signature("Look")
        .add_input("photo", pn.Image)
        .add_input("question")
        .add_output("reason"),
        lm,
    )
    photos = [str(path), PNG, "https://example.org/b.jpg", pn.Image(path, detail="low")]
    table = pd.DataFrame({"photo": photos, "question": [f"row-{i}?" for i in range(4)]})
    df = pn.run_parallel(look, table, progress="none", max_workers=1)
    assert list(df["status"]) == ["ok"] * 4 or df["error"].tolist() == []
    parts = [r["messages"][-1]["content"] for r in server.requests]
    assert parts[0][0] == {"type": "text", "text": "question: row-0?\nphoto: (image 1)"}
    data = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert [p[1]["image_url"] for p in parts] == [
        {"url": data},
        {"url": data},
        {"url": "https://example.org/b.jpg"},
        {"url": data, "detail": "low"},
    ]
    assert pn.run_parallel(look, table, progress="none")["cached"].all()
    path.write_bytes(PNG + b"\0")  # another image under the same name
    assert pn.run_parallel(look, table.iloc[:1], progress="none")["cached"].tolist() == [False]


def test_detail_is_part_of_what_an_image_is(lm: pn.LM, server: ScriptedServer) -> None:
    look = pn.Predict(pn.Signature("L").add_input("photo", pn.Image).add_output("reason"), lm)
    photos = [pn.Image(PNG, detail="low"), pn.Image(PNG, detail="high"), pn.Image(PNG)]
    assert not pn.run_parallel(look, photos, progress="none")["cached"].any()
    assert len(set(photos)) == 3


def test_what_is_no_image_is_refused_before_anything_is_sent(
    lm: pn.LM, server: ScriptedServer, tmp_path: Any
) -> None:
    (tmp_path / "b.png").write_text("no image")
    look = pn.Predict(pn.Signature("L").add_input("photo", pn.Image).add_output("reason"), lm)
    for bad in (str(tmp_path / "none.png"), str(tmp_path / "b.png"), b"abc", 3):
        with pytest.raises(ValueError, match="photo"):
            pn.run_parallel(look, {"photo": [PNG, bad]}, **QUIET)
    with pytest.raises(ValueError, match="image"):
        pn.run_parallel(look, [PNG], max_cost_usd=1.0, **QUIET)
    assert server.requests == []
