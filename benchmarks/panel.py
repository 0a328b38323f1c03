"""What watching costs: CPU of the kernel and of the page, with the panel and without.

    python benchmarks/panel.py [ROUNDS]

10,000 rows at 500 rows a second in a real JupyterLab in Chromium, interleaved, medians of the
rounds. The kernel's time is its process's, the page's is the time in tasks of its main thread
(Chromium's own figure), which is where a page becomes slow. Figures are shares of one core.
"""

from __future__ import annotations

import re
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from playwright.sync_api import sync_playwright
from support.chromium import CHROMIUM, FLAGS
from support.jupyterlab import Lab

CELL = """
import asyncio, time
import pardspy_nb as pn

async def row(i):
    await asyncio.sleep(0.1)
    if i % 100 == 7:
        raise ValueError("a row fails")
    return {{"label": "abc"[i % 3]}}

cpu, began = time.process_time(), time.perf_counter()
df = pn.run_parallel(row, {{"i": range(10_000)}}, max_workers=50, max_failures=None, store=None,
                     progress={progress!r})
took = time.perf_counter() - began
print(f"measured {{time.process_time() - cpu:.3f}} {{took:.3f}} {{(df.status == 'ok').sum()}}")
"""


class Measured(NamedTuple):
    kernel: float
    page: float
    rows_per_s: float


def page_s(session: Any) -> float:
    metrics = session.send("Performance.getMetrics")["metrics"]
    return float(next(m["value"] for m in metrics if m["name"] == "TaskDuration"))


def measure(lab: Lab, browser: Any, progress: str) -> Measured:
    lab.write("run.ipynb", CELL.format(progress=progress))
    page = browser.new_page(viewport={"width": 1100, "height": 1000})
    try:
        lab.open(page, "run.ipynb")
        session = page.context.new_cdp_session(page)
        session.send("Performance.enable")
        page.wait_for_timeout(3000)  # the page's own start is over
        before = page_s(session)
        lab.run_all(page)
        said = page.get_by_text(re.compile(r"measured [\d.]+ [\d.]+ \d+"))
        said.wait_for(timeout=120_000)
        busy = page_s(session) - before
        kernel, took, ok = map(float, said.inner_text().split()[1:4])
        assert ok == 9_900, "the rows were not answered"
        return Measured(kernel / took, busy / took, 10_000 / took)
    finally:
        page.close()


def main(rounds: int) -> None:
    lab = Lab(Path(tempfile.mkdtemp()))
    found: dict[str, list[Measured]] = {"none": [], "widget": []}
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=FLAGS)
            for _ in range(rounds):
                for progress, runs in found.items():
                    runs.append(measure(lab, browser, progress))
            browser.close()
    finally:
        lab.stop()
    print("| progress | kernel, of a core | page, of a core | rows/s |")
    print("|---|---:|---:|---:|")
    for progress, runs in found.items():
        kernel, page, rate = (statistics.median(run[i] for run in runs) for i in range(3))
        print(f"| {progress} | {kernel:.1%} | {page:.1%} | {rate:.0f} |")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
