"""Takes the pictures of the panel and the summary in docs/images: `make pictures`.

A real JupyterLab over the scripted endpoint, which takes its time, fails here and there and
stalls twice.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright
from support.chromium import CHROMIUM, FLAGS
from support.jupyterlab import Lab
from support.scripted_server import Reply, ScriptedServer

IMAGES = Path(__file__).parents[2] / "docs" / "images"
SETUP = """
from typing import Literal
import pardspy_nb as pn

class Review(pn.Signature):
    "Analyze customer review sentiment"
    review: str = pn.InputField("Customer review text")
    sentiment: Literal["positive", "neutral", "negative"] = pn.OutputField("Overall sentiment")
    reason: str = pn.OutputField("Brief explanation")

predict = pn.Predict(Review, pn.LM("gpt-4o-mini", base_url={url!r}, api_key="none"))
reviews = [f"row-{{i}}" for i in range(600)]
"""
CALL = "df = pn.run_parallel(predict, reviews, max_workers=32, max_failures=0.1)"


def script(marker: int, attempt: int) -> Reply:
    """Some rows too long, some answers no JSON, two stalls; labels four to one to two."""
    if marker % 41 == 5:
        length = 128_000 + 37 * marker
        return Reply("status", code=400, message=f"maximum context length exceeded: {length}")
    if marker % 67 == 9:
        return Reply("garbage")
    if marker % 7 == 0 and attempt == 1:
        return Reply("status", code=429, headers={"retry-after-ms": "900"})
    return Reply("ok", label=[0, 0, 2, 0, 1, 2, 0][marker % 7])


def take(theme: str, browser: Any) -> None:
    server = ScriptedServer(script)
    noise = random.Random(1)
    server.latency_s = lambda marker: 20 if marker in (90, 180) else noise.lognormvariate(-0.4, 0.5)
    server.start()
    lab = Lab(Path(tempfile.mkdtemp()))
    lab.write("picture.ipynb", SETUP.format(url=server.url), CALL)
    page = browser.new_page(viewport={"width": 940, "height": 1000}, device_scale_factor=1.5)
    lab.open(page, "picture.ipynb")
    if theme == "dark":
        page.evaluate(
            "() => { window.jupyterapp.commands.execute('apputils:change-theme',"
            " {theme: 'JupyterLab Dark'}); }"
        )
        page.wait_for_timeout(1500)
    lab.run_all(page)
    page.wait_for_selector(".pardspy-panel")
    page.wait_for_timeout(8000)
    cell = page.locator(".jp-CodeCell").nth(1)
    cell.screenshot(path=IMAGES / f"panel-{theme}.png")
    page.wait_for_timeout(8000)
    page.get_by_role("button", name="Finish without stragglers").click()
    page.get_by_text("Ended without every row").wait_for(timeout=60_000)
    page.wait_for_timeout(500)
    cell.screenshot(path=IMAGES / f"summary-{theme}.png")
    page.close()
    lab.stop()
    server.stop()


if __name__ == "__main__":
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name in ("light", "dark"):
            take(name, chromium)
        chromium.close()
