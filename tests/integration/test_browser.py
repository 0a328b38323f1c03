"""The panel in a real JupyterLab: real clicks, real interrupts, saved and reopened files."""

from __future__ import annotations

import json
import re
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from support.batch_server import BatchServer
from support.jupyterlab import Lab, NotebookSeven
from support.scripted_server import Reply, ScriptedServer
from support.waiting import eventually, stays

pytestmark = pytest.mark.browser

SETUP = """
import pardspy_nb as pn
lm = pn.LM("gpt-4o-mini", base_url={url!r}, api_key="sk-test-secret-key")
signature = (pn.Signature("Sentiment").add_input("review", str)
    .add_class_output("sentiment", ["positive", "neutral", "negative"]).add_output("reason", str))
predict = pn.Predict(signature, lm)
reviews = [f"row-{{i}} <b>bold</b>" for i in range({rows})]
"""

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


CALLS = {
    "blocking": "df = pn.run_parallel(predict, reviews, max_workers=4)",
    "awaited": "df = await pn.arun_parallel(predict, reviews, max_workers=4)",
    "background": "run = pn.start_parallel(predict, reviews, max_workers=4)",
}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Lab]:
    running = Lab(tmp_path_factory.mktemp("lab"))
    yield running
    running.stop()


def panel_text(page: Any) -> str:
    return " ".join(page.locator(".pardspy-panel").first.inner_text().split())


@pytest.mark.parametrize("waits", CALLS)
def test_buttons_steer_the_run_while_it_lasts(
    lab: Lab, page: Any, server: ScriptedServer, waits: str
) -> None:
    """Pause, Resume, workers and Cancel, as the server sees them."""
    server.delay_s = 0.15
    name = f"buttons-{waits}.ipynb"
    lab.write(name, SETUP.format(url=server.url, rows=2000), CALLS[waits])
    lab.open(page, name)
    lab.run_all(page)
    page.get_by_text(re.compile(r"Running: \d+ of 2,000 rows")).wait_for(timeout=60_000)
    first = panel_text(page)
    eventually(lambda: len(server.requests) > 12, "rows are sent")
    eventually(lambda: panel_text(page) != first, "the figures move")

    page.get_by_role("button", name="Pause").click()
    page.get_by_text(re.compile("^Paused")).wait_for()
    eventually(lambda: server.in_flight == 0, "rows in flight finish")
    assert stays(lambda: len(server.requests), 0.6), "a row started during the pause"
    assert server.max_in_flight == 4

    page.get_by_role("button", name="Resume").click()
    page.get_by_text(re.compile("^Running")).wait_for()
    page.get_by_role("button", name="More workers").click()
    eventually(lambda: server.max_in_flight == 5, "the server sees five rows in flight")
    for _ in range(3):
        page.get_by_role("button", name="Fewer workers").click()
    eventually(lambda: "workers 2" in panel_text(page), "the panel shows the new number")
    eventually(lambda: server.in_flight <= 2, "the surplus rows finish")
    server.max_in_flight = 0
    eventually(lambda: server.max_in_flight == 2, "the server sees two rows in flight")
    assert stays(lambda: server.max_in_flight, 0.6)

    page.get_by_role("button", name="Cancel").click()
    page.get_by_text(re.compile(r"Stopped before the end: \d+ of 2,000 rows")).first.wait_for()
    lab.wait_idle(page)
    assert stays(lambda: len(server.requests), 0.4), "a row was sent after the end"
    assert page.locator(".pardspy-panel").count() == 0


def test_notebook_7_has_the_panel_too(tmp_path: Path, page: Any, server: ScriptedServer) -> None:
    """Numbers move, pause, a group of errors and a row's story, resume, more workers, interrupt,
    and what stays after a reload."""
    server.delay_s = 0.15
    seven = NotebookSeven(tmp_path)
    try:
        call = "df = pn.run_parallel(predict, reviews, max_workers=4, max_failures=None)"
        path = seven.write("seven.ipynb", SETUP.format(url=server.url, rows=2000), call)
        server.script = lambda marker, attempt: (
            Reply("status", code=400, message="too long") if marker == 3 else Reply()
        )
        seven.open(page, "seven.ipynb")
        seven.run_all(page)
        page.get_by_text(re.compile(r"Running: [1-9]\d* of 2,000 rows")).wait_for(timeout=60_000)
        first = panel_text(page)
        eventually(lambda: panel_text(page) != first, "the figures move")
        page.get_by_role("button", name="Pause").click()
        page.get_by_text(re.compile("^Paused")).wait_for()
        eventually(lambda: server.in_flight == 0, "rows in flight finish")
        assert stays(lambda: len(server.requests), 0.6), "a row started during the pause"
        page.locator("summary").filter(has_text="BadRequestError, e.g. row 3").click()
        page.get_by_text("row 3", exact=True).click()
        page.get_by_text("[sent: user] review: row-3 <b>bold</b>").wait_for()
        page.get_by_role("button", name="Resume").click()
        page.get_by_role("button", name="More workers").click()
        eventually(lambda: server.max_in_flight == 5, "the server sees five rows in flight")
        page.evaluate(
            "() => { window.jupyterapp.shell.currentWidget.sessionContext.session.kernel"
            ".interrupt(); }"
        )
        page.get_by_text(re.compile(r"Stopped before the end: \d+ of 2,000 rows")).first.wait_for()
        seven.wait_idle(page)
        assert page.locator(".pardspy-panel").count() == 0
        assert "Stopped before the end" in str(seven.save(page, path))
        page.reload()
        page.get_by_text(re.compile(r"Stopped before the end: \d+ of 2,000 rows")).first.wait_for()
    finally:
        seven.stop()


AXE = {"resultTypes": ["violations"], "runOnly": {"type": "tag", "values": ["wcag2a", "wcag2aa"]}}


def serious(page: Any, selector: str) -> list[str]:
    """What axe-core finds in a part of the page that it calls serious or worse."""
    found = Axe().run(page, context=selector, options=AXE).response["violations"]
    return [
        f"{v['id']}: {v['help']} {[n['html'][:200] for n in v['nodes'][:2]]}"
        for v in found
        if v["impact"] in ("serious", "critical")
    ]


@pytest.mark.parametrize("theme", ["JupyterLab Light", "JupyterLab Dark"])
def test_panel_and_summary_owe_nothing_to_people_who_do_not_see_them(
    lab: Lab, page: Any, server: ScriptedServer, theme: str
) -> None:
    """axe-core's rules of WCAG 2, levels A and AA; and groups of errors open by the keyboard."""
    server.delay_s = 0.3  # until the panel was looked at
    server.script = lambda marker, attempt: (
        Reply("status", code=400) if marker % 7 == 0 else Reply()
    )
    name = f"axe-{theme.split()[-1]}.ipynb"
    call = "df = pn.run_parallel(predict, reviews, max_workers=4, max_failures=None, name='one')"
    lab.write(name, SETUP.format(url=server.url, rows=600), call)
    lab.open(page, name)
    page.evaluate(
        "name => window.jupyterapp.commands.execute('apputils:change-theme', {theme: name})", theme
    )
    lab.run_all(page)
    page.get_by_text(re.compile(r"one · Running: [1-9]\d* of 600 rows")).first.wait_for(
        timeout=60_000
    )
    page.get_by_text(re.compile(r"rows a second over time")).wait_for()
    assert not serious(page, ".pardspy-panel")
    group = page.locator(".pardspy-panel summary").first
    group.focus()
    page.keyboard.press("Enter")
    page.get_by_text("tells what was sent").first.wait_for()
    page.screenshot(path=str(lab.folder / f"live-{theme.split()[-1]}.png"))
    server.delay_s = 0.0
    page.get_by_text(re.compile(r"one · Done in")).first.wait_for(timeout=60_000)
    assert page.locator(".pardspy-panel").count() == 0
    assert not serious(page, ".jp-OutputArea")
    page.locator(".jp-OutputArea summary", has_text="BadRequestError").first.click()
    page.screenshot(path=str(lab.folder / f"done-{theme.split()[-1]}.png"))


def test_an_old_kernel_says_so_and_its_background_runs_have_working_buttons(
    lab: Lab, page: Any, server: ScriptedServer
) -> None:
    """ipykernel 6 handles no message while a cell runs: the panel points to ■."""
    server.gate = threading.Event()
    kernel = lab.add_kernel("6.31.0")
    lab.write(
        "old.ipynb",
        SETUP.format(url=server.url, rows=30),
        CALLS["blocking"],
        CALLS["background"],
        kernel=kernel,
    )
    lab.open(page, "old.ipynb")
    lab.run_cell(page, 0)
    lab.run_cell(page, 1)
    page.get_by_text("Stop with ■").wait_for()
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:interrupt-kernel'); }")
    page.get_by_text("Stopped before the end: 0 of 30").wait_for()
    lab.wait_kernel_idle(page)
    lab.run_cell(page, 2)
    page.get_by_role("button", name="Pause").click()
    page.get_by_text(re.compile("^Paused")).wait_for()
    assert page.get_by_text("Stop with ■").count() == 0
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("Stopped before the end: 0 of 30").nth(1).wait_for()
    server.gate.set()


def test_finish_without_stragglers_keeps_all_but_the_slowest(
    lab: Lab, page: Any, server: ScriptedServer
) -> None:
    server.delay_s = 0.05
    server.script = lambda marker, attempt: Reply("stall" if marker in (3, 7) else "ok")
    lab.write(
        "stragglers.ipynb",
        SETUP.format(url=server.url, rows=40),
        CALLS["blocking"],
        "print(list(df.index[df['status'] == 'cancelled']), set(df['status']))",
    )
    lab.open(page, "stragglers.ipynb")
    lab.run_all(page)
    page.get_by_text("Running: 38 of 40 rows").wait_for(timeout=60_000)
    page.get_by_role("button", name="Finish without stragglers").click()
    page.get_by_text("38 of 40 rows are done and in the frame; 2 cancelled").wait_for()
    lab.wait_idle(page)
    page.get_by_text("[3, 7]").wait_for()


@pytest.mark.parametrize("waits", ["blocking", "awaited"])
def test_interrupt_returns_the_frame_and_the_same_cell_continues(
    lab: Lab, page: Any, server: ScriptedServer, waits: str
) -> None:
    server.script = lambda marker, attempt: Reply("stall" if marker >= 8 else "ok")
    name = f"interrupt-{waits}.ipynb"
    lab.write(
        name,
        SETUP.format(url=server.url, rows=40),
        CALLS[waits],
        "print(int((df['status'] == 'ok').sum()), 'are ok,', int(df['cached'].sum()), 'cached')",
    )
    lab.open(page, name)
    lab.run_all(page)
    page.get_by_text("Running: 8 of 40 rows").wait_for(timeout=60_000)
    begin = time.monotonic()
    page.evaluate("() => { window.jupyterapp.commands.execute('notebook:interrupt-kernel'); }")
    page.get_by_text("Stopped before the end: 8 of 40").first.wait_for(timeout=10_000)
    assert time.monotonic() - begin < 3, "an interrupt is answered within a second, and painted"
    lab.wait_kernel_idle(page)  # an interrupt drops the cells queued behind it

    lab.run_cell(page, 2)  # the next ones run
    page.get_by_text("8 are ok, 0 cached").wait_for(timeout=10_000)

    server.script = lambda marker, attempt: Reply()
    before = len(server.requests)
    lab.run_cell(page, 1)  # the same cell again pays only for what is missing
    page.get_by_text(re.compile(r"Done in")).wait_for(timeout=15_000)
    lab.run_cell(page, 2)
    page.get_by_text("40 are ok, 8 cached").wait_for(timeout=10_000)
    assert len(server.requests) - before == 32


def test_what_stays_is_static_html_in_the_saved_file_and_in_the_reopened_page(
    lab: Lab, page: Any, server: ScriptedServer
) -> None:
    server.gate = threading.Event()
    server.script = lambda marker, attempt: (
        Reply("status", code=400, message="<script>alert(1)</script>") if marker == 5 else Reply()
    )
    path = lab.write(
        "saved.ipynb",
        SETUP.format(url=server.url, rows=40),
        "df = pn.run_parallel(predict, reviews, max_workers=4, max_failures=3)",
        "print(len(df))",
    )
    lab.open(page, "saved.ipynb")
    lab.run_all(page)
    page.get_by_text("Running: 0 of 40 rows").wait_for(timeout=60_000)  # live, while it runs
    server.gate.set()
    lab.wait_idle(page)
    page.get_by_text("Done in").wait_for()
    assert page.locator(".jupyter-widgets").count() == 0

    saved = lab.save(page, path)
    text = json.dumps(saved)
    assert "widget-view" not in text
    assert "widget-state" not in text
    outputs = saved["cells"][1]["outputs"]
    assert [list(output["data"]) for output in outputs] == [["text/html", "text/plain"]]
    assert "<script" not in "".join(outputs[0]["data"]["text/html"])
    assert len(json.dumps(outputs)) < 20_000

    lab.open(page, "saved.ipynb")
    page.get_by_text("Done in").wait_for()
    assert page.get_by_text("1 × BadRequestError").count() == 1
    assert page.get_by_role("img", name="Latency histogram of 39 calls").is_visible()
    assert page.get_by_text("max_workers 4").count() == 1
    assert page.get_by_text("Error displaying widget").count() == 0

    # as a notebook from somebody else, which Lab does not trust and strips
    saved["cells"].append(saved["cells"][0] | {"id": "more", "outputs": []})
    (lab.folder / "foreign.ipynb").write_text(json.dumps(saved))
    lab.open(page, "foreign.ipynb")
    page.get_by_text("1 × BadRequestError").wait_for()
    picture = page.get_by_role("img", name="Latency histogram of 39 calls")
    assert picture.evaluate("img => img.complete && img.naturalWidth > 0")
    assert page.locator(".jp-OutputArea-output svg").count() == 0


@pytest.mark.parametrize("waits", ["blocking", "background"])
def test_a_group_of_errors_opens_to_a_story_and_its_rows_are_asked_again(
    lab: Lab, page: Any, server: ScriptedServer, waits: str
) -> None:
    """What one has opened stays open while the figures move; the end has the new answers."""
    server.delay_s = 0.1
    server.script = lambda marker, attempt: (
        Reply("status", code=400, message="too <b>long</b>")
        if marker % 7 == 3 and attempt == 1
        else Reply()
    )
    call = CALLS[waits].replace("max_workers=4", "max_workers=4, max_failures=None")
    name = f"again-{waits}.ipynb"
    count = "((run.result() if 'run' in dir() else df)['status'] == 'ok').sum()"
    lab.write(name, SETUP.format(url=server.url, rows=120), call, f"print({count}, 'are ok')")
    lab.open(page, name)
    for cell in (0, 1):
        lab.run_cell(page, cell)
    page.get_by_text(re.compile(r"[1-9] × BadRequestError")).wait_for(timeout=60_000)
    page.locator("summary").filter(has_text="BadRequestError, e.g. row 3: HTTP 400").click()
    page.get_by_text("row 3", exact=True).click()
    story = page.get_by_text("[sent: user] review: row-3 <b>bold</b>")
    story.wait_for()
    page.get_by_role("button", name="Retry these").click()
    page.get_by_role("button", name="Asked again at the end").wait_for()
    page.get_by_text(re.compile(r"1\d × BadRequestError")).wait_for()
    assert story.is_visible()
    page.get_by_text(re.compile("^Asking failed rows again")).wait_for()
    page.get_by_text(re.compile("^Done in")).wait_for()
    lab.run_cell(page, 2)
    page.get_by_text("120 are ok").wait_for(timeout=30_000)
    assert len(server.requests) == 120 + 17


def test_a_page_that_is_loaded_anew_says_how_to_get_the_run_back(
    lab: Lab, page: Any, server: ScriptedServer
) -> None:
    """The file was saved while the panel lived, and the kernel is busy with the cell."""
    server.delay_s = 0.1
    server.gate = threading.Event()
    server.gate.set()
    cells = SETUP.format(url=server.url, rows=400), CALLS["blocking"], "pn.last_run()"
    path = lab.write("lost.ipynb", *cells)
    lab.open(page, "lost.ipynb")
    for cell in (0, 1):
        lab.run_cell(page, cell)
    page.get_by_text(re.compile(r"Running: [1-9]\d* of 400 rows")).wait_for(timeout=60_000)
    page.get_by_text("loaded anew").wait_for(state="attached")
    assert not page.get_by_text("loaded anew").is_visible(), "the panel is there"
    server.gate.clear()  # the run lasts until the page was loaded anew
    lab.save(page, path)
    eventually(lambda: "rows were through" in path.read_text(), "the file is written")
    page.reload()
    page.get_by_text(re.compile(r"\d+ of 400 rows were through.*loaded anew")).wait_for()
    server.gate.set()
    eventually(lambda: len(server.requests) == 400, "the run goes on")
    for _ in range(2):  # "Loading widget…" at first, "model not found" once the kernel is idle
        lab.wait_kernel_idle(page)
        assert page.get_by_text(re.compile("widget")).filter(visible=True).count() == 0
        page.wait_for_timeout(1000)
    lab.run_cell(page, 2)
    page.get_by_text(re.compile("^Done in")).wait_for()
    saved = lab.save(page, path)
    assert "rows were through" in str(saved["cells"][1]["outputs"]), "it stays until the cell runs"


def test_two_background_runs_keep_to_their_own_panels(
    lab: Lab, page: Any, server: ScriptedServer
) -> None:
    """And a handle shows its panel again where it is the cell's value."""
    server.gate = threading.Event()
    lab.write(
        "two.ipynb",
        SETUP.format(url=server.url, rows=30),
        "a = pn.start_parallel(predict, reviews, max_workers=2, store=None)",
        "b = pn.start_parallel(predict, reviews[:20], max_workers=2, store=None)",
        "a",
        "print(len(a.df), a.metrics.total)",
        "a.result(), b.result(); b",
    )
    lab.open(page, "two.ipynb")
    for cell in range(5):  # each returns at once
        lab.run_cell(page, cell)
    page.get_by_text("0 30").wait_for()
    page.locator(".pardspy-panel").nth(2).wait_for()
    titles = page.get_by_text(re.compile(r"^Running: 0 of \d+ rows"))
    titles.nth(2).wait_for()
    assert [title.split()[3] for title in titles.all_inner_texts()] == ["30", "20", "30"]
    server.gate.set()
    lab.run_cell(page, 5)
    page.get_by_text("Done in").nth(3).wait_for()
    assert page.locator(".pardspy-panel").count() == 0
    rows = [page.locator(".jp-CodeCell").nth(i).inner_text() for i in (1, 2, 3)]
    assert [bool(re.search(r"\brows\s+30\b", text)) for text in rows] == [True, False, True]


def test_the_keyboard_reaches_the_buttons(lab: Lab, page: Any, server: ScriptedServer) -> None:
    server.gate = threading.Event()
    lab.write("keys.ipynb", SETUP.format(url=server.url, rows=30), CALLS["blocking"])
    lab.open(page, "keys.ipynb")
    lab.run_all(page)
    page.get_by_role("button", name="Pause").focus()
    page.keyboard.press("Space")
    page.get_by_text(re.compile("^Paused")).wait_for()
    for _ in range(3):  # past fewer and more; the next is off until there is a latency
        page.keyboard.press("Tab")
    assert "Cancel" in page.evaluate("() => document.activeElement.textContent")
    page.keyboard.press("Space")
    page.get_by_text("Stopped before the end: 0 of 30 rows").wait_for()
    server.gate.set()


def test_the_panel_fits_520_pixels(lab: Lab, page: Any, server: ScriptedServer) -> None:
    server.gate = threading.Event()
    long = "an error message without end " * 20 + "x" * 300
    server.script = lambda marker, attempt: (
        Reply("status", code=400, message=long) if marker == 0 else Reply("stall")
    )
    lab.write(
        "narrow.ipynb",
        SETUP.format(url=server.url, rows=1234),
        "run = pn.start_parallel(predict, reviews, max_failures=None)",
    )
    page.set_viewport_size({"width": 520, "height": 900})
    lab.open(page, "narrow.ipynb")
    lab.run_all(page)
    page.get_by_text(re.compile(r"^Running")).wait_for()
    server.gate.set()
    page.get_by_text("1 × BadRequestError").wait_for()
    wide = page.locator(".pardspy-panel").evaluate(
        "panel => [panel, ...panel.querySelectorAll('*')]"
        ".filter(e => e.getBoundingClientRect().right > window.innerWidth).map(e => e.className)"
    )
    assert wide == []
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text("Stopped before the end").first.wait_for()


def test_a_jobs_view_follows_the_provider_and_ends_as_html(
    lab: Lab, page: Any, store_path: Path
) -> None:
    """It shows how things stand by itself, cancels at a click, and a saved file keeps the end."""
    provider = BatchServer()
    provider.start()
    try:
        setup = SETUP.format(url=provider.url, rows=8).replace("pn\nlm", f"pn\n{SOON}\nlm")
        name = "job.ipynb"
        submit = f"job = pn.submit_batch(predict, reviews, store={str(store_path)!r})"
        path = lab.write(name, setup, submit, "job")
        lab.open(page, name)
        lab.run_all(page)
        page.get_by_text(re.compile("The provider looks at the requests")).first.wait_for()
        provider.advance()
        provider.advance(answers=3)
        page.get_by_text(re.compile(r"The provider is at it: 3 of 8 requests")).first.wait_for()
        page.get_by_role("button", name="Cancel").click()
        eventually(lambda: provider.batches["batch_0"]["status"] == "cancelling", "it is told")
        provider.advance()
        page.get_by_text(re.compile(r"Cancelled: 3 of 8 requests answered")).first.wait_for()
        assert page.get_by_role("button", name="Cancel").count() == 0
        lab.wait_idle(page)
        saved = lab.save(page, path)
    finally:
        provider.stop()
    assert "Cancelled: 3 of 8 requests answered" in json.dumps(saved)
    assert "widget-view" not in json.dumps(saved)


SOON = "import pardspy_nb.runs.batch_api.job as later; later._POLL_S = 0.2"


def test_buttons_steer_a_run_on_a_cluster(lab: Lab, page: Any, server: ScriptedServer) -> None:
    """The same panel: Pause and Cancel reach the worker processes."""
    server.delay_s = 0.15
    cluster = """
from dask.distributed import Client, LocalCluster
client = Client(LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address="127.0.0.1:0"))
"""
    call = "df = pn.run_parallel(predict, reviews, max_workers=4, executor=client)"
    lab.write("cluster.ipynb", SETUP.format(url=server.url, rows=2000) + cluster, call)
    lab.open(page, "cluster.ipynb")
    lab.run_all(page)
    page.get_by_text(re.compile(r"Running: \d+ of 2,000 rows")).wait_for(timeout=40_000)
    eventually(lambda: len(server.requests) > 12, "rows are sent", 20)
    page.get_by_role("button", name="Pause").click()
    page.get_by_text(re.compile("^Paused")).wait_for()
    eventually(lambda: server.in_flight == 0, "rows in flight finish")
    assert stays(lambda: len(server.requests), 0.6), "a row started during the pause"
    assert server.max_in_flight == 4
    page.get_by_role("button", name="Resume").click()
    page.get_by_text(re.compile("^Running")).wait_for()
    page.get_by_role("button", name="Cancel").click()
    page.get_by_text(re.compile(r"Stopped before the end: \d+ of 2,000 rows")).first.wait_for()
    lab.wait_idle(page)
    assert stays(lambda: len(server.requests), 0.4), "a row was sent after the end"


def test_clicks_and_keys_decide_the_rows_of_a_review(
    lab: Lab, page: Any, server: ScriptedServer, tmp_path: Path
) -> None:
    store = tmp_path / "answers.sqlite"
    kept = tmp_path / "answers.sqlite.reviews.jsonl"
    lab.write("review.ipynb", REVIEW.format(url=server.url, store=str(store)))
    lab.open(page, "review.ipynb")
    lab.run_all(page)
    panel = page.locator(".pardspy-review")
    panel.get_by_text("0 of 4 decided").wait_for(timeout=60_000)

    def decided() -> list[str]:
        lines = kept.read_text().splitlines() if kept.exists() else []
        return [json.loads(line)["value"] for line in lines]

    assert "<b>bold</b>" in panel.inner_text(), "markup of a row is text"
    page.get_by_role("button", name="negative").click()
    eventually(lambda: decided() == ["negative"], "the click is on the disk")
    panel.get_by_text("1 of 4 decided").wait_for()
    # the focus stays on the button, so a key decides the next row alike
    page.keyboard.press("Enter")
    eventually(lambda: decided() == ["negative"] * 2, "the key decides")
    page.keyboard.press("Shift+Tab")  # to the label before it
    page.keyboard.press("Enter")
    eventually(lambda: decided() == ["negative", "negative", "neutral"], "another label")
    page.get_by_role("button", name="Back").click()
    panel.get_by_text("decided", exact=True).wait_for()
    page.get_by_role("button", name="positive").click()
    eventually(lambda: decided()[-1:] == ["positive"], "a decision can be changed")
    panel.get_by_text("3 of 4 decided").wait_for()
