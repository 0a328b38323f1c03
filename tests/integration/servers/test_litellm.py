"""Runs through litellm's proxy, which is installed in an environment of its own (see Makefile)."""

from __future__ import annotations

import shutil
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pydantic
import pytest
from support.programs import Program, free_port, running
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn

pytestmark = pytest.mark.slow
QUIET: dict[str, Any] = {"progress": "none", "store": None}
ROOT = Path(__file__).parents[3]
LITELLM = ROOT / ".venv-servers/bin/litellm"
CONFIG = """
model_list:
  - model_name: good
    litellm_params: {{model: openai/m, api_base: {url}, api_key: k}}
  - model_name: drops
    litellm_params:
      {{model: openai/m, api_base: {url}, api_key: k, additional_drop_params: [response_format]}}
router_settings: {{num_retries: 0, disable_cooldowns: true}}
general_settings:
  custom_auth: litellm_auth.user_api_key_auth
  master_key: sk-{key}
"""
ALONE = {
    "LITELLM_LOCAL_MODEL_COST_MAP": "True",  # or it looks for prices in the internet
    "LITELLM_TELEMETRY": "False",
    "LITELLM_RATE_LIMIT_WINDOW_SIZE": "5",
}


class Proxy:
    """litellm's proxy before a scripted server."""

    def __init__(self, folder: Path) -> None:
        self.backend = ScriptedServer().start()
        port = free_port()
        config = folder / "config.yaml"
        config.write_text(CONFIG.format(url=self.backend.url, key="0" * 40))
        shutil.copy(ROOT / "tests/support/litellm_auth.py", folder)
        command = [
            str(LITELLM),
            "--config",
            str(config),
            "--host",
            "127.0.0.1",
            "--port",
            str(port),
        ]
        self.program = Program(command, port, folder / "log", ALONE)
        self.url = f"http://127.0.0.1:{port}/v1"

    def predict(self, signature: Any, model: str = "good", key: str = "sk-good") -> pn.Predict:
        return pn.Predict(signature, pn.LM(model, base_url=self.url, api_key=key))


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    if not LITELLM.exists():
        pytest.fail("litellm's proxy is not installed: make servers")
    found = Proxy(tmp_path_factory.mktemp("litellm"))
    try:
        with running(found.program):
            yield found
    finally:
        found.backend.stop()


@pytest.fixture(autouse=True)
def backend(proxy: Proxy) -> ScriptedServer:
    proxy.backend.script = lambda marker, attempt: Reply()
    proxy.backend.requests.clear()
    proxy.backend.attempts.clear()
    return proxy.backend


def test_labels_and_tokens(proxy: Proxy, backend: ScriptedServer, signature: pn.Signature) -> None:
    df = pn.run_parallel(proxy.predict(signature), [f"row-{i}" for i in range(40)], **QUIET)
    assert df["reason"].tolist() == [f"row-{i}" for i in range(40)]
    assert df["attempts"].eq(1).all()
    assert df["total_tokens"].sum() == 40 * 18
    assert {r["response_format"]["type"] for r in backend.requests} == {"json_schema"}


class Item(pydantic.BaseModel):
    name: str
    price: float


class Receipt(pn.Signature):
    """Read the receipt"""

    text: str = pn.InputField()
    items: list[Item] = pn.OutputField()


def test_a_nested_schema_where_the_proxy_drops_it(proxy: Proxy, backend: ScriptedServer) -> None:
    good, bad = '{"items": [{"name": "tea", "price": 2.5}]}', '{"items": ["tea 2.5"]}'

    def script(marker: int, attempt: int) -> Reply:
        asked = backend.requests[-1]
        is_told = "response_format" in asked or "JSON schema" in str(asked["messages"])
        return Reply(content=good if is_told else bad)

    backend.script = script
    rows = [f"row-{i}" for i in range(8)]
    df = pn.run_parallel(proxy.predict(Receipt, "drops"), rows, max_workers=1, **QUIET)
    assert df["status"].eq("ok").all()
    assert df["attempts"].tolist() == [2, 2, *[1] * 6]
    df = pn.run_parallel(proxy.predict(Receipt, "good"), rows, **QUIET)
    assert df["attempts"].eq(1).all()


@pytest.mark.parametrize(
    ("change", "error"),
    [({"key": "sk-bad"}, "AuthenticationError"), ({"model": "nope"}, "ModelNotFoundError")],
)
def test_what_meets_every_row_stops_the_run(
    proxy: Proxy, backend: ScriptedServer, signature: pn.Signature, change: Any, error: str
) -> None:
    rows = [f"row-{i}" for i in range(40)]
    with pytest.raises(pn.RunStopped, match=error):
        pn.run_parallel(proxy.predict(signature, **change), rows, max_failures=None, **QUIET)
    assert backend.requests == []


@pytest.mark.parametrize("workers", ["auto", 20])
def test_no_row_is_lost_to_the_limit_of_a_key(
    proxy: Proxy, backend: ScriptedServer, signature: pn.Signature, workers: Any
) -> None:
    """Five requests within five seconds."""
    rows = [f"row-{i}" for i in range(8)]
    few = proxy.predict(signature, key="sk-few")
    df = pn.run_parallel(few, rows, max_workers=workers, **QUIET)
    assert df["reason"].tolist() == rows


def test_no_row_is_lost_to_a_restart(
    proxy: Proxy, backend: ScriptedServer, signature: pn.Signature
) -> None:
    backend.delay_s = 0.05

    def restart() -> None:
        while sum(backend.attempts.values()) < 30:
            time.sleep(0.005)
        proxy.program.stop()
        proxy.program.start()

    thread = threading.Thread(target=restart)
    thread.start()
    try:
        rows = [f"row-{i}" for i in range(150)]
        df = pn.run_parallel(proxy.predict(signature), rows, max_workers=8, **QUIET)
    finally:
        thread.join(180)
        backend.delay_s = 0.0
    assert df["reason"].tolist() == rows
    assert max(backend.attempts.values()) <= 2  # one answer may have been lost with its connection
