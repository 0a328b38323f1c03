"""Finds the answer in a text that is not exactly the requested JSON.

Nothing is invented: JSON that was cut off is not read, and from prose only explicit statements are
taken. A text may hold several answers (a draft, an example, the final one). Then the last one that
fits counts.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from .fields import MARKS, Field

_MOST_CHARS = 100_000  # a longer text is not searched
_MOST_MENDED = 20_000  # a longer object with broken syntax is not repaired
_MOST_STARTS = 50  # opening braces that are tried as the start of an object
_MOST_SAID = 200  # a longer text in prose is not read as one label
_BULLETS = " \t>*_#•-\"'`"
_NUMBER = re.compile(r"-?(\d+(\.\d*)?|\.\d+)")
_DENIES = re.compile(
    r"\b(not|no|nor|neither|never|none|without|hardly|cannot|unable|unclear|whether|if|unless|or"
    r"|either|between|maybe|perhaps|might|could|but|far from|less than|\w+n['’]t)\b"
)


class Found(NamedTuple):
    """One possible reading of a text.

    Attributes:
        values: an object in the text, or the statements of prose, by field name.
        how: how the text was repaired, in one word.
        start: where the object begins in the text; None if the text does not hold it literally.
    """

    values: dict[str, Any]
    how: str
    start: int | None


def find(text: str, fields: Mapping[str, Field]) -> Iterator[Found]:
    """The possible readings of a text that is not the requested JSON, the likeliest first."""
    if len(text) > _MOST_CHARS:
        return
    begin = text.rfind("</think>") + len("</think>") if "</think>" in text else 0
    said = text[begin:]
    fenced = [_objects(body, begin + at, fields, "fenced") for body, at in _fences(said)]
    yield from reversed([found for of in fenced for found in of])
    yield from reversed(list(_objects(said, begin, fields, "embedded")))
    if "{" in said:
        yield from _mended(said, fields)
    else:
        prose = _lines(said, fields) or _single(said, fields)
        yield from [Found(prose, "prose", None)] if prose else []


def _fences(text: str) -> Iterator[tuple[str, int]]:
    """The text between ``` and ```, and where it begins."""
    at = 0
    for i, piece in enumerate(text.split("```")):
        if i % 2:
            yield piece, at
        at += len(piece) + 3


def _objects(text: str, offset: int, fields: Mapping[str, Field], how: str) -> Iterator[Found]:
    decoder = json.JSONDecoder()
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
                yield Found(values, "renamed" if alone else how, start)
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

    value = json_repair.loads(part)
    values = _named(value, fields)
    if values is not None and _is_there(value, part):
        yield Found(values, "mended", None)


def _is_there(value: Any, text: str) -> bool:
    """Whether each value of a repaired object is in the text, and was not shortened by repair."""
    if isinstance(value, dict):
        return all(_is_there(v, text) for v in value.values())
    if isinstance(value, list):
        return all(_is_there(v, text) for v in value)
    if isinstance(value, str):
        return value in text if value else '""' in text or "''" in text
    if isinstance(value, int | float) and not isinstance(value, bool):
        return bool(re.search(rf"(?<![\w.]){re.escape(str(value))}\s*[,}}\]]", text))
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
    """The values of `name: value` lines, if every required field has such a line."""
    known = {name.casefold(): name for name in fields}
    said: dict[str, Any] = {}
    for line in text.splitlines():
        head, sign, value = line.partition(":" if ":" in line else "=")
        name = known.get(_folded(head.strip(_BULLETS)))
        if name is None or not sign:
            continue
        field = fields[name]
        read = value.strip(MARKS) if field.labels is not None else _scalar(value, field)
        if said.setdefault(name, read) != read:
            return {}  # the text gives two values for one field
    needed = (name for name, field in fields.items() if not field.optional)
    return said if all(name in said for name in needed) else {}


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
    """The one label that a short text states without doubt, for a single class output."""
    if len(fields) != 1:
        return {}
    name, field = next(iter(fields.items()))
    rest = text.strip(MARKS).casefold()
    if rest in field.spellings:
        return {name: field.spellings[rest]}
    if len(rest) > _MOST_SAID or "?" in text:
        return {}
    said = set()
    for spelling, label in sorted(field.spellings.items(), key=lambda s: -len(s[0])):
        pattern = (
            rf"(?<!\w){re.escape(spelling)}(?!\w)"  # the longest first: "very good" is no "good"
        )
        if spelling and re.search(pattern, rest):
            said.add(label)
            rest = re.sub(pattern, " ", rest)
    return {name: said.pop()} if len(said) == 1 and not _DENIES.search(rest) else {}
