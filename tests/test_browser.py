"""The notebook view in a real JupyterLab."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from lab import CHROMIUM, Lab
from playwright.sync_api import sync_playwright
from server import ScriptedServer

FLAGS = [
    "--no-sandbox", "--disable-dev-shm-usage", "--disable-gpu", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
]  # fmt: skip

SETUP = """
import pardspy_nb as pn
lm = pn.LM("gpt-4o-mini", base_url={url!r}, api_key="sk-test-secret-key")
signature = (pn.Signature("Sentiment").add_input("review", str)
    .add_class_output("sentiment", ["positive", "neutral", "negative"]).add_output("reason", str))
predict = pn.Predict(signature, lm)
reviews = [f"row-{{i}} <b>bold</b>" for i in range(40)]
"""


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    running = Lab(tmp_path_factory.mktemp("lab"))
    yield running
    running.stop()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    assert Path(CHROMIUM).exists(), "chromium is missing; `make test` installs it"
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    opened = browser.new_page(viewport={"width": 1100, "height": 800})
    opened.set_default_timeout(20_000)
    yield opened
    opened.close()


def test_the_bar_moves_and_the_saved_file_holds_only_static_html(
    lab: Lab, page: Any, server: ScriptedServer
) -> None:
    server.gate = threading.Event()
    path = lab.write(
        "live.ipynb",
        SETUP.format(url=server.url),
        "df = pn.run_parallel(predict, reviews, max_workers=4)",
        "print(len(df), set(df['status']))",
    )
    lab.open(page, "live.ipynb")
    lab.run_all(page)
    page.get_by_text("0 of 40").wait_for(timeout=30_000)  # live, while the cell runs
    server.gate.set()
    lab.wait_idle(page)
    page.get_by_text("40 {'ok'}").wait_for(timeout=10_000)
    assert page.locator(".jp-OutputArea .widget-hprogress").count() == 0

    saved = lab.save(page, path)
    text = json.dumps(saved)
    assert "widget-view" not in text
    assert "widget-state" not in text
    assert "<script" not in text
    outputs = saved["cells"][1]["outputs"]
    assert len(outputs) == 1
    assert len(json.dumps(outputs)) < 20_000
    assert "rows/s" in "".join(outputs[0]["data"]["text/html"])

    lab.open(page, "live.ipynb")
    page.get_by_text("rows/s").first.wait_for(timeout=10_000)
    assert page.get_by_text("Error displaying widget").count() == 0


@pytest.mark.parametrize(
    "call", ["pn.run_parallel(", "await pn.arun_parallel("], ids=["blocking", "awaited"]
)
def test_interrupt_returns_the_frame_as_it_stands(
    lab: Lab, page: Any, server: ScriptedServer, call: str
) -> None:
    from server import Reply

    server.script = lambda marker, attempt: Reply("stall" if marker >= 8 else "ok")
    name = f"interrupt-{len(call)}.ipynb"
    lab.write(
        name, SETUP.format(url=server.url), f"df = {call}predict, reviews, max_workers=4)",
        "print(int((df['status'] == 'ok').sum()), 'are ok')",
    )  # fmt: skip
    lab.open(page, name)
    lab.run_all(page)
    page.get_by_text("8 of 40").wait_for(timeout=30_000)
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:interrupt-kernel'); }")
    page.get_by_text("Stopped before the end: 8 of 40").first.wait_for(timeout=10_000)
    # an interrupt drops the cells queued behind it; the next ones run
    page.wait_for_function(
        "() => window.jupyterapp.shell.currentWidget.sessionContext.session.kernel.status"
        " === 'idle'",
        timeout=10_000,
    )
    page.locator(".jp-CodeCell").nth(2).click()
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-cell'); }")
    page.get_by_text("8 are ok").wait_for(timeout=10_000)
