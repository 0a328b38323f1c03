"""How sure a model was of a label: token log probabilities, restricted to the labels.

The tokens are aligned with the JSON value of the field. At some tokens the labels diverge. There,
the probabilities of the alternatives that lead to a label are scaled to a sum of 1, as by a sampler
that may choose labels only. The probability of a label is the product along its path.

So alternatives that lead to no label do not count. This also holds if an endpoint reports the
probabilities from before its own mask, as llama.cpp does. A label that is not among the reported
alternatives has the probability 0.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from ..core.labels import plain_label
from .fields import Field

Distribution = dict[str, float | None]  # by label; None if two labels are indistinguishable
_SUFFIXES = ("confidence", "probabilities")
_Labels = frozenset[Any]


def columns_for(fields: Mapping[str, Field]) -> dict[str, Field]:
    """The columns that confidence adds for class outputs: the chosen label's probability, and a
    dict of all labels' probabilities.

    Raises:
        ValueError: there is no class output, or a field has the name of such a column.
    """
    found: dict[str, Field] = {}
    for name, field in fields.items():
        if field.labels is not None:
            kinds = (float, dict[str, float | None])
            for suffix, kind in zip(_SUFFIXES, kinds, strict=True):
                added = f"{name}_{suffix}"
                found[added] = Field(added, kind, optional=True)
    if not found:
        raise ValueError(
            "confidence needs class outputs, and the signature has none: add one with "
            "add_class_output(name, labels)"
        )
    if clash := [name for name in found if name in fields]:
        raise ValueError(f"confidence adds columns {clash}, which the signature already has")
    return found


def as_columns(
    told: Mapping[str, Distribution], outputs: Mapping[str, Any], fields: Mapping[str, Field]
) -> dict[str, Any]:
    """The values of the confidence columns; None for a field without a distribution."""
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if field.labels is not None:
            label = plain_label(outputs[name])
            spread = told.get(name)
            values[f"{name}_confidence"] = None if spread is None else spread.get(str(label))
            values[f"{name}_probabilities"] = spread
    return values


def distributions(
    text: str, start: int, tokens: Sequence[Mapping[str, Any]], fields: Mapping[str, Field]
) -> dict[str, Distribution]:
    """The class outputs' distributions.

    Args:
        text: the answer, whose JSON object begins at `start`.
        tokens: one entry for each token, as in OpenAI's `logprobs.content`: `token`, `bytes`,
            `logprob`, and `top_logprobs` with the same keys for each alternative.

    Returns:
        The distribution of each field. A field is absent if its distribution is unknown: the
        tokens do not match the text, or the probabilities are missing or not valid.
    """
    try:
        return _distributions(text, start, tokens, fields)
    except (TypeError, ValueError, AttributeError, OverflowError):
        return {}  # the tokens do not have the structure of OpenAI's


def _distributions(
    text: str, start: int, tokens: Sequence[Mapping[str, Any]], fields: Mapping[str, Field]
) -> dict[str, Distribution]:
    pieces = [_bytes(token) for token in tokens]
    whole = b"".join(pieces)
    offset = whole.find(text.encode("utf-8", "replace"))
    if offset < 0:
        return {}
    found = {}
    for name, begin in _values(text, start):
        field = fields.get(name)
        if field is not None and field.labels is not None:
            at = offset + len(text[:begin].encode("utf-8", "replace"))
            spread = _Walk(pieces, tokens, at, field).spread()
            if spread is not None:
                found[name] = {str(label): spread.get(label, 0.0) for label in field.labels}
    return found


class _Walk:
    """Follows the tokens of one value, which begins at byte `at`."""

    def __init__(
        self, pieces: Sequence[bytes], tokens: Sequence[Mapping[str, Any]], at: int, field: Field
    ) -> None:
        self._pieces, self._tokens, self._at = pieces, tokens, at
        # where labels differ only in case, the case counts
        self._fold: Callable[[str], str] = str if field.spellings.folds_alike else str.casefold
        self._spelled = [
            (self._fold(json.dumps(text, ensure_ascii=False)), label)
            for text, label in field.spellings.spelled
        ] + [(str(label), label) for label in field.labels or () if not isinstance(label, str)]
        self._all: _Labels = frozenset(field.labels or ())

    def spread(self) -> dict[Any, float | None] | None:
        """Probabilities by label; None if they are unknown."""
        begin = 0
        for index, piece in enumerate(self._pieces):
            if begin + len(piece) > self._at:
                return self._spread(index, begin, self._all)
            begin += len(piece)
        return None

    def _spread(self, index: int, begin: int, left: _Labels) -> dict[Any, float | None] | None:
        """The probabilities of the labels that are still possible before this token."""
        while len(left) > 1:
            if index == len(self._tokens):
                return None
            before = b"".join(self._pieces[:index])[self._at :]
            taken = self._leads_to(before, begin, self._pieces[index], left)
            if not taken:
                return None  # the value, as written, is not a label
            if taken != left and not self._tokens[index].get("top_logprobs"):
                return None  # the endpoint does not report the alternatives
            masses = self._masses(index, before, begin, left)
            begin += len(self._pieces[index])
            index += 1
            if masses.keys() == {taken}:
                left = taken
                continue
            total = sum(masses.values())
            further = self._spread(index, begin, taken)
            if total <= 0 or further is None or math.isnan(total):
                return None
            return _shared_out({g: m / total for g, m in masses.items()}, taken, further)
        return dict.fromkeys(left, 1.0)

    def _masses(self, index: int, before: bytes, begin: int, left: _Labels) -> dict[_Labels, float]:
        """The probabilities of this token's alternatives, by the labels they lead to."""
        token = self._tokens[index]
        seen = {_bytes(a): a.get("logprob") for a in token.get("top_logprobs") or ()}
        seen[self._pieces[index]] = token.get("logprob")
        masses: dict[_Labels, float] = {}
        for piece, logprob in seen.items():
            group = self._leads_to(before, begin, piece, left)
            if group:
                known = logprob is not None and not math.isnan(logprob)
                mass = math.exp(min(0.0, logprob)) if known else math.nan
                masses[group] = masses.get(group, 0.0) + mass
        return masses

    def _leads_to(self, before: bytes, begin: int, piece: bytes, left: _Labels) -> _Labels:
        """The labels that remain possible if the value continues with `piece`."""
        if begin < self._at:  # this token begins before the value does
            lead = b"".join(self._pieces)[begin : self._at].strip()
            head, _, piece = piece.partition(lead) if lead else (b"", b"", piece)
            if head.strip():
                return frozenset()
        said = self._fold((before + piece).decode("utf-8", "ignore").lstrip())
        return frozenset(
            label
            for spelled, label in self._spelled
            if label in left and (spelled.startswith(said) or _begins(said, spelled))
        )


def _begins(said: str, spelled: str) -> bool:
    """Whether the text so far begins with the whole value: 12 does not begin with 1."""
    return said.startswith(spelled) and not said[len(spelled) :][:1].isalnum()


def _shared_out(
    weights: Mapping[_Labels, float], taken: _Labels, further: Mapping[Any, float | None]
) -> dict[Any, float | None]:
    """Convert the weights of groups of labels to the probabilities of labels.

    A group's weight is divided among its labels in proportion to their other probabilities. If
    these are all 0, the proportion is unknown and the labels have None.
    """
    known: dict[Any, float | None] = {}
    for label, share in further.items():
        known[label] = None if share is None else weights.get(taken, 0.0) * share
    for group, weight in weights.items():
        if len(group) == 1 and group != taken:
            label = next(iter(group))
            known[label] = (known.get(label) or 0.0) + weight
    separate = dict(known)  # before the weights of groups are added
    for group, weight in weights.items():
        if len(group) == 1 or group == taken:
            continue
        among = sum(separate.get(label) or 0.0 for label in group)
        for label in group:
            share = (separate.get(label) or 0.0) / among if among else None
            known[label] = None if share is None else (known.get(label) or 0.0) + weight * share
    return known


def _bytes(token: Mapping[str, Any]) -> bytes:
    given = token.get("bytes")
    return (
        bytes(given)
        if isinstance(given, list)
        else str(token.get("token", "")).encode("utf-8", "replace")
    )


def _values(text: str, start: int) -> Iterator[tuple[str, int]]:
    """The keys of the object at `start`, and where their values begin."""
    decoder = json.JSONDecoder()
    at = _past_space(text, start + 1)
    while at < len(text) and text[at] == '"':
        key, at = decoder.raw_decode(text, at)
        at = _past_space(text, _past_space(text, at) + 1)
        yield key, at
        _, at = decoder.raw_decode(text, at)
        at = _past_space(text, at)
        if text[at : at + 1] != ",":
            return
        at = _past_space(text, at + 1)


def _past_space(text: str, at: int) -> int:
    while at < len(text) and text[at] in " \t\r\n":
        at += 1
    return at
