"""The short way says what the client would say, and leaves to the client what is unusual."""

from __future__ import annotations

import asyncio
import http.server
import threading
from collections.abc import Iterator
from typing import Any

import openai
import pytest
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn
from pardspy_nb.llm.endpoint import Endpoint, close_clients

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
        await plain._post_by_client("/chat/completions", body)
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


class _Proxy(http.server.BaseHTTPRequestHandler):
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
    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
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
