"""The scripted server with the batch API as OpenAI documents it: files, batches, their states.

Nothing goes on by itself: `advance` moves every batch one state on, `finish` to its end. What rows
are answered is the script's, as for single requests.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from typing import Any

from aiohttp import web
from support.scripted_server import (
    COMPLETION_TOKENS,
    PROMPT_TOKENS,
    Reply,
    ScriptedServer,
    content_for,
)

MAX_REQUESTS, MAX_BYTES = 50_000, 200_000_000


class BatchServer(ScriptedServer):
    """Attributes:
    files: by id; `batches`, too.
    room: batches that may be under way at once, None for any number.
    breaks: how often `create` breaks the connection off after it has begun the batch.
    hangs: whether questions for a batch's state get no answer.
    """

    def __init__(self) -> None:
        super().__init__()
        self.files: dict[str, bytes] = {}
        self.batches: dict[str, dict[str, Any]] = {}
        self.room: int | None = None
        self.breaks = 0
        self.hangs = False
        self.hanging = threading.Event()  # set once one hangs
        self.expires = False
        self.keys: list[str] = []

    def routes(self, app: web.Application) -> None:
        super().routes(app)
        app.router.add_post("/v1/files", self._upload)
        app.router.add_get("/v1/files/{id}/content", self._content)
        app.router.add_post("/v1/batches", self._create)
        app.router.add_get("/v1/batches", self._list)
        app.router.add_get("/v1/batches/{id}", self._state)
        app.router.add_post("/v1/batches/{id}/cancel", self._cancel)

    # -- the API ------------------------------------------------------------------------------

    async def _upload(self, request: web.Request) -> web.StreamResponse:
        self.keys.append(request.headers["authorization"])
        form = await request.post()
        if form.get("purpose") != "batch":
            return _refusal("purpose must be batch", "purpose")
        upload = form["file"]
        assert isinstance(upload, web.FileField)
        content = upload.file.read()
        if len(content) > MAX_BYTES:
            return _refusal("the file is too large", "file")
        made = f"file-{len(self.files)}"
        self.files[made] = content
        return web.json_response(
            {
                "id": made,
                "object": "file",
                "bytes": len(content),
                "created_at": 1,
                "filename": upload.filename,
                "purpose": "batch",
                "status": "processed",
            }
        )

    async def _content(self, request: web.Request) -> web.StreamResponse:
        return web.Response(body=self.files[request.match_info["id"]])

    async def _create(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        if body["endpoint"] != "/v1/chat/completions":
            return _refusal("no such endpoint", "endpoint")
        if body["completion_window"] != "24h":
            return _refusal("completion_window must be 24h", "completion_window")
        if body["input_file_id"] not in self.files:
            return _refusal("no such file", "input_file_id")
        made = f"batch_{len(self.batches)}"
        self.batches[made] = {
            "id": made,
            "object": "batch",
            "endpoint": body["endpoint"],
            "errors": None,
            "input_file_id": body["input_file_id"],
            "completion_window": "24h",
            "status": "validating",
            "created_at": int(time.time()),
            "metadata": body["metadata"],
            "request_counts": {"total": 0, "completed": 0, "failed": 0},
        }
        if self.breaks:
            self.breaks -= 1
            assert request.transport is not None
            request.transport.abort()
        return web.json_response(self.batches[made])

    async def _list(self, request: web.Request) -> web.StreamResponse:
        """Pages of two, so that whoever looks has to turn them."""
        latest = list(reversed(self.batches.values()))
        after = request.query.get("after")
        start = 1 + next((i for i, b in enumerate(latest) if b["id"] == after), -1)
        page = latest[start : start + 2]
        return web.json_response(
            {
                "object": "list",
                "data": page,
                "has_more": start + 2 < len(latest),
                "first_id": page[0]["id"] if page else None,
                "last_id": page[-1]["id"] if page else None,
            }
        )

    async def _state(self, request: web.Request) -> web.StreamResponse:
        while self.hangs:
            self.hanging.set()
            await asyncio.sleep(0.01)
        return web.json_response(self.batches[request.match_info["id"]])

    async def _cancel(self, request: web.Request) -> web.StreamResponse:
        batch = self.batches[request.match_info["id"]]
        if batch["status"] not in ("validating", "in_progress", "finalizing"):
            return _refusal("it has ended", None)
        batch["status"] = "cancelling"
        return web.json_response(batch)

    # -- what goes on at the provider -----------------------------------------------------------

    def advance(self, answers: int | None = None) -> None:
        """Every batch one state on; one in progress has so many more answers, None for all."""
        for batch in self.batches.values():
            self._advance(batch, answers)

    def finish(self) -> None:
        """Every batch to its end."""
        for _ in range(5):
            self.advance()

    def _advance(self, batch: dict[str, Any], answers: int | None) -> None:
        status = batch["status"]
        if status == "validating":
            self._validate(batch)
        elif status == "in_progress":
            if self._answer_some(batch, answers):
                batch["status"] = "expired" if self.expires else "finalizing"
                if self.expires:
                    self._end(batch, "batch_expired", "This request expired.")
        elif status == "finalizing":
            batch["status"] = "completed"
            self._end(batch)
        elif status == "cancelling":
            batch["status"] = "cancelled"
            self._end(batch)

    def _validate(self, batch: dict[str, Any]) -> None:
        lines = self.files[batch["input_file_id"]].splitlines()
        under_way = sum(b["status"] == "in_progress" for b in self.batches.values())
        problem = _problem(lines)
        if self.room is not None and under_way >= self.room:
            problem = ("token_limit_exceeded", "Enqueued token limit reached for m.", None)
        if problem is not None:
            code, message, line = problem
            batch["status"] = "failed"
            batch["errors"] = {
                "object": "list",
                "data": [{"code": code, "message": message, "line": line, "param": None}],
            }
            return
        batch |= {
            "status": "in_progress",
            "_open": [json.loads(x) for x in lines],
            "_output": [],
            "_errors": [],
        }
        batch["request_counts"]["total"] = len(lines)

    def _answer_some(self, batch: dict[str, Any], answers: int | None) -> bool:
        """Whether none is open any more, or the time is over."""
        some = batch["_open"][: answers if answers is not None else None]
        for asked in some:
            marker = int(re.search(r"row-(\d+)", asked["body"]["messages"][-1]["content"])[1])  # type: ignore[index]
            self.attempts[marker] += 1
            told = self._line(asked, self.script(marker, self.attempts[marker]), marker)
            failed = told["response"]["status_code"] >= 300
            batch["_errors" if failed else "_output"].append(told)
            batch["request_counts"]["failed" if failed else "completed"] += 1
        del batch["_open"][: len(some)]
        return not batch["_open"] or self.expires

    def _line(self, asked: dict[str, Any], reply: Reply, marker: int) -> dict[str, Any]:
        line = {"id": f"batch_req_{marker}", "custom_id": asked["custom_id"], "error": None}
        if reply.kind == "status":
            body = {"error": {"message": "scripted", "type": "invalid_request_error"}}
            response = {"status_code": reply.more["code"], "request_id": "r", "body": body}
            return line | {"response": response}
        self.billed_prompt += PROMPT_TOKENS
        self.billed_completion += COMPLETION_TOKENS
        body = {
            "id": "x",
            "object": "chat.completion",
            "model": asked["body"]["model"],
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "stop",
                    "message": {"role": "assistant", "content": content_for(reply.kind, marker)},
                }
            ],
            "usage": {
                "prompt_tokens": PROMPT_TOKENS,
                "completion_tokens": COMPLETION_TOKENS,
                "total_tokens": PROMPT_TOKENS + COMPLETION_TOKENS,
            },
        }
        return line | {"response": {"status_code": 200, "request_id": "r", "body": body}}

    def _end(self, batch: dict[str, Any], code: str = "", message: str = "") -> None:
        """Write the files; what is open is told to have expired, or not told of at all."""
        left = [
            {
                "id": "x",
                "custom_id": asked["custom_id"],
                "response": None,
                "error": {"code": code, "message": message},
            }
            for asked in batch["_open"]
            if code
        ]
        output, errors = batch["_output"], [*batch["_errors"], *left]
        for name, lines in (("output", output), ("error", errors)):
            if lines:
                file = f"file-{len(self.files)}"
                # the provider says that the order is not that of the requests
                content = "\n".join(json.dumps(line) for line in reversed(lines))
                self.files[file] = content.encode()
                batch[f"{name}_file_id"] = file


def _problem(lines: list[bytes]) -> tuple[str, str, int | None] | None:
    """What validation finds: (code, message, line)."""
    if not lines:
        return "empty_file", "The input file is empty.", None
    if len(lines) > MAX_REQUESTS:
        return "too_many_tasks", "The batch has too many requests.", None
    seen: set[str] = set()
    models: set[str] = set()
    for number, line in enumerate(lines, 1):
        try:
            asked = json.loads(line)
        except ValueError:
            return "invalid_json_line", "This line is not parseable as valid JSON.", number
        if asked["custom_id"] in seen:
            return "duplicate_custom_id", "The custom_id is not unique.", number
        if asked["url"] != "/v1/chat/completions" or asked["method"] != "POST":
            return "mismatched_url", "The url does not match the batch's endpoint.", number
        seen.add(asked["custom_id"])
        models.add(asked["body"]["model"])
        if len(models) > 1:
            return "mismatched_model", "A batch has one model.", number
        if asked["body"]["model"] == "no-batch":
            return "model_not_found", "The model does not support the batch API.", number
    return None


def _refusal(message: str, param: str | None) -> web.Response:
    error = {"message": message, "type": "invalid_request_error", "param": param}
    return web.json_response({"error": error}, status=400)
