"""What a real kernel sends to its page, and how it ends; no browser needed."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
import pytest
from jupyter_client.manager import KernelManager
from nbclient import NotebookClient
from nbconvert import HTMLExporter
from support.scripted_server import ScriptedServer

PANEL = "application/vnd.jupyter.widget-view+json"


class Kernel:
    """A kernel and all that it sends to the page."""

    def __init__(self, log: Path) -> None:
        self.manager = KernelManager(kernel_name="python3")
        self.log = log.open("w")
        self.manager.start_kernel(stderr=self.log)
        self.client = self.manager.client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=60)

    def run(self, code: str) -> list[dict[str, Any]]:
        """The messages of one cell, its last included."""
        sent: list[dict[str, Any]] = []
        reply = self.client.execute_interactive(code, timeout=60, output_hook=sent.append)
        assert reply["content"]["status"] == "ok", reply["content"].get("traceback")
        return sent

    def later(self, seconds: float) -> list[dict[str, Any]]:
        """What comes without a cell."""
        sent, until = [], time.monotonic() + seconds
        while (left := until - time.monotonic()) > 0:
            try:
                sent.append(self.client.get_iopub_msg(timeout=left))
            except Exception:  # queue.Empty: nothing more
                break
        return sent

    def stop(self) -> None:
        self.client.stop_channels()
        if self.manager.is_alive():
            self.manager.shutdown_kernel(now=True)
        self.log.close()


@pytest.fixture
def kernel(tmp_path: Path) -> Iterator[Kernel]:
    running = Kernel(tmp_path / "kernel.log")
    yield running
    running.stop()


def of_type(sent: list[dict[str, Any]], kind: str) -> list[dict[str, Any]]:
    return [m["content"] for m in sent if m["msg_type"] == kind]


def text_of(sent: list[dict[str, Any]]) -> str:
    return "".join(content["text"] for content in of_type(sent, "stream"))


FAST = """
import pardspy_nb as pn, time
async def nothing(i): return i
begin = time.perf_counter()
df = pn.run_parallel(nothing, list(range({rows})), max_workers=64)
took = time.perf_counter() - begin
"""


def test_the_page_gets_a_fixed_rate_of_messages_however_many_rows_finish(kernel: Kernel) -> None:
    few = kernel.run(FAST.format(rows=10))
    sent = kernel.run(FAST.format(rows=60_000))
    seconds = float(text_of(kernel.run("print(took)")))
    # each repaint may change both texts and a few button states
    assert len(sent) <= len(few) + 3 * (5 * seconds + 2)
    updates = of_type(sent, "update_display_data")
    final = [m for m in updates if "Done in" in m["data"]["text/html"]]
    assert len(final) == 1, "the final state was not delivered"
    assert "60,000" in final[0]["data"]["text/html"]


def test_a_panel_leaves_no_widget_behind(kernel: Kernel) -> None:
    count = "import ipywidgets.widgets.widget as w; print(len(w._instances))"
    kernel.run(FAST.format(rows=10))
    before = text_of(kernel.run(count))
    for _ in range(3):
        kernel.run(FAST.format(rows=10))
    assert text_of(kernel.run(count)) == before == "0\n"


def test_without_ipywidgets_there_is_a_text_bar_and_no_warning(kernel: Kernel) -> None:
    kernel.run("import sys; sys.modules['ipywidgets'] = None")
    sent = kernel.run(FAST.format(rows=12))
    assert "12/12" in text_of(sent)
    assert "arning" not in text_of(sent)
    assert not [m for m in of_type(sent, "display_data") if PANEL in m["data"]]


def test_a_broken_ipywidgets_costs_the_panel_and_not_the_run(kernel: Kernel) -> None:
    kernel.run("import ipywidgets; ipywidgets.VBox = None")
    sent = kernel.run(FAST.format(rows=12) + "print(len(df), 'rows')")
    assert "the run goes on" in text_of(sent)
    assert "12 rows" in text_of(sent)


def test_a_background_run_returns_at_once_and_ends_as_html(kernel: Kernel) -> None:
    kernel.run("import pardspy_nb as pn, asyncio\nasync def nap(i): await asyncio.sleep(0.3)")
    sent = kernel.run("run = pn.start_parallel(nap, [1, 2, 3]); print(run.done)")
    assert text_of(sent) == "False\n"
    assert [m for m in of_type(sent, "display_data") if PANEL in m["data"]]
    final = of_type([*sent, *kernel.later(3)], "update_display_data")
    assert "Done in" in final[0]["data"]["text/html"]
    again = kernel.run("run = pn.start_parallel(nap, [1, 2, 3])\nrun")
    panels = [m for m in of_type(again, "display_data") if PANEL in m["data"]]
    assert len(panels) == 1, "one cell, one panel"
    kernel.later(2)
    shown = kernel.run("run")  # a handle of a finished run shows the same
    assert "Done in" in of_type(shown, "display_data")[0]["data"]["text/html"]


def test_a_run_left_alone_at_kernel_exit_ends_cleanly(kernel: Kernel) -> None:
    kernel.run("import pardspy_nb as pn, asyncio\nasync def nap(i): await asyncio.sleep(0.2)")
    kernel.run("run = pn.start_parallel(nap, range(10_000), max_workers=4)")
    kernel.client.shutdown()
    until = time.monotonic() + 8
    while kernel.manager.is_alive():
        assert time.monotonic() < until, "the kernel did not end"
        time.sleep(0.05)
    kernel.log.flush()
    assert "Traceback" not in Path(kernel.log.name).read_text()


LEFT_ALONE = """
import asyncio, time
import pardspy_nb as pn
lm = pn.LM("m", base_url={url!r})
predict = pn.Predict(pn.Signature("x").add_input("review").add_output("reason"), lm)
run = pn.start_parallel(predict, [f"row-{{i}}" for i in range(10_000)], max_workers=4)
while run.metrics.successes < 8:
    time.sleep(0.02)
"""


def test_a_run_left_alone_at_the_end_of_a_script_is_cancelled_and_says_so(
    server: ScriptedServer,
) -> None:
    server.delay_s = 0.05
    program = LEFT_ALONE.format(url=server.url)
    begin = time.monotonic()
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert time.monotonic() - begin < 15
    assert done.returncode == 0
    assert "Traceback" not in done.stderr
    assert "Stopped before the end: " in done.stderr
    until = time.monotonic() + 10
    while server.in_flight:  # the server has yet to notice that the connections are gone
        assert time.monotonic() < until
        time.sleep(0.01)
    assert len(server.requests) < 1000


def test_a_notebook_run_headless_keeps_a_summary_that_nbconvert_shows(
    server: ScriptedServer, tmp_path: Path
) -> None:
    cells = [
        "import pardspy_nb as pn",
        "signature = pn.Signature('x').add_input('review')"
        ".add_class_output('sentiment', ['positive', 'neutral', 'negative'])",
        f"predict = pn.Predict(signature, pn.LM('m', base_url={server.url!r}))",
        "df = pn.run_parallel(predict, [f'row-{i}' for i in range(9)])",
    ]
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(c) for c in cells])
    NotebookClient(notebook, kernel_name="python3", store_widget_state=False).execute()
    outputs = notebook.cells[-1].outputs
    assert [list(output.data) for output in outputs] == [["text/plain", "text/html"]]
    assert len(str(notebook)) < 20_000
    html, _ = HTMLExporter().from_notebook_node(notebook)
    assert "Done in" in html
    assert 'alt="Latency histogram of 9 calls' in html
    assert PANEL not in html
