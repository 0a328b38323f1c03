"""Reading answers that say more, or less, than was asked for."""

from __future__ import annotations

import json
from typing import Any

import pytest

import pardspy_nb as pn
from pardspy_nb.signatures.output_parser import AnswerParser

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
        ("It is a good one.", None),
        ("sentiment: Good", "good"),
        ("great", "very good"),
        ("not bad", None),
        ("good or bad", None),
        ("It isn't good", None),
        ("fine", None),
        ("goodness", None),
    ],
)
def test_prose_counts_where_it_is_a_label_and_nothing_else(
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
        f'Schema: {{"sentiment": "positive|negative"}}\nAnswer: {json.dumps(GOOD)}',
        f'{json.dumps(GOOD)} as in {{"sentiment": "positive|negative"}}',
        f"{json.dumps(GOOD)}\n\nUser: and this?\nAssistant: {json.dumps(DRAFT)}",
        f"It is {json.dumps(GOOD)}; once more: {json.dumps(GOOD)}",
    ],
)
def test_of_several_objects_the_one_that_is_certain_counts(
    signature: pn.Signature, text: str
) -> None:
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
    assert read(other, "Not spam.")[0] == {"is": "not spam"}
    for text in (
        "This is not spam.",
        "I cannot tell whether this is spam.",
        "This is anything but spam",
        "Is it spam?",
    ):
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
