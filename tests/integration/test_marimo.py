"""Runs in a real marimo: the panel lives while the cell runs, and its buttons work afterwards."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from support.marimo_server import Marimo
from support.scripted_server import ScriptedServer
from support.waiting import eventually, stays

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
        eventually(lambda: figure(page, "done") > first >= 0, "the figures move")
        assert "row/s" not in marimo.log.read_text(), "the bar went to the server's terminal"
        page.get_by_test_id("interrupt-button").first.click()
        page.get_by_text("2000", exact=True).first.wait_for()  # the cell's value: the whole frame
        eventually(lambda: server.in_flight == 0, "rows in flight end")
        assert stays(lambda: len(server.requests), 0.8), "a row was sent after the end"
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
        eventually(lambda: server.in_flight == 0, "rows in flight finish")
        assert stays(lambda: len(server.requests), 0.6), "a row started during the pause"
        page.get_by_role("button", name="Pause").click()
        page.get_by_text(re.compile(r"^Running")).first.wait_for()
        page.get_by_role("button", name="More workers").click()
        eventually(lambda: server.max_in_flight == 5, "the server sees five rows in flight")
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
