"""Answers of the embedded model by filling in: only values are generated, not the JSON around them.

A request for a JSON object of known keys is answered value by value. The keys are put into the
prompt as the beginning of the answer, so they cost a step of the prompt each instead of a token of
the answer, and no grammar has to look at every token of the vocabulary at every step, which takes
llama.cpp as long as the model itself. A label is read from the probabilities of the next token, the
choice that greedy decoding under a grammar makes. Text is generated up to its closing quote. Any
other value is generated under a grammar of its own.

Only what greedy decoding decides (`temperature=0`) is answered so; other requests are sent as they
are. The answer has the form of a chat completion.
"""

from __future__ import annotations

import json
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, NamedTuple

Post = Callable[[str, Mapping[str, Any]], Awaitable[dict[str, Any]]]
_ALTERNATIVES = 40  # of a token, among which a label is looked for
_KNOWN = frozenset(
    {"model", "messages", "response_format", "temperature", "max_tokens", "repeat_penalty"}
    | {"logprobs", "top_logprobs", "seed"}
)
_MOST_TOKENS = 256
_LONGEST = 128  # tokens of a label
# the penalty looks at forty tokens instead of the whole vocabulary, which is as good
_SAMPLERS = ("top_k", "penalties", "temperature")


class Slot(NamedTuple):
    """One value to fill in.

    Attributes:
        key: the JSON text before the value.
        labels: the label texts of a class; None for other values.
        schema: the JSON schema of a value that is neither label nor text; None for text.
    """

    key: str
    labels: tuple[str, ...] | None
    schema: Mapping[str, Any] | None


def slots_of(body: Mapping[str, Any]) -> list[Slot] | None:
    """The values of a request; None if the request is not answered by filling in."""
    described = body.get("response_format") or {}
    if body.keys() - _KNOWN or body.get("temperature") != 0 or not _is_text(body["messages"]):
        return None
    schema = (described.get("json_schema") or {}).get("schema") or {}
    properties = schema.get("properties")
    if described.get("type") != "json_schema" or not properties:
        return None
    if set(schema.get("required") or ()) != set(properties):
        return None  # a key may be left out: the model has to decide that
    definitions = {k: schema[k] for k in ("$defs", "definitions") if k in schema}
    return [
        _slot(f"{'{' if not i else ', '}{json.dumps(name, ensure_ascii=False)}: ", of, definitions)
        for i, (name, of) in enumerate(properties.items())
    ]


def _is_text(messages: Sequence[Mapping[str, Any]]) -> bool:
    return all(isinstance(message.get("content"), str) for message in messages)


def _slot(key: str, schema: Mapping[str, Any], definitions: Mapping[str, Any]) -> Slot:
    labels = schema.get("enum")
    if labels and all(isinstance(label, str) for label in labels):
        return Slot(key, tuple(json.dumps(text, ensure_ascii=False) for text in labels), None)
    if schema.get("type") == "string" and schema.keys() <= {"type", "description", "title"}:
        return Slot(key, None, None)
    return Slot(key, None, {**schema, **definitions})


class Filling:
    """Fills in one answer.

    Args:
        post: sends a body to a path of llama.cpp's own API.
        place: the server's slot, whose cache holds what earlier steps have read; -1 for any.
    """

    def __init__(self, post: Post, body: Mapping[str, Any], place: int) -> None:
        self._post, self._body, self._place = post, body, place
        self._prompt = self._answer = ""
        self._tokens: list[dict[str, Any]] = []  # of the answer, with their log probabilities
        self._prompt_tokens = 0
        self._read = 0  # tokens of the prompt and the answer so far
        self._is_cut = False

    async def answer(self, slots: Sequence[Slot]) -> dict[str, Any]:
        """The answer, as a chat completion."""
        rendered = await self._post("/apply-template", {"messages": self._body["messages"]})
        self._prompt = rendered["prompt"]
        counted = await self._post(
            "/tokenize", {"content": self._prompt, "add_special": True, "parse_special": True}
        )
        self._prompt_tokens = self._read = len(counted["tokens"])
        for slot in slots:
            self._add(slot.key)
            if slot.labels is not None:
                await self._label(slot.labels)
            elif slot.schema is None:
                await self._text()
            else:
                await self._value(slot.schema)
            if self._is_cut:
                break
        else:
            self._add("}")
        return self._completion()

    # -- values -------------------------------------------------------------------------------

    async def _label(self, labels: Sequence[str]) -> None:
        """Choose a label as greedy decoding does: at each token the likeliest that leads to one."""
        self._add('"')
        left = [label[1:] for label in labels]
        while len(left) > 1:
            step = await self._step("", n_predict=1, n_probs=_ALTERNATIVES)
            told = step.get("completion_probabilities")  # none if the likeliest halves a letter
            found = told[0]["top_logprobs"] if told else []
            token, leads = _likeliest(found, left)
            text = None if token is None else _common(bytes(token["bytes"]), leads[0])
            if token is None or text is None:  # none leads to a label, or it halves a letter
                choices = " | ".join(json.dumps(rest, ensure_ascii=False) for rest in left)
                step = await self._step("", n_predict=_LONGEST, grammar=f"root ::= {choices}")
                self._add(step["content"])
                return
            self._answer += text
            self._tokens.append({**token, **_piece(text), "top_logprobs": found})
            left = [label[len(text) :] for label in leads]
        self._add(left[0])

    async def _text(self) -> None:
        """Generate text up to its closing quote."""
        text = ""
        self._add('"')
        while not self._is_cut:
            step = await self._generated(text, stop=['"'])
            text += step["content"]
            self._is_cut = step["stop_type"] == "limit"
            if self._is_cut or not _is_escaped(text):
                break
            text += '"'
            self._is_cut = self._tokens_left <= 1
        text = _as_json(text)
        self._add(text if self._is_cut else f'{text}"')

    async def _value(self, schema: Mapping[str, Any]) -> None:
        """Generate a value under the grammar of its schema."""
        step = await self._generated("", json_schema=schema)
        self._is_cut = step["stop_type"] == "limit"
        self._add(step["content"].strip())

    # -- steps --------------------------------------------------------------------------------

    @property
    def _tokens_left(self) -> int:
        most = int(self._body.get("max_tokens") or _MOST_TOKENS)
        return max(1, most - (self._read - self._prompt_tokens))

    def _add(self, text: str) -> None:
        self._answer += text
        self._tokens.append({**_piece(text), "logprob": 0.0, "top_logprobs": []})

    async def _generated(self, more: str, **how: Any) -> dict[str, Any]:
        penalty = self._body.get("repeat_penalty", 1.0)
        n_predict = self._tokens_left
        return await self._step(
            more, n_predict=n_predict, repeat_penalty=penalty, samplers=_SAMPLERS, **how
        )

    async def _step(self, more: str, **how: Any) -> dict[str, Any]:
        step = await self._post(
            "/completion",
            {
                "prompt": f"{self._prompt}{self._answer}{more}",
                "temperature": 0.0,
                "cache_prompt": True,
                "id_slot": self._place,
                **how,
            },
        )
        self._place = step.get("id_slot", self._place)
        self._read = step["tokens_evaluated"] + step["tokens_predicted"]
        return step

    def _completion(self) -> dict[str, Any]:
        used = {
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": self._read - self._prompt_tokens,
            "total_tokens": self._read,
        }
        return {
            "id": "chatcmpl-local",
            "object": "chat.completion",
            "created": int(time.time()),
            "model": self._body["model"],
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "length" if self._is_cut else "stop",
                    "message": {"role": "assistant", "content": self._answer},
                    "logprobs": {"content": self._tokens} if self._body.get("logprobs") else None,
                }
            ],
            "usage": used,
        }


def _likeliest(
    found: Sequence[Mapping[str, Any]], labels: Sequence[str]
) -> tuple[dict[str, Any] | None, list[str]]:
    """The likeliest token that leads to labels, and these. It may go on after a closing quote."""
    for token in found:
        raw = bytes(token["bytes"])
        leads = [
            label
            for label in labels
            if raw and (label.encode().startswith(raw) or raw.startswith(label.encode()))
        ]
        if leads:
            return dict(token), leads
    return None, []


def _common(raw: bytes, label: str) -> str | None:
    """What a token adds to a label; None if it ends within a letter."""
    try:
        return min(raw.decode(), label, key=len)
    except UnicodeDecodeError:
        return None


def _piece(text: str) -> dict[str, Any]:
    return {"token": text, "bytes": list(text.encode())}


def _is_escaped(text: str) -> bool:
    """Whether the quote after this text belongs to it: an odd number of backslashes is before."""
    return (len(text) - len(text.rstrip("\\"))) % 2 == 1


def _as_json(text: str) -> str:
    """Text between quotes as JSON: what a grammar would not have let through is escaped."""
    try:
        read = json.loads(f'"{text}"', strict=False)
    except ValueError:
        read = text
    whole = read.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return json.dumps(whole, ensure_ascii=False)[1:-1]
