"""Endpoints that only stream, or stream unasked."""

from __future__ import annotations

import json
from typing import Any

import pytest
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn
from pardspy_nb.llm.event_stream import assembled, is_stream

QUIET: dict[str, Any] = {"progress": "none", "store": None}
USAGE = {"prompt_tokens": 11, "completion_tokens": 7, "total_tokens": 18}


def events(*chunks: Any, end: str = "data: [DONE]\n\n", newline: str = "\n") -> str:
    told = "".join(f"data: {json.dumps(c, ensure_ascii=False)}\n\n" for c in chunks) + end
    return told.replace("\n", newline)


def part(text: str | None = None, finish: str | None = None, **delta: Any) -> dict[str, Any]:
    choice = {"index": 0, "delta": {"content": text, **delta}, "finish_reason": finish}
    return {"id": "x", "model": "m", "choices": [choice], "usage": None}


def in_parts(text: str, size: int = 3) -> list[dict[str, Any]]:
    return [part(text[i : i + size]) for i in range(0, len(text), size)]


def answer(marker: int) -> str:
    return json.dumps({"sentiment": "neutral", "reason": f"row-{marker} · 𝄞"}, ensure_ascii=False)


@pytest.mark.parametrize(
    "words",
    [
        "This model only support stream mode, please enable the stream parameter to access it.",
        "Stream must be set to true",
        "parameter.enable_thinking must be set to false for non-streaming calls",
    ],
)
def test_an_endpoint_that_only_streams_is_asked_to(
    predict: pn.Predict, server: ScriptedServer, words: str
) -> None:
    def script(marker: int, attempt: int) -> Reply:
        asked = server.requests[-1]
        if not asked.get("stream"):
            return Reply("status", code=400, message=words)
        assert asked["stream_options"] == {"include_usage": True}
        usage = {"id": "x", "choices": [], "usage": USAGE}
        return Reply("raw", text=events(*in_parts(answer(marker)), part(finish="stop"), usage))

    server.script = script
    df = pn.run_parallel(predict, [f"row-{i}" for i in range(6)], max_workers=1, **QUIET)
    assert df["reason"].tolist() == [f"row-{i} · 𝄞" for i in range(6)]
    assert df["attempts"].eq(1).all()
    assert df["total_tokens"].sum() == 6 * 18
    assert len(server.requests) == 7
    assert predict.lm.capabilities["form"] == "json_schema"


def test_streams_that_nobody_asked_for_are_read(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    tellings: list[dict[str, Any]] = [
        {"newline": "\r\n"},
        {"newline": "\r"},
        {"end": ""},  # no [DONE]
        {"end": ": ping\n\nevent: end\ndata: [DONE]\n\n"},
    ]
    server.script = lambda marker, attempt: Reply(
        "raw", text=events(*in_parts(answer(marker)), part(finish="stop"), **tellings[marker])
    )
    df = pn.run_parallel(predict, [f"row-{i}" for i in range(4)], **QUIET)
    assert df["reason"].tolist() == [f"row-{i} · 𝄞" for i in range(4)]


def test_what_broke_off_failed_or_was_cut_is_no_answer(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    whole = in_parts(answer(1))
    told = [
        events(*whole, end=""),  # neither a reason nor [DONE]
        events(*whole, end='data: {"choices": [{"index": 0, "del'),
        events(*whole, {"error": {"message": "overloaded", "code": 400}}),
        events(*whole, part(finish="length")),
        events(*whole[:-2], part(finish="content_filter")),
    ]
    server.script = lambda marker, attempt: Reply("raw", text=told[marker])
    df = pn.run_parallel(
        predict, [f"row-{i}" for i in range(5)], max_failures=None, max_attempts=1, **QUIET
    )
    assert df["status"].eq("failed").all()
    assert df["error_type"].tolist() == [
        "ServerError",
        "ServerError",
        "BadRequestError",
        "TruncatedOutputError",
        "RefusedOutputError",
    ]
    assert df["error"].str.contains("broke off").tolist() == [True, True, False, False, False]


def test_all_that_a_message_may_hold_is_joined() -> None:
    token = {"token": "a", "logprob": -0.1, "top_logprobs": []}
    calls = [
        {"index": 0, "id": "c", "function": {"name": "f", "arguments": '{"a"'}},
        {"index": 0, "function": {"arguments": ": 1}"}},
    ]
    chunks = [
        part(reasoning_content="so "),
        part(reasoning_content="so", role="assistant"),
        part(tool_calls=[calls[0]]),
        part(tool_calls=[calls[1]]),
        {**part(), "choices": [{**part("a")["choices"][0], "logprobs": {"content": [token]}}]},
        {**part(), "choices": [{**part("b")["choices"][0], "logprobs": {"content": [token]}}]},
        {**part(), "choices": [{"index": 1, "delta": {"content": "another answer"}}]},
        part(finish="stop"),
    ]
    raw = events(*chunks).encode()
    assert is_stream(raw)
    found = assembled(raw)
    assert found is not None
    (choice,) = found["choices"]
    assert choice["message"]["reasoning_content"] == "so so"
    assert choice["message"]["tool_calls"][0]["function"]["arguments"] == '{"a": 1}'
    assert choice["message"]["content"] == "ab"
    assert choice["logprobs"]["content"] == [token, token]
    assert not is_stream(b'{"choices": []}')


@pytest.mark.parametrize(
    "data", ["[1]", "null", '"a"', '{"choices": 3}', '{"choices": [7]}', "[" * 100_000]
)
def test_chunks_of_another_shape_are_no_answer(data: str) -> None:
    assert assembled(f"data: {data}\n\ndata: [DONE]\n\n".encode()) is None
