"""Puts the parts of a streamed chat completion together.

Some endpoints only stream, and some stream although they were not asked to. The events are those of
the HTML standard (section 9.2, server-sent events), their data the chunks of OpenAI's API.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from typing import Any

_JOINED = ("content", "refusal", "reasoning_content", "reasoning")


def is_stream(raw: bytes) -> bool:
    """Whether a body holds server-sent events."""
    return raw.lstrip(b"\xef\xbb\xbf \r\n").startswith((b"data:", b"event:", b"id:", b": ", b":\n"))


def assembled(raw: bytes) -> dict[str, Any] | None:
    """The chat completion whose chunks a body holds, as if it had not been streamed: its first
    choice. None if the stream broke off before its end, or its data are no such chunks. An error
    in the stream is the answer."""
    try:
        return _assembled(raw)
    except (AttributeError, TypeError, ValueError, RecursionError):
        return None


def _assembled(raw: bytes) -> dict[str, Any] | None:
    whole: dict[str, Any] = {}
    choice: dict[str, Any] = {"index": 0, "message": {"role": "assistant", "content": None}}
    is_complete = False
    for data in _events(raw):
        if data.strip() == "[DONE]":
            is_complete = True
            break
        chunk = json.loads(data)
        if chunk.get("error"):
            return dict(chunk)
        whole.update({k: v for k, v in chunk.items() if k != "choices" and v is not None})
        part = next((c for c in chunk.get("choices") or () if not c.get("index")), None)
        if part is not None:
            _add(choice, part)
    if not is_complete and not choice.get("finish_reason"):
        return None
    return {**whole, "choices": [choice]}


def _events(raw: bytes) -> Iterator[str]:
    """The data of each event."""
    lines: list[str] = []
    text = raw.decode("utf-8-sig", errors="replace")
    for line in [*text.replace("\r\n", "\n").replace("\r", "\n").split("\n"), ""]:
        if line.startswith("data:"):
            lines.append(line[5:].removeprefix(" "))
        elif not line and lines:
            yield "\n".join(lines)
            lines = []


def _add(choice: dict[str, Any], part: Mapping[str, Any]) -> None:
    """Add a chunk's part of the choice."""
    if part.get("finish_reason"):
        choice["finish_reason"] = part["finish_reason"]
    delta, message = part.get("delta") or {}, choice["message"]
    for name in _JOINED:
        if isinstance(delta.get(name), str):
            message[name] = (message.get(name) or "") + delta[name]
    for call in delta.get("tool_calls") or ():
        _add_call(message, call)
    tokens = (part.get("logprobs") or {}).get("content")
    if isinstance(tokens, list):
        choice.setdefault("logprobs", {"content": []})["content"].extend(tokens)


def _add_call(message: dict[str, Any], part: Mapping[str, Any]) -> None:
    calls = message.setdefault("tool_calls", [])
    index = part.get("index") or 0
    while len(calls) <= index < 100:
        calls.append({"function": {"arguments": ""}})
    calls[index]["function"]["arguments"] += (part.get("function") or {}).get("arguments") or ""
