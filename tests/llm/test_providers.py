"""Models by their provider, and what users type as every vendor's page writes it."""

from __future__ import annotations

import time
from typing import Any

import pytest
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn
from pardspy_nb.llm.providers import PROVIDERS, provider_of

QUIET: Any = {"store": None, "progress": "none"}
SIGNATURE = (
    pn.Signature("S")
    .add_input("review")
    .add_class_output("sentiment", ["positive", "neutral", "negative"])
)


@pytest.mark.parametrize("name", [n for n in PROVIDERS if n != "azure"])
def test_a_prefix_names_endpoint_key_and_model(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in (v for p in PROVIDERS.values() for v in (*p.keys, *p.url_from)):
        monkeypatch.delenv(variable, raising=False)
    lm = pn.LM(f"{name}/some/model-1")
    assert lm.endpoint.url == PROVIDERS[name].url
    assert lm.request([{"role": "user", "content": "x"}])["model"] == "some/model-1"
    if PROVIDERS[name].keys:
        with pytest.raises(pn.LMError, match=f"set {PROVIDERS[name].keys[0]}"):
            lm.endpoint._key()
        monkeypatch.setenv(PROVIDERS[name].keys[-1], "its-own-key")
        monkeypatch.setenv("OPENAI_API_KEY", "another")
        assert lm.endpoint._key() == ("another" if name == "openai" else "its-own-key")
    else:
        monkeypatch.setenv("OPENAI_API_KEY", "another")
        assert lm.endpoint._key() == "none", "a server of one's own gets nobody's key"


def test_azure_and_servers_of_ones_own_are_where_the_environment_says(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with pytest.raises(ValueError, match=r"AZURE_API_BASE or AZURE_OPENAI_ENDPOINT.*base_url="):
        pn.LM("azure/gpt-4o")
    monkeypatch.setenv("AZURE_OPENAI_ENDPOINT", "https://me.openai.azure.com/")
    assert pn.LM("azure/gpt-4o").endpoint.url == "https://me.openai.azure.com/openai/v1"
    monkeypatch.setenv("OLLAMA_API_BASE", "http://127.0.0.1:9")
    assert pn.LM("ollama_chat/llama3").endpoint.url == "http://127.0.0.1:9/v1"


def test_with_a_base_url_a_slash_means_nothing(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    lm = pn.LM("anthropic/claude-x", base_url=server.url, api_key="key")
    pn.run_parallel(pn.Predict(SIGNATURE, lm), ["row-1"], **QUIET)
    assert server.requests[0]["model"] == "anthropic/claude-x"
    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    assert pn.LM("openai/gpt-oss-20b").endpoint.url == server.url
    assert provider_of("meta-llama/Llama-3") is None
    assert provider_of("anthropic/") is None


def test_extra_body_headers_and_query_reach_the_endpoint(server: ScriptedServer) -> None:
    lm = pn.LM(
        "m",
        base_url=f"{server.url}?api-version=2026-01-01",
        api_key="key",
        extra_body={"top_k": 5, "chat_template_kwargs": {"enable_thinking": False}},
        extra_headers={"x-one": "1"},
        default_headers={"x-two": "2"},
        default_query={"tier": "flex"},
    )
    pn.run_parallel(pn.Predict(SIGNATURE, lm), ["row-1"], **QUIET)
    body, headers = server.requests[0], server.headers[0]
    assert (body["top_k"], body["chat_template_kwargs"]) == (5, {"enable_thinking": False})
    assert "extra_body" not in body
    lowered = {name.lower(): value for name, value in headers.items()}
    assert (lowered["x-one"], lowered["x-two"]) == ("1", "2")
    assert server.queries[0] == {"api-version": "2026-01-01", "tier": "flex"}
    other = pn.LM("m", base_url=server.url, api_key="key")
    assert lm.cache_identity != other.cache_identity
    assert "2" not in str(lm.cache_identity.get("headers")).split()


def test_the_form_can_be_set_by_hand_and_is_shown(server: ScriptedServer) -> None:
    lm = pn.LM("m", base_url=server.url, api_key="key", form="json_object")
    assert lm.capabilities == {
        "form": "json_object",
        "logprobs": 20,
        "ignores_schemas": False,
        "is_known": False,
    }
    pn.run_parallel(pn.Predict(SIGNATURE, lm), ["row-1"], **QUIET)
    assert server.requests[0]["response_format"] == {"type": "json_object"}
    assert lm.capabilities["is_known"]
    server.script = lambda marker, attempt: Reply("status", code=400, message="no response_format")
    df = pn.run_parallel(pn.Predict(SIGNATURE, lm), ["row-1"], max_failures=None, **QUIET)
    assert df["error_type"].tolist() == ["BadRequestError"], "another form is not tried"
    with pytest.raises(ValueError, match="form must be one of json_schema"):
        pn.LM("m", form="xml")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("{bare}", "is no address: it begins with http"),
        ("{http}/v1\n", "is no address"),
        ("{http}/v1/chat/completions", "leave out /chat/completions"),
        ("{https}", r"no secure connection to https.*SSL_CERT_FILE"),
    ],
)
def test_an_address_that_cannot_work_is_told_at_once(
    server: ScriptedServer, url: str, words: str
) -> None:
    bare = server.url.removeprefix("http://")
    given = url.format(bare=bare, http=server.url, https=f"https://{bare}")
    predict = pn.Predict(SIGNATURE, pn.LM("m", base_url=given, api_key="key"))
    began = time.monotonic()
    with pytest.raises((pn.LMError, pn.RunStopped), match=words):
        pn.run_parallel(predict, ["row-1", "row-2"], **QUIET)
    assert time.monotonic() - began < 20, "nothing is waited for"
    assert server.requests == []
