"""Runs in a real marimo: the panel lives while the cell runs, and its buttons work afterwards."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from support.batch_server import BatchServer
from support.marimo_server import Marimo
from support.scripted_server import Reply, ScriptedServer
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
        page.reload()
        page.get_by_text(re.compile(r"Stopped before the end: \d+ of 2,000 rows")).first.wait_for()
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


@pytest.mark.parametrize("waits", ["blocking", "background"])
def test_a_group_of_errors_opens_to_a_story_and_stays_open(
    page: Any, server: ScriptedServer, tmp_path: Path, waits: str
) -> None:
    """In the background its rows can be asked again, too."""
    server.delay_s = 0.1
    server.script = lambda marker, attempt: (
        Reply("status", code=400, message="too <b>long</b>")
        if marker % 7 == 3 and attempt == 1
        else Reply()
    )
    function = "run_parallel" if waits == "blocking" else "start_parallel"
    call = f"run = pn.{function}(predict, reviews, max_workers=4, max_failures=None)"
    marimo = running(tmp_path, server, page, call, rows=150)
    try:
        summary = page.locator("summary").filter(has_text="BadRequestError, e.g. row 3")
        summary.click()
        page.locator("summary").filter(has_text=re.compile("^row 3$")).click()
        story = page.get_by_text("[sent: user] review: row-3 <b>bold</b>")
        story.wait_for()
        first = figure(page, "done")
        eventually(lambda: figure(page, "done") > first + 10, "the figures move")
        assert story.is_visible()
        if waits == "background":
            page.get_by_role("button", name="Retry these").click()
            page.get_by_text("Asked again at the end").wait_for()
        page.get_by_text(re.compile("^Done in")).last.wait_for()
    finally:
        marimo.stop()
    assert len(server.requests) == (150 + 21 if waits == "background" else 150)


def test_clicks_and_keys_decide_the_rows_of_a_review(
    page: Any, server: ScriptedServer, tmp_path: Path
) -> None:
    call = (
        "df = pn.run_parallel(predict, reviews)\n"
        "review = df.parallel.review('sentiment', n=4, reviewer='ann')\n"
        "review"
    )
    marimo = running(tmp_path, server, page, call, rows=20)
    kept = tmp_path / "answers.sqlite.reviews.jsonl"

    def decided() -> list[tuple[str, Any]]:
        lines = kept.read_text().splitlines() if kept.exists() else []
        return [(d["value"], d.get("note")) for d in map(json.loads, lines)]

    try:
        page.get_by_text("0 of 4 decided").wait_for()
        assert page.get_by_text("the model's answer").count() == 0
        page.get_by_placeholder("a note").fill("clear")
        page.get_by_role("button", name="negative").click()
        eventually(lambda: decided() == [("negative", "clear")], "the click is on the disk")
        page.get_by_text("1 of 4 decided").wait_for()
        # the focus stays on the button, so a key decides the next row alike
        page.keyboard.press("Enter")
        eventually(lambda: decided()[1:] == [("negative", None)], "the key decides")
        page.get_by_text("row 3 of 4").wait_for()
        page.get_by_role("button", name="Back").click()
        page.get_by_text("the model's answer").wait_for()
        page.get_by_role("button", name="positive").click()
        eventually(lambda: decided()[2:] == [("positive", None)], "a decision can be changed")
        page.get_by_role("button", name="Skip").click()
        page.get_by_role("button", name="Skip").click()
        page.get_by_text("All picked rows were shown.").wait_for()
    finally:
        marimo.stop()


def test_a_job_is_watched_and_cancelled(page: Any, tmp_path: Path) -> None:
    provider = BatchServer()
    provider.start()
    soon = "import pardspy_nb.runs.batch_api.job as later\nlater._POLL_S = 0.2\n"
    cell = SETUP.format(url=provider.url, rows=8, call=f"{soon}pn.submit_batch(predict, reviews)")
    marimo = Marimo(tmp_path, cell)
    try:
        marimo.open(page)
        marimo.run_all(page)
        page.get_by_text(re.compile("The provider looks at the requests")).first.wait_for()
        provider.advance()
        provider.advance(answers=3)
        page.get_by_text(re.compile(r"The provider is at it: 3 of 8 requests")).first.wait_for()
        page.get_by_role("button", name="Cancel").click()
        eventually(lambda: provider.batches["batch_0"]["status"] == "cancelling", "it is told")
        provider.advance()
        page.get_by_text(re.compile(r"Cancelled: 3 of 8 requests answered")).first.wait_for()
        assert page.get_by_role("button", name="Cancel").count() == 0
    finally:
        marimo.stop()
        provider.stop()
