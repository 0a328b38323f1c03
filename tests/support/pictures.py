"""Takes the pictures of the panel and the summary in docs/images: `make pictures`.

JupyterLab, Notebook 7 and marimo over the scripted endpoint, which takes its time, fails here and
there and stalls twice.
"""

from __future__ import annotations

import random
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import sync_playwright
from support.chromium import CHROMIUM, FLAGS
from support.jupyterlab import Lab, NotebookSeven
from support.marimo_server import Marimo
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


def serving() -> ScriptedServer:
    server = ScriptedServer(script)
    noise = random.Random(1)
    server.latency_s = lambda marker: 20 if marker in (90, 180) else noise.lognormvariate(-0.4, 0.5)
    return server.start()


def take(kind: type[Lab], theme: str, browser: Any) -> None:
    """JupyterLab's panel and summary, or the panel of Notebook 7."""
    server, lab = serving(), kind(Path(tempfile.mkdtemp()))
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
    front_end = "" if kind is Lab else "notebook7-"
    cell.screenshot(path=IMAGES / f"panel-{front_end}{theme}.png")
    if kind is Lab:
        page.wait_for_timeout(8000)
        page.get_by_role("button", name="Finish without stragglers").click()
        page.get_by_text("Ended without every row").wait_for(timeout=60_000)
        page.wait_for_timeout(500)
        cell.screenshot(path=IMAGES / f"summary-{theme}.png")
    page.close()
    lab.stop()
    server.stop()


def take_marimo(theme: str, browser: Any) -> None:
    """The panel of a run in the background in marimo."""
    server, folder = serving(), Path(tempfile.mkdtemp())
    (folder / "marimo").mkdir()
    (folder / "marimo" / "marimo.toml").write_text(f'[display]\ntheme = "{theme}"\n')
    call = CALL.replace("df = pn.run_parallel", "run = pn.start_parallel")
    marimo = Marimo(folder, SETUP.format(url=server.url), call)
    page = browser.new_page(viewport={"width": 1000, "height": 1700}, device_scale_factor=1.5)
    marimo.open(page)
    marimo.run_all(page)
    page.get_by_text("Running").first.wait_for()
    page.wait_for_timeout(8000)
    page.locator(".marimo-cell").nth(1).screenshot(path=IMAGES / f"panel-marimo-{theme}.png")
    page.close()
    marimo.stop()
    server.stop()


if __name__ == "__main__":
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
        for name in ("light", "dark"):
            take(Lab, name, chromium)
            take(NotebookSeven, name, chromium)
            take_marimo(name, chromium)
        chromium.close()
