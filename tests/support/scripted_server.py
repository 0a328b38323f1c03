"""A scripted OpenAI-compatible server on loopback: what it answers is chosen per row and attempt.

Rows are told apart by a marker `row-<n>` in the last user message. The server keeps its own
count of requests, tokens and requests in flight, against which the client's books are checked.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable
from typing import Any

from aiohttp import web

Script = Callable[[int, int], "Reply"]
PROMPT_TOKENS, COMPLETION_TOKENS = 11, 7


class Reply:
    """One scripted answer. `kind` names a fault; `ok` answers with the row's marker."""

    def __init__(self, kind: str = "ok", **more: Any) -> None:
        self.kind, self.more = kind, more


def content_for(kind: str, marker: int, label: int | None = None) -> str:
    labels = ["positive", "neutral", "negative"]
    good = {"sentiment": labels[marker % 3 if label is None else label], "reason": f"row-{marker}"}
    return {
        "garbage": "this is no JSON",
        "truncated": json.dumps(good)[:-9],
        "wrong_label": json.dumps(good | {"sentiment": "splendid"}),
        "wrong_type": json.dumps(good | {"reason": 12}),
        "empty": "",
        "alias": json.dumps(good | {"sentiment": "  POSITIVE ", "extra": 1}),
    }.get(kind, json.dumps(good))


class ScriptedServer:
    """Runs in a thread from `start` to `stop`; `url` is the base URL."""

    def __init__(self, script: Script | None = None) -> None:
        self.script: Script = script or (lambda marker, attempt: Reply())
        self.attempts: Counter[int] = Counter()
        self.requests: list[dict[str, Any]] = []
        self.headers: list[dict[str, str]] = []
        self.queries: list[dict[str, str]] = []
        self.billed_prompt = self.billed_completion = self.billed_cached = 0
        self.in_flight = self.max_in_flight = 0
        self.delay_s = 0.0
        self.running = True
        self.latency_s: Callable[[int], float] = lambda marker: self.delay_s
        self.gate: threading.Event | None = None
        self.compress = False
        self.answer_headers: dict[str, str] = {}
        self.refuses: set[str] = set()  # of json_schema, json_object, logprobs
        self.refused = 0
        self.times_s: list[float] = []  # when requests came, monotonic
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def start(self, port: int = 0) -> ScriptedServer:
        self._thread.start()
        asyncio.run_coroutine_threadsafe(self._serve(port), self._loop).result(10)
        return self

    def stop(self) -> None:
        asyncio.run_coroutine_threadsafe(self._leave(), self._loop).result(10)
        self.running = False
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(5)
        self._loop.close()

    def drop_connections(self) -> None:
        """Break every connection there is, as a router does that has forgotten them."""

        async def drop() -> None:
            for handler in list(self._runner.server.connections):
                if handler.transport is not None:
                    handler.transport.abort()

        asyncio.run_coroutine_threadsafe(drop(), self._loop).result(10)

    async def _leave(self) -> None:
        await self._runner.cleanup()
        rest = asyncio.all_tasks() - {asyncio.current_task()}
        for task in rest:
            task.cancel()
        await asyncio.gather(*rest, return_exceptions=True)

    async def _serve(self, port: int) -> None:
        app = web.Application(client_max_size=2**28)
        self.routes(app)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", port)
        await site.start()
        port = self._runner.addresses[0][1]
        self.url = f"http://127.0.0.1:{port}/v1"

    def routes(self, app: web.Application) -> None:
        """What is answered where."""
        app.router.add_post("/v1/chat/completions", self._chat)
        app.router.add_post("/v1/deployments/{name}/chat/completions", self._chat)  # Azure's way
        app.router.add_post("/moved/chat/completions", self._moved)

    async def _moved(self, request: web.Request) -> web.StreamResponse:
        raise web.HTTPTemporaryRedirect("/v1/chat/completions")

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await request.json()
        self.headers.append(dict(request.headers))
        self.queries.append(dict(request.query))
        self.requests.append(body)
        self.times_s.append(time.monotonic())
        found = re.search(r"row-(\d+)", str(body["messages"][-1]["content"]))
        marker = int(found.group(1)) if found else -1
        form = body.get("response_format", {}).get("type", "text")
        if {form, *(["logprobs"] if body.get("logprobs") else [])} & self.refuses:
            self.refused += 1
            told = {"message": f"{form} or logprobs: not here", "param": "response_format"}
            return web.json_response({"error": told}, status=400)
        self.attempts[marker] += 1
        reply = self.script(marker, self.attempts[marker])
        self.in_flight += 1
        self.max_in_flight = max(self.max_in_flight, self.in_flight)
        try:
            if delay_s := self.latency_s(marker):
                await asyncio.sleep(delay_s)
            while self.gate is not None and not self.gate.is_set():
                await asyncio.sleep(0.01)
            return await self._answer(request, reply, marker, body)
        finally:
            self.in_flight -= 1

    async def _answer(
        self, request: web.Request, reply: Reply, marker: int, body: dict[str, Any]
    ) -> web.StreamResponse:
        kind = reply.kind
        if kind == "stall":
            await asyncio.sleep(reply.more.get("seconds", 30))
        if kind == "reset":
            assert request.transport is not None
            request.transport.abort()
            return web.Response()
        if kind == "status":
            error = {"message": reply.more.get("message", "scripted"), **reply.more.get("body", {})}
            headers = reply.more.get("headers", {})
            return web.json_response({"error": error}, status=reply.more["code"], headers=headers)
        if kind == "raw":
            return web.Response(text=reply.more["text"], content_type="application/json")
        if kind == "not_json":
            return web.Response(text="<html>oops</html>", content_type="text/html")
        content = reply.more.get("content") or content_for(kind, marker, reply.more.get("label"))
        answer: dict[str, Any] = {
            "id": "x",
            "object": "chat.completion",
            "created": 0,
            "model": body["model"],
            "choices": [
                {
                    "index": 0,
                    "finish_reason": "length" if kind == "length" else "stop",
                    "message": {"role": "assistant", "content": content},
                }
            ],
        }
        if "logprobs" in reply.more and body.get("logprobs"):
            answer["choices"][0]["logprobs"] = {"content": reply.more["logprobs"]}
        if kind == "refusal":
            answer["choices"][0]["message"] |= {"content": None, "refusal": "I must not"}
        prompt, completion, cached = reply.more.get("usage", (PROMPT_TOKENS, COMPLETION_TOKENS, 0))
        if kind != "no_usage":
            self.billed_prompt += int(prompt)
            self.billed_completion += completion
            self.billed_cached += cached
            answer["usage"] = {
                "prompt_tokens": prompt,
                "completion_tokens": completion,
                "total_tokens": int(prompt) + completion,
                "prompt_tokens_details": {"cached_tokens": cached},
            }
        answered = web.json_response(answer, headers=self.answer_headers)
        if self.compress:
            answered.enable_compression()
        return answered
