"""The answer in a text that is more, or less, than the JSON asked for.

Nothing is made up: JSON that was cut off stays unread, and of prose only what it states in so
many words is taken.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from .fields import MARKS, Field

_FENCE = re.compile(r"```[\w-]*\s*\n?(.*?)```", re.DOTALL)
_LINE = r"^[\s>*_#•-]*[\"'`*_]*{name}[\"'`*_]*\s*[:=]\s*(.+?)\s*$"
_DENIES = re.compile(r"\b(not|no|nor|neither|never|none|without|hardly|\w+n['’]t)\b", re.IGNORECASE)


class Found(NamedTuple):
    """An object in a text.

    Attributes:
        values: the object, or what prose says, by field name.
        how: what had to be done, in a word or two.
        start: where the object begins in the text; None where it is not there as it stands.
    """

    values: dict[str, Any]
    how: str
    start: int | None


def find(text: str, fields: Mapping[str, Field]) -> Found | None:
    """What a text that is not the JSON asked for says of the fields; None if that is nothing."""
    for match in [*_FENCE.finditer(text), None]:
        body, offset = (text, 0) if match is None else (match.group(1), match.start(1))
        found = _object(body, fields, "fenced" if match else "embedded")
        if found is not None:
            at = None if found.start is None else offset + found.start
            return found._replace(start=at)
    if "{" in text:
        return None
    said = _lines(text, fields) or _single(text, fields)
    return Found(said, "prose", None) if said else None


def _object(text: str, fields: Mapping[str, Field], how: str) -> Found | None:
    decoder = json.JSONDecoder()
    at = text.find("{")
    while at >= 0:
        try:
            value, end = decoder.raw_decode(text, at)
        except ValueError:
            end = at + 1
        else:
            values = _named(value, fields)
            if values is not None:
                whole = not text[:at].strip() and not text[end:].strip() and how == "embedded"
                return Found(values, "renamed" if whole else how, at if values == value else None)
        at = text.find("{", end)
    return _mended(text, fields)


def _mended(text: str, fields: Mapping[str, Field]) -> Found | None:
    """An object that only breaks the rules of JSON (quotes, commas, comments)."""
    first, last = text.find("{"), text.rfind("}")
    part = text[first : last + 1]
    if first < 0 or part.count("{") != part.count("}"):  # cut off: its rest would be made up
        return None
    import json_repair

    values = _named(json_repair.loads(part), fields)
    return None if values is None else Found(values, "mended", None)


def _named(value: Any, fields: Mapping[str, Field]) -> dict[str, Any] | None:
    """An object's values by the names of fields, whatever their case; of one that only wraps
    another, that one's."""
    if not isinstance(value, dict):
        return None
    known = {name.casefold(): name for name in fields}
    named: dict[str, Any] = {
        known.get(str(k).strip().casefold().replace(" ", "_"), str(k)): v for k, v in value.items()
    }
    if fields.keys() & named.keys():
        return named
    inner = next(iter(value.values())) if len(value) == 1 else None
    return _named(inner, fields)


def _lines(text: str, fields: Mapping[str, Field]) -> dict[str, Any]:
    """`name: value` lines for every field that is required; a label without what surrounds it."""
    said = {}
    for name, field in fields.items():
        spelled = re.escape(name).replace("_", "[_ ]")
        match = re.search(_LINE.format(name=spelled), text, re.IGNORECASE | re.MULTILINE)
        if match is not None:
            value = match.group(1)
            said[name] = value.strip(MARKS) if field.labels is not None else _scalar(value, field)
        elif not field.optional:
            return {}
    return said


def _scalar(text: str, field: Field) -> Any:
    if field.value_type is str:
        return text.strip().strip("\"'`*_")
    try:
        return json.loads(text.strip(MARKS).lower())
    except ValueError:
        return text


def _single(text: str, fields: Mapping[str, Field]) -> dict[str, Any]:
    """The one label that a text mentions, for a single class output, if it denies nothing."""
    if len(fields) != 1 or _DENIES.search(text):
        return {}
    name, field = next(iter(fields.items()))
    spellings = sorted(field.spellings.items(), key=lambda s: -len(s[0]))
    said, rest = set(), text.casefold()
    for spelling, label in spellings:  # the longest first: "very good" is not "good"
        pattern = rf"(?<!\w){re.escape(spelling)}(?!\w)"
        if spelling and re.search(pattern, rest):
            said.add(label)
            rest = re.sub(pattern, " ", rest)
    return {name: said.pop()} if len(said) == 1 else {}
