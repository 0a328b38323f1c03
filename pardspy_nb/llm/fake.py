"""A stand-in for a model: answers that fit any schema, at no cost, with latency and faults."""

from __future__ import annotations

import asyncio
import hashlib
import inspect
import json
import math
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from statistics import NormalDist
from typing import Any, ClassVar

from .error_bodies import error_of

Latency = float | tuple[float, float] | Callable[[random.Random], float]
FAULTS = ("429", "500", "stall", "truncation", "bad_label", "no_json", "refusal")
_BURST_S, _RETRY_AFTER_S = 0.5, 0.5  # how long a limit lasts, and what Retry-After says
_WORDS = ("plain", "clear", "short", "warm", "quick", "sound", "late", "cheap", "sturdy", "quiet")
_MOST_ITEMS = 3
_MOST_DEPTH = 6


class FakeEndpoint:
    """Answers requests as an OpenAI-compatible endpoint would (see `llm.endpoint.Endpoint`).

    An answer is drawn from the request's text and `seed`: the same row has the same answer.

    Args:
        answers: makes the outputs from a row's inputs, `answers(**inputs)`, or returns the whole
            text; None for outputs that fit the schema.
        latency: seconds for each answer: a number; (median, 99th percentile) of a log-normal
            distribution; or a function of a `random.Random`.
        faults: shares of requests, by the names in `FAULTS`. A 429 is a burst: all requests of
            half a second meet it. A stalled request takes `stall_s`.
        slots: how many requests are worked on at once; further ones meet a 429 at once.
        schema: of answers to requests that name none.
    """

    is_local: ClassVar[bool] = True
    renames_max_tokens: ClassVar[bool] = False
    concurrency: ClassVar[int | None] = None
    default_price: ClassVar[tuple[float, float]] = (0.0, 0.0)
    default_params: ClassVar[Mapping[str, Any]] = {}
    url = shown_url = "fake"

    def __init__(
        self,
        answers: Callable[..., Any] | None = None,
        *,
        latency: Latency = (0.02, 0.1),
        faults: Mapping[str | int, float] | None = None,
        seed: int = 0,
        stall_s: float = 60.0,
        slots: int | None = None,
        schema: Mapping[str, Any] | None = None,
    ) -> None:
        given = {str(name): share for name, share in (faults or {}).items()}
        if unknown := given.keys() - set(FAULTS):
            raise ValueError(f"unknown faults {sorted(unknown)}; there are {', '.join(FAULTS)}")
        if not all(0 <= share <= 1 for share in given.values()) or sum(given.values()) > 1:
            raise ValueError(f"faults are shares of the requests, 1 in all at most; got {faults!r}")
        self._answers, self._latency, self._faults = answers, latency, given
        self._seed, self._stall_s, self._schema = seed, stall_s, schema
        self._asked: Counter[str] = Counter()  # requests, by their text
        self._limited_until = 0.0
        self._slots, self._inside = slots, 0

    @property
    def cache_identity(self) -> dict[str, Any]:
        """The values that identify the endpoint in a cache key."""
        told = {"faults": dict(sorted(self._faults.items()))} if self._faults else {}
        return {"url": self.url, "seed": self._seed, **told}

    @property
    def is_drawn(self) -> bool:
        """Whether answers are drawn, and no function decides them."""
        return self._answers is None

    def model_name(self, name: str) -> str:
        """The name by which the endpoint knows a model."""
        return name

    async def prepare(self) -> None:
        """Nothing has to be started."""

    async def serve(self) -> tuple[str, str]:
        """See `LM.serve`. ValueError: there is no server."""
        raise ValueError("the fake model has no server")

    async def post(
        self,
        path: str,
        body: Mapping[str, Any],
        on_headers: Callable[[Mapping[str, str]], None] | None = None,
    ) -> dict[str, Any]:
        """The answer to a request, after its latency. Raises an `LMError` for a fault."""
        words = json.dumps(body["messages"], sort_keys=True, default=str)
        self._asked[words] += 1
        of_row = random.Random(_number(f"{self._seed} {words}"))
        of_request = random.Random(_number(f"{self._seed} {words} {self._asked[words]}"))
        if self._slots is not None and self._inside >= self._slots:
            raise _error(429, "too many requests at once")
        fault = self._fault(of_request)
        self._inside += 1
        try:
            await asyncio.sleep(self._stall_s if fault == "stall" else self.seconds(of_request))
        finally:
            self._inside -= 1
        if fault in ("429", "500"):
            error = _error(int(fault), "the fake model was told to fail")
            error.retry_after_s = _RETRY_AFTER_S if fault == "429" else None
            raise error
        return self._answer(body, of_row, fault)

    def _fault(self, draw: random.Random) -> str | None:
        now = time.monotonic()
        if now < self._limited_until:
            return "429"
        place = draw.random()
        for name, share in self._faults.items():
            place -= share
            if place < 0:
                if name == "429":
                    self._limited_until = now + _BURST_S
                return name
        return None

    def seconds(self, draw: random.Random) -> float:
        """How long one answer takes."""
        if callable(self._latency):
            return max(0.0, float(self._latency(draw)))
        if isinstance(self._latency, tuple):
            median, p99 = self._latency
            spread = math.log(max(p99, median) / median) / NormalDist().inv_cdf(0.99)
            return median * math.exp(spread * draw.gauss(0, 1))
        return float(self._latency)

    def _answer(
        self, body: Mapping[str, Any], draw: random.Random, fault: str | None
    ) -> dict[str, Any]:
        form = body.get("response_format", {}).get("json_schema", {})
        schema = form.get("schema") or self._schema or {}
        given = None if self._answers is None else _called(self._answers, body["messages"])
        is_text = isinstance(given, str)
        pieces: list[Piece] = [(str(given), None)] if is_text else _written(given, schema, draw)
        if fault == "bad_label":
            pieces = [('"none of the labels"' if odds else text, None) for text, odds in pieces]
        text = "".join(piece for piece, _ in pieces)
        text = "this is no JSON" if fault == "no_json" else text
        if fault == "truncation":
            text = text[: max(1, len(text) // 2)]
        message: dict[str, Any] = {"role": "assistant", "content": text}
        if fault == "refusal":
            message |= {"content": None, "refusal": "the fake model was told to decline"}
        choice: dict[str, Any] = {
            "index": 0,
            "message": message,
            "finish_reason": "length" if fault == "truncation" else "stop",
        }
        if body.get("logprobs") and fault is None:
            choice["logprobs"] = {"content": [_token(*piece) for piece in pieces]}
        prompt = sum(len(str(m["content"])) for m in body["messages"]) // 4 + 1
        completion = len(text) // 4 + 1
        return {
            "id": "fake",
            "object": "chat.completion",
            "model": body["model"],
            "choices": [choice],
            "usage": {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "total_tokens": prompt + completion,
            },
        }


Piece = tuple[str, Mapping[str, float] | None]  # text, and the probabilities of alternatives


def _error(status: int, words: str) -> Any:
    told = {"message": words, "type": "fake"}
    return error_of(status, json.dumps({"error": told}).encode(), FakeEndpoint.shown_url)


def _number(text: str) -> int:
    return int.from_bytes(hashlib.sha256(text.encode("utf-8", "replace")).digest()[:8])


def _token(text: str, odds: Mapping[str, float] | None) -> dict[str, Any]:
    others = [{"token": t, "logprob": math.log(max(p, 1e-9))} for t, p in (odds or {}).items()]
    own = math.log(max((odds or {}).get(text, 1.0), 1e-9))
    return {"token": text, "logprob": own, "top_logprobs": others}


def _called(answers: Callable[..., Any], messages: Sequence[Mapping[str, Any]]) -> Any:
    """What a function makes of a row's inputs, which are read from the last message."""
    content = messages[-1]["content"]
    text = content if isinstance(content, str) else str(content[0].get("text", ""))
    names = list(inspect.signature(answers).parameters)
    found = inputs_in(text, names)
    if len(names) == 1 and not found:
        found = {names[0]: text}
    return answers(**found)


def inputs_in(text: str, names: Sequence[str]) -> dict[str, str]:
    """The inputs in a prompt, where each begins a line as `name: value`."""
    marks = [
        (found.start(), found.end(), name)
        for name in names
        if (found := re.search(rf"^{re.escape(name)}: ", text, re.MULTILINE))
    ]
    marks.sort()
    ends = [start for start, _, _ in marks[1:]] + [len(text)]
    return {
        name: text[begin:end].rstrip("\n")
        for (_, begin, name), end in zip(marks, ends, strict=True)
    }


def _written(
    given: Mapping[str, Any] | None, schema: Mapping[str, Any], draw: random.Random
) -> list[Piece]:
    """An answer as JSON in pieces: given outputs, the others drawn."""
    outputs = dict(given or {})
    pieces: list[Piece] = [("{", None)]
    names = dict.fromkeys([*schema.get("properties", {}), *outputs])
    for i, name in enumerate(names):
        pieces.append((f"{', ' if i else ''}{json.dumps(name)}: ", None))
        of = _resolved(schema.get("properties", {}).get(name, {}), schema)
        if name in outputs:
            pieces.append((json.dumps(outputs[name], ensure_ascii=False, default=str), None))
        elif "enum" in of:
            pieces.append(_label(of["enum"], draw))
        else:
            pieces.append((json.dumps(_drawn(of, schema, draw, name), ensure_ascii=False), None))
    return [*pieces, ("}", None)]


def _label(labels: Sequence[Any], draw: random.Random) -> Piece:
    """A label, with how sure the model is of each."""
    weights = [draw.expovariate(1) ** 2 for _ in labels]
    whole = sum(weights) or 1.0
    odds = {
        json.dumps(v, ensure_ascii=False): w / whole for v, w in zip(labels, weights, strict=True)
    }
    return draw.choices(list(odds), weights)[0], odds


def _resolved(of: Mapping[str, Any], schema: Mapping[str, Any]) -> Mapping[str, Any]:
    for _ in range(_MOST_DEPTH):
        choices = of.get("anyOf") or of.get("oneOf") or of.get("allOf")
        if "$ref" in of:
            name = str(of["$ref"]).rpartition("/")[2]
            of = schema.get("$defs", schema.get("definitions", {})).get(name, {})
        elif choices:
            of = next((c for c in choices if c.get("type") != "null"), choices[0])
        else:
            break
    return of


def _drawn(
    of: Mapping[str, Any], schema: Mapping[str, Any], draw: random.Random, name: str, depth: int = 0
) -> Any:
    """A value that fits a schema."""
    of = _resolved(of, schema)
    kind = of.get("type")
    kind = next((k for k in kind if k != "null"), "null") if isinstance(kind, list) else kind
    if "const" in of or "enum" in of:
        return draw.choice(of.get("enum") or [of["const"]])
    if kind in ("integer", "number"):
        low = float(of.get("minimum", of.get("exclusiveMinimum", 0)))
        high = float(of.get("maximum", of.get("exclusiveMaximum", max(low, 0) + 10)))
        if kind == "integer":
            return draw.randint(math.ceil(low) + ("exclusiveMinimum" in of), math.floor(high))
        return round(draw.uniform(low, high), 2)
    if kind == "boolean":
        return draw.random() < 0.5
    if kind == "array":
        most = max(
            int(of.get("minItems", 0)), min(int(of.get("maxItems", _MOST_ITEMS)), _MOST_ITEMS)
        )
        n = 0 if depth >= _MOST_DEPTH else draw.randint(int(of.get("minItems", 0)), most)
        return [_drawn(of.get("items", {}), schema, draw, name, depth + 1) for _ in range(n)]
    if kind == "object" or "properties" in of:
        inner = of.get("properties", {})
        return {n: _drawn(f, schema, draw, n, depth + 1) for n, f in inner.items()}
    if kind == "null":
        return None
    return _text(of, draw, name)


def _text(of: Mapping[str, Any], draw: random.Random, name: str) -> str:
    at = f"2026-{draw.randint(1, 12):02}-{draw.randint(1, 28):02}"
    clock = f"{draw.randint(0, 23):02}:{draw.randint(0, 59):02}:00"
    formats = {"date-time": f"{at}T{clock}Z", "date": at, "time": clock}
    if of.get("format") in formats:
        return formats[of["format"]]
    words = f"{name}: {' and '.join(draw.sample(_WORDS, 2))}"
    words = words.ljust(int(of.get("minLength", 0)), ".")
    return words[: int(of["maxLength"])] if "maxLength" in of else words
