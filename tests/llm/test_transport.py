"""The short way says what the client would say, and leaves to the client what is unusual."""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import http.server as http_server
import json
import resource
import threading
import time
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from support.raw_server import completion, http, request_of, serving
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn
from pardspy_nb.llm.endpoint import Endpoint, close_clients
from pardspy_nb.llm.retry_after import asked_wait_s

QUIET: dict[str, Any] = {"progress": "none", "store": None}


OWN = {"Host", "Content-Length", "Accept-Encoding", "Connection"}  # of the transport


def heard(headers: dict[str, str]) -> dict[str, str]:
    return {k.lower(): v for k, v in headers.items() if k not in OWN}


def test_it_sends_the_headers_that_the_client_sends(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OPENAI_ORG_ID", "org-1")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "proj-1")
    body = {"model": "m", "messages": [{"role": "user", "content": "row-1 ☕"}], "seed": 3}

    async def both() -> None:
        plain = Endpoint(server.url, "sk-mine")
        await plain.post("/chat/completions", body)
        await plain._post_by_client("/chat/completions", body, anew=False)
        await close_clients()

    asyncio.run(both())
    short, whole = (heard(h) for h in server.headers)
    assert short == whole
    assert short["authorization"] == "Bearer sk-mine"
    assert (short["openai-organization"], short["openai-project"]) == ("org-1", "proj-1")
    assert server.requests[0] == server.requests[1] == body


def test_half_a_surrogate_pair_is_sent_as_json_spells_it(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    df = pn.run_parallel(predict, ["row-1 \ud83d"], **QUIET)
    assert df["status"].tolist() == ["ok"]
    assert server.requests[0]["messages"][-1]["content"].endswith("\ud83d")


def test_a_redirect_is_followed_with_its_body(
    signature: pn.Signature, server: ScriptedServer
) -> None:
    moved = pn.LM("m", base_url=server.url.replace("/v1", "/moved"), api_key="sk-mine")
    df = pn.run_parallel(pn.Predict(signature, moved), ["row-1"], **QUIET)
    assert df["status"].tolist() == ["ok"]
    assert server.headers[0]["Authorization"] == "Bearer sk-mine"


def test_azure_and_other_clients_go_their_own_way(
    signature: pn.Signature, server: ScriptedServer, reviews: list[str]
) -> None:
    made: list[Any] = []

    def azure() -> openai.AsyncAzureOpenAI:
        made.append(
            openai.AsyncAzureOpenAI(
                base_url=server.url, api_key="azure-key", api_version="2026-01-01", max_retries=0
            )
        )
        return made[-1]

    lm = pn.LM("my-deployment", client=azure)
    df = pn.run_parallel(pn.Predict(signature, lm), reviews, **QUIET)
    assert (df["status"] == "ok").all()
    assert {h["api-key"] for h in server.headers} == {"azure-key"}
    assert len(made) <= 3, "one for each event loop, and one to know its URL"
    server.script = lambda marker, attempt: (
        Reply("status", code=429, headers={"retry-after-ms": "20"})
        if attempt == 2
        else Reply("status", code=400, message="no azure-key here")
    )
    df = pn.run_parallel(pn.Predict(signature, lm), reviews[:1], max_failures=None, **QUIET)
    assert df["attempts"].tolist() == [2]
    assert "azure-key" not in df["error"][0]
    with pytest.raises(ValueError, match="its own base_url"):
        pn.LM("m", client=azure, api_key="other")


class _Proxy(http_server.BaseHTTPRequestHandler):
    seen: list[str]

    def do_POST(self) -> None:
        self.seen.append(self.path)
        self.rfile.read(int(self.headers["content-length"]))
        self.send_response(503)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *args: Any) -> None:
        pass


@pytest.fixture
def proxy() -> Iterator[tuple[str, list[str]]]:
    seen: list[str] = []
    handler = type("Proxy", (_Proxy,), {"seen": seen})
    server = http_server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_address[1]}", seen
    server.shutdown()
    server.server_close()


def test_a_proxy_of_the_environment_is_used(
    signature: pn.Signature, proxy: tuple[str, list[str]], monkeypatch: pytest.MonkeyPatch
) -> None:
    url, seen = proxy
    monkeypatch.setenv("http_proxy", url)
    lm = pn.LM("m", base_url="http://models.invalid/v1", api_key="sk-mine")
    df = pn.run_parallel(
        pn.Predict(signature, lm), ["row-1"], max_failures=None, max_attempts=1, **QUIET
    )
    assert df["error_type"].tolist() == ["ServerError"]
    assert seen == ["http://models.invalid/v1/chat/completions"]


def test_a_compressed_answer_is_read(predict: pn.Predict, server: ScriptedServer) -> None:
    server.compress = True
    df = pn.run_parallel(predict, ["row-1"], **QUIET)
    assert df["reason"].tolist() == ["row-1"]


class ClosesIdle:
    """An HTTP server that closes each connection once a second request comes over it, as servers
    and proxies do whose patience with idle connections has just ended."""

    def __init__(self) -> None:
        self.answered = self.closed = 0

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await request_of(reader) is not None:
            self.answered += 1
            writer.write(http(completion('{"sentiment": "positive", "reason": "row"}')))
            if await request_of(reader) is not None:
                self.closed += 1
        writer.close()


@pytest.mark.parametrize("by_proxy", [False, True])
def test_a_connection_that_was_closed_meanwhile_is_replaced_and_no_attempt_counts(
    signature: pn.Signature, by_proxy: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    closes = ClosesIdle()
    with serving(closes) as url:
        if by_proxy:
            monkeypatch.setenv("http_proxy", url.removesuffix("/v1"))
        at = "http://models.invalid/v1" if by_proxy else url
        predict = pn.Predict(signature, pn.LM("m", base_url=at, api_key="sk-mine"))
        df = pn.run_parallel(predict, [f"row-{i}" for i in range(20)], max_workers=4, **QUIET)
    assert df["status"].eq("ok").all()
    assert df["attempts"].eq(1).all()
    assert closes.closed > 3


@pytest.mark.parametrize("status", [301, 302, 303])
@pytest.mark.parametrize("by_client", [False, True])
def test_a_redirect_that_would_lose_the_body_is_told(
    signature: pn.Signature, status: int, by_client: bool
) -> None:
    async def redirects(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await request_of(reader) is not None:
            writer.write(
                http({}, status, "Location: https://models.example/v1/chat/completions\r\n")
            )
        writer.close()

    with serving(redirects) as url:
        own = {"client": lambda: openai.AsyncOpenAI(base_url=url, api_key="sk-mine")}
        lm = pn.LM("m", **(own if by_client else {"base_url": url, "api_key": "sk-mine"}))
        with pytest.raises(pn.RunStopped, match=r"redirects to https://models\.example/v1") as stop:
            pn.run_parallel(pn.Predict(signature, lm), ["row-1"] * 9, max_failures=None, **QUIET)
    assert "base_url=" in str(stop.value)


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ('{"error": {"details": [{"retryDelay": "34.07s"}]}}', 34.07),
        ("Rate limit reached. Please try again in 20s. Visit …", 20),
        ("Please try again in 6m0.5s.", 360.5),
        ("try again in 120ms", 0.12),
        ("Please retry after 26 seconds.", 26),
        ("Try again later, in a few minutes", None),
        ("", None),
    ],
)
def test_a_wait_in_words(body: str, seconds: float | None) -> None:
    assert asked_wait_s({}, body.encode()) == seconds
    assert asked_wait_s({"retry-after": "3"}, body.encode()) == 3


class Repeats:
    """An HTTP server that sends each answer once more, 20 ms late, over the same connection."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.repeated = threading.Event()

    async def __call__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (body := await request_of(reader)) is not None:
            row = json.loads(body)["messages"][-1]["content"].split()[-1]
            self.asked.append(row)
            answer = http(completion(json.dumps({"sentiment": "positive", "reason": row})))
            writer.write(answer)
            await asyncio.sleep(0.02)
            writer.write(answer)
            self.repeated.set()
        writer.close()


def test_an_answer_that_comes_again_is_not_the_next_rows(signature: pn.Signature) -> None:
    repeats = Repeats()
    rows = [f"row-{i}" for i in range(12)]

    def seldom() -> Iterator[dict[str, str]]:
        for row in rows:
            yield {"review": row}
            assert repeats.repeated.wait(20)  # the next row only after that
            repeats.repeated.clear()
            time.sleep(0.02)

    with serving(repeats) as url:
        predict = pn.Predict(signature, pn.LM("m", base_url=url, api_key="k"))
        df = pn.run_parallel(predict, seldom(), max_workers=1, **QUIET)
    assert df["reason"].tolist() == rows
    assert df["attempts"].eq(1).all()
    assert repeats.asked == rows


@pytest.mark.slow
@pytest.mark.parametrize("status", [200, 400])
@pytest.mark.parametrize("packed", [False, True])
def test_an_answer_that_is_too_large_is_not_read_to_its_end(
    signature: pn.Signature, status: int, packed: bool
) -> None:
    whole = completion("x" * 300_000_000 if packed else "x" * 3_000_000)
    raw = json.dumps(whole).encode()
    raw = gzip.compress(raw, 1) if packed else raw
    encoding = "Content-Encoding: gzip\r\n" if packed else ""
    head = f"HTTP/1.1 {status} X\r\n{encoding}Content-Length: {len(raw)}\r\n\r\n".encode()

    async def sends(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(ConnectionError):
            if await request_of(reader) is not None:
                writer.write(head + raw)
                await writer.drain()
        writer.close()

    with serving(sends) as url:
        lm = pn.LM("m", base_url=url, api_key="k", max_answer_mb=1)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        df = pn.run_parallel(pn.Predict(signature, lm), ["row"], max_failures=None, **QUIET)
        grown_kb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert df["error"].str.contains("more than 1,000,000 bytes; LM.max_answer_mb").all()
    assert grown_kb < 60_000
