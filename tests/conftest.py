from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn
from pardspy_nb.llm.response_format import forget_formats

# on a busy machine any example may take a while
hypothesis.settings.register_profile("any speed", deadline=None)
hypothesis.settings.load_profile("any speed")

LABELS = ["positive", "neutral", "negative"]


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A developer's own key or model must not change what is tested."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "EXAMPLES_DEFAULT_MODEL", "PARDSPY_MODEL"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture(autouse=True)
def store_path(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Rows are remembered per test, never in the developer's own store."""
    path = tmp_path_factory.mktemp("store") / "answers.sqlite"
    monkeypatch.setenv("PARDSPY_STORE", str(path))
    return path


@pytest.fixture(autouse=True)
def _nothing_is_known_of_endpoints() -> None:
    """Ports come again; what one test's server taught must not hold for another's."""
    forget_formats()


@pytest.fixture
def server() -> Iterator[ScriptedServer]:
    scripted = ScriptedServer().start()
    yield scripted
    if scripted.running:
        scripted.stop()


@pytest.fixture
def signature() -> pn.Signature:
    return (
        pn.Signature("Analyze customer review sentiment")
        .add_input("review", str, "Customer review text")
        .add_class_output("sentiment", LABELS, "Overall sentiment")
        .add_output("reason", str, "Brief explanation")
    )


@pytest.fixture
def lm(server: ScriptedServer) -> pn.LM:
    return pn.LM("gpt-4o-mini", base_url=server.url, api_key="sk-test-secret-key")


@pytest.fixture
def predict(signature: pn.Signature, lm: pn.LM) -> pn.Predict:
    return pn.Predict(signature, lm)


@pytest.fixture
def fast_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Back-off in milliseconds, where a test is about what happens and not about when."""
    from pardspy_nb.engine import policies
    from pardspy_nb.executors import engine_factory

    def quick(max_attempts: int, outage_s: float) -> Any:
        times = {"base_s": 0.01, "cap_s": 0.05, "outage_cap_s": 0.05}
        return policies.RetryPolicy(max_attempts, outage_s=outage_s / 200, **times)

    monkeypatch.setattr(engine_factory, "RetryPolicy", quick)


@pytest.fixture
def mixed(predict: pn.Predict, server: ScriptedServer, reviews: list[str]) -> Any:
    """Twelve rows: row 2 fails with markup in its error, the labels are only two of three."""
    bad = "<script>alert(1)</script>"
    server.script = lambda marker, attempt: (
        Reply("status", code=400, message=bad) if marker == 2 else Reply()
    )
    rows = [r for r in reviews if reviews.index(r) % 3 != 2 or r.startswith("row-2 ")]
    return pn.run_parallel(predict, rows, max_failures=None, progress="none", store=None)


@pytest.fixture
def reviews() -> list[str]:
    return [f"row-{i} is a review" for i in range(12)]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """All integration tests are slow ones: `make check` leaves them out."""
    for item in items:
        if "integration" in item.path.parts:
            item.add_marker(pytest.mark.slow)
