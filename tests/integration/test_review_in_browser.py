"""A review in a real JupyterLab: clicks and keys decide, and the decisions are on the disk."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import sync_playwright
from support.jupyterlab import CHROMIUM, FLAGS, Lab
from support.scripted_server import ScriptedServer

pytestmark = pytest.mark.browser

REVIEW = """
import pardspy_nb as pn
lm = pn.LM("gpt-4o-mini", base_url={url!r}, api_key="none")
signature = (pn.Signature("Sentiment").add_input("review", str)
    .add_class_output("sentiment", ["positive", "neutral", "negative"]).add_output("reason", str))
df = pn.run_parallel(pn.Predict(signature, lm), [f"row-{{i}} <b>bold</b>" for i in range(20)],
                     store={store!r}, progress="none")
review = df.parallel.review("sentiment", n=4, reviewer="ann")
review
"""


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Lab, Any]]:
    lab = Lab(tmp_path_factory.mktemp("lab"))
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        opened = browser.new_page(viewport={"width": 900, "height": 800})
        opened.set_default_timeout(20_000)
        yield lab, opened
        browser.close()
    lab.stop()


def eventually(true: Callable[[], bool], what: str, seconds: float = 10) -> None:
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, what
        time.sleep(0.02)


def test_clicks_and_keys_decide(
    page: tuple[Lab, Any], server: ScriptedServer, tmp_path: Path
) -> None:
    lab, opened = page
    store = tmp_path / "answers.sqlite"
    kept = tmp_path / "answers.sqlite.reviews.jsonl"
    lab.write("review.ipynb", REVIEW.format(url=server.url, store=str(store)))
    lab.open(opened, "review.ipynb")
    lab.run_all(opened)
    panel = opened.locator(".pardspy-review")
    panel.get_by_text("0 of 4 decided").wait_for()

    def decided() -> list[str]:
        lines = kept.read_text().splitlines() if kept.exists() else []
        return [json.loads(line)["value"] for line in lines]

    assert "<b>bold</b>" in panel.inner_text(), "markup of a row is text"
    if where := os.environ.get("PARDSPY_PICTURES"):
        opened.screenshot(path=f"{where}/review.png")
    opened.get_by_role("button", name="negative").click()
    eventually(lambda: decided() == ["negative"], "the click is on the disk")
    panel.get_by_text("1 of 4 decided").wait_for()
    # the focus stays on the button, so a key decides the next row alike
    opened.keyboard.press("Enter")
    eventually(lambda: decided() == ["negative"] * 2, "the key decides")
    opened.keyboard.press("Shift+Tab")  # to the label before it
    opened.keyboard.press("Enter")
    eventually(lambda: decided() == ["negative", "negative", "neutral"], "another label")
    opened.get_by_role("button", name="Back").click()
    panel.get_by_text("decided", exact=True).wait_for()
    opened.get_by_role("button", name="positive").click()
    eventually(lambda: decided()[-1:] == ["positive"], "a decision can be changed")
    panel.get_by_text("3 of 4 decided").wait_for()
    if where:
        opened.screenshot(path=f"{where}/review-later.png")
