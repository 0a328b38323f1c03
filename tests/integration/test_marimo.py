"""Runs in a real marimo: the panel lives while the cell runs, and its buttons work afterwards."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright
from support.jupyterlab import CHROMIUM, FLAGS
from support.marimo_server import Marimo
from support.scripted_server import ScriptedServer

pytestmark = pytest.mark.browser

SETUP = """
import pardspy_nb as pn
lm = pn.LM("gpt-4o-mini", base_url={url!r}, api_key="none")
signature = (pn.Signature("Sentiment").add_input("review", str)
    .add_class_output("sentiment", ["positive", "neutral", "negative"]).add_output("reason", str))
predict = pn.Predict(signature, lm)
reviews = [f"row-{{i}} <b>bold</b>" for i in range({rows})]
{call}
"""


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    assert Path(CHROMIUM).exists(), "chromium is missing; `make test` installs it"
    with sync_playwright() as playwright:
        launched = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        yield launched
        launched.close()


@pytest.fixture
def page(browser: Any) -> Iterator[Any]:
    opened = browser.new_page(viewport={"width": 1100, "height": 1000})
    opened.set_default_timeout(30_000)
    yield opened
    opened.close()


def running(folder: Path, server: ScriptedServer, page: Any, call: str, rows: int = 2000) -> Marimo:
    marimo = Marimo(folder, SETUP.format(url=server.url, rows=rows, call=call))
    try:
        marimo.open(page)
        marimo.run_all(page)
    except BaseException:
        marimo.stop()
        raise
    return marimo


def figure(page: Any, name: str) -> int:
    """A figure of the panel, by its name."""
    text = " ".join(page.locator("body").inner_text().split())
    found = re.search(rf"\b{name} ([\d,]+)", text)
    return int(found[1].replace(",", "")) if found else -1


def test_a_blocking_run_is_watched_live_and_stopped_by_marimos_own_button(
    page: Any, server: ScriptedServer, tmp_path: Path
) -> None:
    server.delay_s = 0.15
    call = "df = pn.run_parallel(predict, reviews, max_workers=4, name='prompt A')\nlen(df)"
    marimo = running(tmp_path, server, page, call)
    try:
        page.get_by_text(re.compile(r"prompt A · Running: \d+ of 2,000 rows")).first.wait_for()
        first = figure(page, "done")
        time.sleep(1.5)
        assert figure(page, "done") > first >= 0
        assert "row/s" not in marimo.log.read_text(), "the bar went to the server's terminal"
        page.get_by_test_id("interrupt-button").first.click()
        page.get_by_text("2000", exact=True).first.wait_for()  # the cell's value: the whole frame
        asked = len(server.requests)
        time.sleep(0.8)
        assert len(server.requests) <= asked + 4
    finally:
        marimo.stop()


def test_a_run_in_the_background_has_buttons_that_work(
    page: Any, server: ScriptedServer, tmp_path: Path
) -> None:
    server.delay_s = 0.15
    call = "run = pn.start_parallel(predict, reviews, max_workers=4)"
    marimo = running(tmp_path, server, page, call)
    try:
        page.get_by_text(re.compile(r"Running: \d+ of 2,000 rows")).first.wait_for()
        page.get_by_role("button", name="Pause").click()
        page.get_by_text(re.compile(r"^Paused")).first.wait_for()
        time.sleep(0.5)
        asked = len(server.requests)
        time.sleep(0.6)
        assert len(server.requests) == asked, "a row started during the pause"
        page.get_by_role("button", name="Pause").click()
        page.get_by_text(re.compile(r"^Running")).first.wait_for()
        page.get_by_role("button", name="More workers").click()
        until = time.monotonic() + 10
        while server.max_in_flight < 5 and time.monotonic() < until:
            time.sleep(0.05)
        assert server.max_in_flight == 5
        page.get_by_role("button", name=re.compile("^Cancel")).click()
        page.get_by_text(re.compile(r"Stopped before the end: \d+ of 2,000 rows")).first.wait_for()
        assert page.get_by_role("button", name="Pause").count() == 0
    finally:
        marimo.stop()


def test_results_show_themselves(page: Any, server: ScriptedServer, tmp_path: Path) -> None:
    call = (
        "df = pn.run_parallel(predict, reviews)\n"
        "import marimo as mo\n"
        "judged = pn.evaluate(df, ['positive', 'neutral'] * 10)\n"
        "mo.vstack([df.parallel.summary(), judged, df.parallel.row(3)])"
    )
    marimo = running(tmp_path, server, page, call, rows=20)
    try:
        page.get_by_text(re.compile(r"^Done in")).last.wait_for()
        page.get_by_text("true \\ predicted").wait_for()
        page.get_by_text("sent: system").wait_for()
    finally:
        marimo.stop()
