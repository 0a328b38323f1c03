"""Keys and rows go nowhere else, and stand nowhere."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.raw_server import completion, http, request_of, serving
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn
from pardspy_nb.core.redaction import MASK, public_url, redacted, redacted_bytes, secrets_in

KEY = "sk-proj/Ab+9_secret-key=="
QUIET: dict[str, Any] = {"progress": "none", "store": None}
FORMS = (KEY, KEY.replace("/", "\\/"), KEY[:20])


def shown(df: Any, tmp_path: Path) -> str:
    """All that a frame shows or writes."""
    df.parallel.to_parquet(tmp_path / "df.parquet")
    df.parallel.to_jsonl(tmp_path / "df.jsonl")
    return "".join(
        [
            df.to_string(),
            json.dumps(df.attrs["pardspy"], default=str),
            df.parallel.summary()._repr_html_(),
            df.parallel.failures.to_string(),
            (tmp_path / "df.parquet").read_bytes().decode("latin-1"),
            (tmp_path / "df.jsonl").read_text(),
        ]
    )


QUOTING: dict[str, Reply] = {
    "error": Reply("status", code=400, message=f"no such key: {KEY}"),
    "key error": Reply("status", code=401, message=f"Incorrect API key provided: {KEY}"),
    "long error": Reply("status", code=400, message="x" * 490 + KEY),
    "error in a 200": Reply("raw", text=json.dumps({"error": {"message": f"bad {KEY}"}})),
    "error escaped": Reply("raw", text=json.dumps({"error": KEY}).replace("/", "\\/")),
    "page": Reply("raw", text=f"<html>{'.' * 60}{KEY}</html>"),
    "unreadable": Reply(content="." * 70 + KEY),
    "label": Reply(content=json.dumps({"sentiment": KEY, "reason": "x"})),
    "refusal": Reply(
        "raw",
        text=json.dumps({"choices": [{"message": {"content": None, "refusal": f"no: {KEY}"}}]}),
    ),
    "reason": Reply(
        "raw", text=json.dumps({"choices": [{"message": {"content": "{}"}, "finish_reason": KEY}]})
    ),
    "no message": Reply("raw", text=json.dumps({"choices": [], "x": "." * 50 + KEY})),
    "redirect": Reply("status", code=302, headers={"location": f"http://127.0.0.1:1/{KEY}"}),
}


@pytest.mark.slow
@pytest.mark.parametrize("reply", QUOTING.values(), ids=QUOTING)
def test_a_key_that_an_endpoint_quotes_is_shown_nowhere(
    signature: pn.Signature,
    server: ScriptedServer,
    reply: Reply,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    server.script = lambda marker, attempt: reply
    predict = pn.Predict(signature, pn.LM("m", base_url=server.url, api_key=KEY))
    told = ""
    try:
        df = pn.run_parallel(
            predict, ["row-1", "row-2"], max_failures=None, max_attempts=2, progress="auto"
        )
    except pn.ParallelError as error:
        df, told = error.df, f"{error!r} {error} {error.__cause__!r}"
    out = capsys.readouterr()
    for text in (shown(df, tmp_path), told, out.out, out.err, repr(predict), repr(df.attrs)):
        for form in FORMS:
            assert form not in text
    assert all(form.encode() not in pickle.dumps(df) for form in FORMS)


def test_secrets_in_urls_headers_and_parameters_are_shown_nowhere(
    signature: pn.Signature, server: ScriptedServer, tmp_path: Path, store_path: Path
) -> None:
    secrets = ["hunter2-password", "query-secret-1", "header-secret-2", "body-secret-3"]
    server.script = lambda marker, attempt: (
        Reply("status", code=400, message=" ".join(secrets)) if marker == 1 else Reply()
    )
    lm = pn.LM(
        "m",
        base_url=f"{server.url}?api-key=query-secret-1&api-version=2",
        api_key="k-1234567",
        extra_headers={"x-api-token": "Bearer header-secret-2"},
        extra_body={"api_key": "body-secret-3"},
    )
    with_user = pn.LM("m", base_url="http://me:hunter2-password@127.0.0.1:9/v1", api_key="k")
    assert "hunter2" not in repr(with_user)
    with pytest.raises(pn.PardspyError) as info:
        pn.run_parallel(pn.Predict(signature, with_user), ["row-1"], **QUIET)
    assert "hunter2" not in f"{info.value!r}"
    predict = pn.Predict(signature, lm)
    df = pn.run_parallel(
        predict, ["row-0", "row-1"], max_workers=1, max_failures=None, progress="none"
    )
    assert df["status"].tolist() == ["ok", "failed"]
    text = shown(df, tmp_path) + repr(predict) + store_path.read_bytes().decode("latin-1")
    for secret in secrets[1:3]:
        assert secret not in text
    assert '"body-secret-3"' not in json.dumps(df.attrs["pardspy"])
    assert server.queries[0]["api-version"] == "2"


@given(
    st.text(st.characters(codec="utf-8"), min_size=5, max_size=40).filter(lambda s: s == s.strip()),
    st.text(max_size=50),
    st.sampled_from([str, json.dumps]),
)
def test_what_is_redacted_holds_no_secret(
    key: str, around: str, written: Callable[[str], str]
) -> None:
    secrets = secrets_in(key, [], "http://h/v1")
    text = written(f"{around}{key}{around}")
    for clean in (redacted(text, secrets), redacted_bytes(text.encode(errors="replace"), secrets)):
        told = clean if isinstance(clean, str) else clean.decode()
        assert key not in told or key in MASK * 20
        assert MASK in told


def test_public_urls() -> None:
    assert public_url("https://u:p@h.x:8/v1?api-key=k&v=2") == "https://h.x:8/v1?api-key=***&v=2"
    assert public_url("http://h/v1") == "http://h/v1"
    assert "p4ss" not in redacted("cannot reach http://me:p4ss@h/v1", ())


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.9.9.9"])
def test_a_proxy_never_sees_what_goes_to_this_machine(
    signature: pn.Signature,
    server: ScriptedServer,
    host: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    seen: list[bytes | None] = []

    async def proxy(reader: Any, writer: Any) -> None:
        seen.append(await request_of(reader))
        writer.write(http(completion('{"sentiment": "negative", "reason": "the proxy"}')))

    with serving(proxy) as url:
        for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY", "https_proxy"):
            monkeypatch.setenv(name, url.removesuffix("/v1"))
        monkeypatch.delenv("no_proxy", raising=False)
        at = server.url.replace("127.0.0.1", host if host != "127.9.9.9" else "127.0.0.1")
        predict = pn.Predict(signature, pn.LM("m", base_url=at, api_key="k"))
        df = pn.run_parallel(predict, ["row-1"], **QUIET)
    assert df["reason"].tolist() == ["row-1"]
    assert seen == []


@pytest.mark.parametrize("by_client", [False, True])
def test_a_redirect_to_another_host_gets_neither_key_nor_row(
    signature: pn.Signature, server: ScriptedServer, by_client: bool
) -> None:
    seen: list[bytes | None] = []

    async def other(reader: Any, writer: Any) -> None:
        seen.append(await request_of(reader))
        writer.close()

    with serving(other) as url:
        server.script = lambda marker, attempt: Reply(
            "status", code=307, headers={"location": f"{url}/chat/completions"}
        )
        lm = pn.LM("m", base_url=server.url, api_key="k")
        if by_client:
            import openai

            lm = pn.LM("m", client=lambda: openai.AsyncOpenAI(base_url=server.url, api_key="k"))
        with pytest.raises(pn.RunStopped, match="redirects to"):
            pn.run_parallel(pn.Predict(signature, lm), ["row-1"], max_failures=None, **QUIET)
    assert seen == []
