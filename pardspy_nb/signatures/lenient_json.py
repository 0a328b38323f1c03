"""Finds the answer in a text that is not exactly the requested JSON.

Nothing is guessed. JSON that was cut off is not read, nor anything in thoughts that were never
closed. If a text begins with a fitting object, that is the answer, whatever follows. Of several
objects elsewhere all must say the same. Of prose only a bare label and lines of `name: value` are
read.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from ..core.labels import plain_label
from .fields import Field
from .spelling import MARKS, NO_LABEL

_MOST_CHARS = 100_000  # a longer text is not searched
_MOST_MENDED = 20_000  # a longer object with broken syntax is not repaired
_MOST_STARTS = 50  # opening braces that are tried as the start of an object
_MOST_LABEL = 1_000  # a longer text is no label
_BULLETS = " \t>*_#•-\"'`"
_NUMBER = re.compile(r"-?(\d+(\.\d*)?|\.\d+)")
_THOUGHTS = "think|thinking|thought|reasoning"
# also Mistral's, Kimi's, Seed's, and the channels of gpt-oss (OpenAI's "harmony" format)
_OPENED = re.compile(
    rf"<(\w+:)?({_THOUGHTS})>|\[THINK\]|◁think▷|<\|channel\|>(analysis|commentary)", re.IGNORECASE
)
_CLOSED = re.compile(
    rf"</(\w+:)?({_THOUGHTS})>|\[/THINK\]|◁/think▷|<\|channel\|>final[^{{]*?<\|message\|>", re.I
)


class Found(NamedTuple):
    """One possible reading of a text.

    Attributes:
        values: an object in the text, or the statements of prose, by field name.
        how: how the text was repaired, in one word.
        start: where the object begins in the text; None if the text does not hold it literally.
        at: where the reading begins in the text.
    """

    values: dict[str, Any]
    how: str
    start: int | None
    at: int = 0


def find(text: str, fields: Mapping[str, Field]) -> Iterator[list[Found]]:
    """The possible readings of a text that is not the requested JSON, the likeliest kind first. All
    readings of one kind that fit must say the same.

    Raises:
        ValueError: the text ends within thoughts.
    """
    if len(text) > _MOST_CHARS:
        return
    begin = end_of_thoughts(text)
    said = text[begin:]
    objects = list(_objects(said, begin, fields, "embedded"))
    if objects and not said[: objects[0].at - begin].strip():
        yield objects[:1]
    fenced = [_objects(body, begin + at, fields, "fenced") for body, at in _fences(said)]
    yield [found for of in fenced for found in of] or objects
    if "{" in said:
        yield list(_mended(said, fields))
        return
    yield [Found(prose, "prose", None) for prose in (_lines(said, fields),) if prose]
    yield [Found(prose, "prose", None) for prose in (_single(said, fields),) if prose]


def end_of_thoughts(text: str) -> int:
    """Where a text goes on after the model's thoughts; 0 without thoughts. ValueError if they are
    never closed."""
    closed = [match.end() for match in _CLOSED.finditer(text)]
    begin = closed[-1] if closed else 0
    if _OPENED.search(text, begin):
        raise ValueError("the answer ends within the model's thoughts")
    return begin


def _fences(text: str) -> Iterator[tuple[str, int]]:
    """The text between ``` and ```, and where it begins."""
    at = 0
    for i, piece in enumerate(text.split("```")):
        if i % 2:
            yield piece, at
        at += len(piece) + 3


def single(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object of JSON whose names come once, or with the same value. ValueError if not."""
    made = dict(pairs)
    if len(made) < len(pairs) and any(made[name] != value for name, value in pairs):
        raise ValueError("an object has two values for one name")
    return made


def _objects(text: str, offset: int, fields: Mapping[str, Field], how: str) -> Iterator[Found]:
    decoder = json.JSONDecoder(object_pairs_hook=single)
    at, tries = text.find("{"), 0
    while at >= 0 and tries < _MOST_STARTS:
        tries += 1
        try:
            value, end = decoder.raw_decode(text, at)
        except (ValueError, RecursionError):
            end = at + 1
        else:
            values = _named(value, fields)
            if values is not None:
                alone = how == "embedded" and not (
                    offset or text[:at].strip() or text[end:].strip()
                )
                start = offset + at if values == value else None
                yield Found(values, "renamed" if alone else how, start, offset + at)
        at = text.find("{", end)


def _mended(text: str, fields: Mapping[str, Field]) -> Iterator[Found]:
    """An object whose only defect is JSON syntax: quotes, commas, comments."""
    first, last = text.find("{"), text.rfind("}")
    part = text[first : last + 1]
    if part.count("{") != part.count("}"):  # cut off: a repair would invent the rest
        return
    if len(part) > _MOST_MENDED or part.count("{") > _MOST_STARTS:
        return
    import json_repair

    # a repair keeps the last of two values under one name
    if _is_json(part) or any(
        len(re.findall(rf"\b{re.escape(name)}\b[\"']?\s*:", part)) > 1 for name in fields
    ):
        return
    value = json_repair.loads(part)
    values = _named(value, fields)
    if values is not None and _is_there(value, part):
        yield Found(values, "mended", None)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _is_there(value: Any, text: str) -> bool:
    """Whether each value of a repaired object is in the text, and was not shortened by repair."""
    if isinstance(value, dict):
        return all(_is_there(v, text) for v in value.values())
    if isinstance(value, list):
        return all(_is_there(v, text) for v in value)
    if isinstance(value, str):
        return value in text if value else '""' in text or "''" in text
    if isinstance(value, int | float) and not isinstance(value, bool):
        # whole, and with its sign, whatever minus it is
        return bool(re.search(rf"(?<![\w.+\-\u2212\u2013]){re.escape(str(value))}\s*[,}}\]]", text))
    return True


def _named(value: Any, fields: Mapping[str, Field], depth: int = 0) -> dict[str, Any] | None:
    """An object's values by field name, whatever the case of the names.

    If an object only wraps another object, the inner one is used.
    """
    if not isinstance(value, dict) or depth > 3:
        return None
    known = {name.casefold(): name for name in fields}
    named = {known.get(_folded(k), str(k)): v for k, v in value.items()}
    if fields.keys() & named.keys():
        return named
    inner = next(iter(value.values())) if len(value) == 1 else None
    return _named(inner, fields, depth + 1)


def _folded(name: Any) -> str:
    return str(name).strip(MARKS).casefold().replace(" ", "_")


def _lines(text: str, fields: Mapping[str, Field]) -> dict[str, Any]:
    """The values of `name: value` lines, if every required field has such a line. A value goes on
    to the next such line."""
    known = {name.casefold(): name for name in fields}
    said: dict[str, list[str]] = {}
    name = None
    for line in text.splitlines():
        head, sign, value = line.partition(":" if ":" in line else "=")
        found = known.get(_folded(head.strip(_BULLETS))) if sign else None
        if found is None:
            if name is not None:
                said[name].append(line)
            continue
        if found in said and said[found] != [value]:
            return {}  # the text gives two values for one field
        name, said[found] = found, [value]
    needed = (name for name, field in fields.items() if not field.optional)
    if not all(name in said for name in needed):
        return {}
    return {name: _value("\n".join(lines), fields[name]) for name, lines in said.items()}


def _value(text: str, field: Field) -> Any:
    return text.strip(MARKS) if field.labels is not None else _scalar(text, field)


def _scalar(text: str, field: Field) -> Any:
    bare = text.strip().strip("\"'`*_").strip()
    if field.value_type is str:
        return bare
    number = bare.removesuffix(".")
    if _NUMBER.fullmatch(number):
        return float(number) if "." in number else int(number)
    try:
        return json.loads(bare.lower() if field.value_type is bool else bare)
    except (ValueError, RecursionError):
        return bare


def _single(text: str, fields: Mapping[str, Field]) -> dict[str, Any]:
    """The label that the whole text is, for a single class output."""
    if len(fields) != 1:
        return {}
    name, field = next(iter(fields.items()))
    if field.labels is None or len(text) > _MOST_LABEL:
        return {}
    label = field.spellings.label_of(text)
    return {} if label is NO_LABEL else {name: plain_label(label)}
