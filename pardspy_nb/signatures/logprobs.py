"""How sure a model was of a label: token log probabilities, restricted to the labels.

The tokens are laid over the JSON value of the field. At each token at which labels part ways, the
probabilities of the alternatives that lead to a label are brought to a sum of 1, as a sampler
does that may only choose among the labels; a label's probability is the product along its way.
So alternatives that lead to no label do not count, also where an endpoint reports probabilities
from before its own mask (as llama.cpp does), and a label beyond the alternatives that the
endpoint reports has 0.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from .fields import Field

Distribution = dict[str, float | None]  # by label; None where two labels cannot be told apart
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
            "confidence is of class outputs, and the signature has none: "
            "add_class_output(name, labels)"
        )
    if clash := [name for name in found if name in fields]:
        raise ValueError(f"confidence adds columns {clash}, which the signature has already")
    return found


def as_columns(
    told: Mapping[str, Distribution], outputs: Mapping[str, Any], fields: Mapping[str, Field]
) -> dict[str, Any]:
    """Distributions as the values of the columns; None where there is none."""
    values: dict[str, Any] = {}
    for name, field in fields.items():
        if field.labels is not None:
            label = getattr(outputs[name], "value", outputs[name])
            of = told.get(name)
            values[f"{name}_confidence"] = None if of is None else of.get(str(label))
            values[f"{name}_probabilities"] = of
    return values


def distributions(
    text: str, start: int, tokens: Sequence[Mapping[str, Any]], fields: Mapping[str, Field]
) -> dict[str, Distribution]:
    """The class outputs' distributions.

    Args:
        text: the answer, whose JSON object begins at `start`.
        tokens: one a token, as in OpenAI's `logprobs.content`: `token`, `bytes`, `logprob`, and
            `top_logprobs` with the same of each alternative.

    Returns:
        By field; those that cannot be told (tokens that are not the text, no figures, or none that
        make sense) are absent.
    """
    try:
        return _distributions(text, start, tokens, fields)
    except (TypeError, ValueError, AttributeError, OverflowError):
        return {}  # not in the shape that OpenAI's have


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
    """Along the tokens of one value, which begins at byte `at`."""

    def __init__(
        self, pieces: Sequence[bytes], tokens: Sequence[Mapping[str, Any]], at: int, field: Field
    ) -> None:
        self._pieces, self._tokens, self._at = pieces, tokens, at
        self._spelled = [
            (json.dumps(spelling, ensure_ascii=False), label)
            for spelling, label in field.spellings.items()
        ] + [(str(label), label) for label in field.labels or () if not isinstance(label, str)]
        self._all: _Labels = frozenset(field.labels or ())

    def spread(self) -> dict[Any, float | None] | None:
        """Probabilities by label; None if they cannot be told."""
        begin = 0
        for index, piece in enumerate(self._pieces):
            if begin + len(piece) > self._at:
                return self._spread(index, begin, self._all)
            begin += len(piece)
        return None

    def _spread(self, index: int, begin: int, left: _Labels) -> dict[Any, float | None] | None:
        """Of the labels that are still possible before this token."""
        while len(left) > 1:
            if index == len(self._tokens):
                return None
            before = b"".join(self._pieces[:index])[self._at :]
            taken = self._leads_to(before, begin, self._pieces[index], left)
            if not taken:
                return None  # the value is no label as it stands
            if taken != left and not self._tokens[index].get("top_logprobs"):
                return None  # what else it might have been is not told
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
        """The labels that a value may become which continues with `piece`."""
        if begin < self._at:  # this token begins before the value does
            lead = b"".join(self._pieces)[begin : self._at].strip()
            head, _, piece = piece.partition(lead) if lead else (b"", b"", piece)
            if head.strip():
                return frozenset()
        said = (before + piece).decode("utf-8", "ignore").lstrip().casefold()
        return frozenset(
            label
            for spelled, label in self._spelled
            if label in left and (spelled.startswith(said) or _begins(said, spelled))
        )


def _begins(said: str, spelled: str) -> bool:
    """Whether what is said so far begins with all of a value: 12 does not begin with 1."""
    return said.startswith(spelled) and not said[len(spelled) :][:1].isalnum()


def _shared_out(
    weights: Mapping[_Labels, float], taken: _Labels, further: Mapping[Any, float | None]
) -> dict[Any, float | None]:
    """Weights of groups of labels as probabilities of labels. What leads to several of them is
    shared out as the rest is; where nothing tells how, these labels have None."""
    known: dict[Any, float | None] = {}
    for label, share in further.items():
        known[label] = None if share is None else weights.get(taken, 0.0) * share
    for group, weight in weights.items():
        if len(group) == 1 and group != taken:
            label = next(iter(group))
            known[label] = (known.get(label) or 0.0) + weight
    told = dict(known)
    for group, weight in weights.items():
        if len(group) == 1 or group == taken:
            continue
        among = sum(told.get(label) or 0.0 for label in group)
        for label in group:
            share = (told.get(label) or 0.0) / among if among else None
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
