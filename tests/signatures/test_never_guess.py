"""What is read out of an answer was in it; what is not certain is sent back."""

from __future__ import annotations

import datetime as dt
import enum
import json
from pathlib import Path
from typing import Any, Literal

import pydantic
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn
from pardspy_nb.signatures.output_parser import AnswerParser


def of(kind: Any, *, optional: bool = False, name: str = "x") -> AnswerParser:
    return AnswerParser(pn.Signature("S").add_output(name, kind, optional=optional))


def read(parser: AnswerParser, text: str) -> Any:
    return parser.parse(text, "stop", None).outputs


def value(parser: AnswerParser, text: str) -> Any:
    return next(iter(read(parser, text).values()))


class Unit(enum.Enum):
    LARGE = "MW"
    SMALL = "mW"


@pytest.mark.parametrize(
    ("kind", "text", "expected"),
    [
        (Literal["MW", "mW"], '"MW"', "MW"),
        (Literal["MW", "mW"], '"mW"', "mW"),
        (Literal["MW", "mW"], '" mW "', "mW"),
        (Literal["MW", "mW"], '"mw"', None),
        (Unit, '"MW"', Unit.LARGE),
        (Unit, '"mW"', Unit.SMALL),
        (Unit, '"MW."', Unit.LARGE),
        (Literal["1", 1], '"1"', "1"),
        (Literal["1", 1], "1", 1),
        (Literal["Maße", "Masse"], '"Maße"', "Maße"),
        (Literal["Maße", "Masse"], '"Masse"', "Masse"),
        (Literal["Maße", "Masse"], '"MASSE"', None),
        (Literal["don't know", "A - B"], '"don’t know"', "don't know"),
        (Literal["don't know", "A - B"], '"A – B"', "A - B"),
        (Literal["Zürich"], '"Zu\\u0308rich"', "Zürich"),
        (Literal["good"], '"go\\u200bod"', "good"),
        (Literal["a b"], '"a\\u00a0b"', "a b"),
        (Literal["a-b", "a–b"], '"a—b"', None),
        (Literal["good"], '"goods"', None),
    ],
)
def test_labels_are_read_exactly_first_and_freely_only_where_they_are_unique(
    kind: Any, text: str, expected: Any
) -> None:
    parser = of(kind)
    if expected is None:
        with pytest.raises(pn.InvalidOutputError):
            value(parser, f'{{"x": {text}}}')
    else:
        found = value(parser, f'{{"x": {text}}}')
        assert found == expected
        assert type(found) is type(expected)


@pytest.mark.parametrize(
    "text",
    [
        "Die Bewertung ist nicht positiv",
        "This message is free of positive words",
        "far from positive",
        "positive or negative",
        "positive? Certainly. negative",
        "label: not positive",
        "The x is: positive, I would say",
        "<think>x: positive",
        '<think>{"x": "positive"}',
        '<thinking>done</thinking><think>{"x": "positive"}',
        'Either {"x": "positive"} or {"x": "negative"}.',
        '```\n{"x": "positive"}\n```\n```\n{"x": "negative"}\n```',
        '{"y": "positive"}',
    ],
)
def test_what_is_not_certain_is_sent_back(text: str) -> None:
    with pytest.raises(pn.InvalidOutputError):
        read(of(Literal["positive", "negative"]), text)


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (int, '{"x": −5}'),
        (int, '{"x": –5}'),
        (float, "x: −5"),
        (dt.datetime, '{"x": 2024}'),
        (dt.datetime, '{"x": "2024"}'),
        (dt.date, '{"x": 1700000000}'),
        (list[dt.date], '{"x": ["2024-01-02", 19700]}'),
        (float, '{"x": "NaN"}'),
        (float, '{"x": NaN}'),
        (float, '{"x": Infinity}'),
        (list[float], '{"x": [1, "inf"]}'),
    ],
)
def test_a_value_is_read_whole_or_not_at_all(kind: Any, text: str) -> None:
    with pytest.raises(pn.InvalidOutputError):
        read(of(kind), text)


def test_values_that_are_written_as_they_should_be() -> None:
    class Event(pydantic.BaseModel):
        at: dt.datetime
        share: float = 0.0

    assert value(of(int), '{"x": -5}') == -5
    assert value(of(dt.date), '{"x": "2024-01-02"}') == dt.date(2024, 1, 2)
    text = '{"x": [{"at": "2024-01-02T03:04:05", "share": 1}]}'
    assert value(of(list[Event]), text)[0].at == dt.datetime(2024, 1, 2, 3, 4, 5)
    with pytest.raises(pn.InvalidOutputError):
        read(of(list[Event]), '{"x": [{"at": 1700000000}]}')


def test_lines_are_read_whole() -> None:
    signature = pn.Signature("S").add_class_output("label", ["good", "bad"])
    parser = AnswerParser(signature.add_output("reason"))
    text = "Label: good\n**Reason:**\nFirst line.\n\n- second: line"
    assert read(parser, text) == {"label": "good", "reason": "First line.\n\n- second: line"}
    text = "reason: one\ntwo\nlabel: bad"
    assert read(parser, text) == {"label": "bad", "reason": "one\ntwo"}
    with pytest.raises(pn.InvalidOutputError):
        read(parser, "reason: one\nlabel: bad\nI hope this helps!")


def test_an_object_with_none_of_the_names_is_no_answer() -> None:
    city = of(str, optional=True, name="city")
    assert read(city, '{"City": "Rome"}') == {"city": "Rome"}
    assert read(city, '{"answer": {"city": "Rome"}}') == {"city": "Rome"}
    for text in ('{"error": "I cannot help"}', "{}", '{"town": "Rome"}'):
        with pytest.raises(pn.InvalidOutputError):
            read(city, text)
    two = AnswerParser(
        pn.Signature("S").add_output("city", optional=True).add_output("country", optional=True)
    )
    assert read(two, '{"City": "Rome", "country": "IT"}') == {"city": "Rome", "country": "IT"}
    assert read(two, '{"country": "IT"}') == {"city": None, "country": "IT"}


@pytest.mark.parametrize("half", ["\\ud800", "\\udc00", "\ud800"])
def test_half_a_surrogate_pair_does_not_fail_a_row(half: str) -> None:
    found = AnswerParser(pn.Signature("S").add_output("x")).parse(f'{{"x": "a{half}b"}}', "stop", 0)
    assert (found.outputs, found.repaired) == ({"x": "a\ufffdb"}, "mended")
    whole = '{"x": "\\ud83d\\ude00 \\\\ud800"}'
    assert value(of(str), whole) == "😀 \\ud800"


def test_confidence_knows_labels_that_differ_only_in_case() -> None:
    from pardspy_nb.signatures.logprobs import distributions

    fields = pn.Signature("S").add_class_output("unit", ["MW", "mW"]).outputs
    text = '{"unit": "MW"}'
    tokens = [
        {"token": '{"unit": "', "logprob": 0.0, "top_logprobs": []},
        {
            "token": "MW",
            "logprob": -0.2231,
            "top_logprobs": [
                {"token": "MW", "logprob": -0.2231},
                {"token": "mW", "logprob": -1.6094},
            ],
        },
        {"token": '"}', "logprob": 0.0, "top_logprobs": []},
    ]
    spread = distributions(text, 0, tokens, fields)["unit"]
    assert spread["MW"] == pytest.approx(0.8, abs=0.01)
    assert spread["mW"] == pytest.approx(0.2, abs=0.01)


def test_confidence_never_comes_from_a_draft() -> None:
    parser = AnswerParser(pn.Signature("S").add_class_output("x", ["a", "b"]))
    twice = 'I say {"x": "a"}. Again: {"x": "a"}'
    assert parser.parse(twice, "stop", None).start is None
    ahead = '{"x": "a"}\nNext: {"x": "b"}'
    assert parser.parse(ahead, "stop", None)[::2] == ({"x": "a"}, 0)


words = st.text(st.characters(codec="ascii", categories=["L", "N", "P", "Zs"]), max_size=60)
plain_words = words.filter(lambda t: not set("{}") & set(t))
LABELS = ["spam", "not spam", "HAM", "ham"]


@given(words, st.sampled_from(LABELS), words)
def test_a_label_is_never_read_out_of_other_words(before: str, label: str, after: str) -> None:
    parser = AnswerParser(pn.Signature("S").add_class_output("x", LABELS))
    text = f"{before} {label} {after}"
    try:
        found = value(parser, text)
    except pn.InvalidOutputError:
        return
    bare = "".join(c for c in text.partition(":")[2] or text if c.isalnum() or c == " ")
    assert found.casefold() in " ".join(bare.split()).casefold()
    if any(c.isalnum() for c in before + after):
        assert before.strip(" \"'`*_.,;:!?()[]>#•-").casefold() in ("", "x", "not"), text


@given(
    st.fixed_dictionaries(
        {
            "x": st.sampled_from(LABELS),
            "n": st.integers(-99, 99),
            "t": plain_words,
            "f": st.floats(-9, 9),
        }
    ),
    st.sampled_from(
        [
            "{}",
            "```json\n{}\n```",
            "Here it is: {} Done.",
            "<think>maybe {{}}</think>\n{}",
            "{}\n\nUser: next",
            "\ufeff {} ",
        ]
    ),
)
def test_the_same_answer_in_any_wrapping_is_the_same_or_an_error(
    answer: dict[str, Any], wrapping: str
) -> None:
    signature = pn.Signature("S").add_class_output("x", LABELS).add_output("n", int)
    parser = AnswerParser(signature.add_output("t").add_output("f", float))
    text = wrapping.replace("{}", json.dumps(answer)).replace("{{", "{").replace("}}", "}")
    try:
        assert read(parser, text) == answer
    except pn.InvalidOutputError:
        assert wrapping != "{}"


class Colour(enum.Enum):
    RED = enum.auto()
    DARK_BLUE = enum.auto()


class Size(enum.Enum):
    SMALL = (1, 2)
    LARGE = (3, 4)


class Stars(enum.IntEnum):
    ONE = 1
    TWO = 2


class Part(pydantic.BaseModel):
    colour: Colour
    more: dict[str, list[Colour]] = {}


def test_an_enum_whose_values_say_nothing_shows_its_names(
    server: ScriptedServer, tmp_path: Path
) -> None:
    server.script = lambda marker, attempt: Reply(
        content='{"colour": "dark_blue", "size": "LARGE", "stars": 2, "all": ["RED"], '
        '"parts": [{"colour": "RED", "more": {"x": ["DARK_BLUE"]}}], "best": "RED"}'
    )
    signature = pn.Signature("see").add_input("text").add_output("colour", Colour)
    signature = signature.add_output("size", Size).add_output("stars", Stars)
    signature = signature.add_output("all", list[Colour]).add_output("parts", list[Part])
    signature = signature.add_output("best", Colour | None)
    predict = pn.Predict(signature, pn.LM("m", base_url=server.url, api_key="k"))
    first = pn.run_parallel(predict, ["row-1"], progress="none")
    again = pn.run_parallel(predict, ["row-1"], progress="none")
    assert again["cached"].all()
    for df in (first, again):
        (row,) = df.to_dict("records")
        assert (row["colour"], row["size"], row["stars"]) == ("DARK_BLUE", "LARGE", 2)
        assert row["all"] == ["RED"]
        assert row["best"] == "RED"
        assert row["parts"][0]["more"] == {"x": ["DARK_BLUE"]}
        assert df["colour"].cat.categories.tolist() == ["RED", "DARK_BLUE"]
        df.parallel.to_csv(tmp_path / "out.csv")
        assert '["RED"]' in (tmp_path / "out.csv").read_text().replace('""', '"')
    assert predict(text="row-1").colour is Colour.DARK_BLUE
    sent = server.requests[0]
    said = sent["messages"][0]["content"]
    assert "colour (one of: RED, DARK_BLUE)" in said
    schema = json.dumps(sent["response_format"])
    assert schema.count('["RED", "DARK_BLUE"]') == 2 or '"enum": ["RED", "DARK_BLUE"]' in schema
    assert '"enum": [1, 2]' in schema  # an IntEnum's are numbers


def test_demos_and_inputs_show_names_too(server: ScriptedServer) -> None:
    signature = pn.Signature("s").add_input("seen", Colour).add_output("colour", Colour)
    server.script = lambda marker, attempt: Reply(content='{"colour": "RED"}')
    demo = {"seen": Colour.RED, "colour": Colour.DARK_BLUE}
    predict = pn.Predict(signature, pn.LM("m", base_url=server.url, api_key="k"), demos=[demo])
    df = pn.run_parallel(predict, [{"seen": Colour.DARK_BLUE}, {"seen": "RED"}], progress="none")
    assert df["colour"].tolist() == ["RED", "RED"]
    told = json.dumps([r["messages"][1:] for r in server.requests])
    assert "DARK_BLUE" in told
    assert "seen: 1" not in told
    assert "seen: 2" not in told
    evaluation = pn.evaluate(df, truth=[Colour.RED, "DARK_BLUE"], pred="colour")
    assert evaluation.set_index("metric").loc["accuracy", "value"] == 0.5


class Named(pydantic.BaseModel):
    a: int


@pytest.mark.parametrize(
    ("kind", "text"),
    [
        (str, '{"x": "a", "x": "b"}'),
        (str, '```json\n{"x": "a", "x": "b"}\n```'),
        (str, "{'x': 'a', 'x': 'b'}"),
        (Named, '{"x": {"a": 1, "a": 2}}'),
        (list[Named], '{"x": [{"a": 1, "a": 2}]}'),
        (dict[str, int], 'So: {"x": {"a": 1, "a": 2}}'),
        (int, '{"x": true}'),
        (float, '{"x": false}'),
        (list[int], '{"x": [1, true]}'),
        (Named, '{"x": {"a": true}}'),
        (dt.time, '{"x": 750}'),
        (dt.timedelta, '{"x": 90}'),
        (str, '[THINK]maybe {"x": "a"}'),
        (str, '<seed:think>maybe {"x": "a"}'),
        (str, '<|channel|>analysis<|message|>maybe {"x": "a"}'),
    ],
)
def test_two_values_other_types_and_drafts_are_no_answer(kind: Any, text: str) -> None:
    with pytest.raises(pn.InvalidOutputError):
        read(of(kind), text)


@pytest.mark.parametrize(
    "text",
    [
        '[THINK]maybe {"x": "a"}[/THINK]{"x": "b"}',
        '<seed:think>{"x": "a"}</seed:think>{"x": "b"}',
        '<|channel|>analysis<|message|>{"x": "a"}<|end|><|start|>assistant'
        '<|channel|>final <|constrain|>json<|message|>{"x": "b"}<|return|>',
        '{"x": "b", "x": "b"}',
    ],
)
def test_what_stands_behind_the_thoughts_is_the_answer(text: str) -> None:
    assert value(of(str), text) == "b"
