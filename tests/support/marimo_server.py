"""Drives a real marimo in headless Chromium."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
import time
import urllib.request
from pathlib import Path
from typing import Any

from .programs import free_port


class Marimo:
    """A marimo server over one notebook; `open` gives a page with it, `run_all` runs its cells."""

    def __init__(self, folder: Path, *cells: str) -> None:
        indented = [textwrap.indent(textwrap.dedent(cell).strip(), "    ") for cell in cells]
        body = "\n\n".join(f"@app.cell\ndef _():\n{cell}\n    return" for cell in indented)
        notebook = folder / "notebook.py"
        notebook.write_text(f"import marimo\napp = marimo.App()\n\n{body}\n")
        self.port = free_port()
        self.log = folder / "log.txt"
        environment = os.environ | {
            "PARDSPY_STORE": str(folder / "answers.sqlite"),
            "XDG_CONFIG_HOME": str(folder),
            "XDG_CACHE_HOME": str(folder),
        }
        command = [sys.executable, "-m", "marimo", "edit", str(notebook), "--headless"]
        command += ["--no-token", "--host", "127.0.0.1", "--port", str(self.port)]
        with self.log.open("w") as log:
            self._process = subprocess.Popen(
                command, cwd=folder, env=environment, stdout=log, stderr=log, text=True
            )
        until = time.monotonic() + 90
        while True:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/health", timeout=2):
                    return
            except OSError:
                if self._process.poll() is not None or time.monotonic() > until:
                    raise AssertionError(self.log.read_text()) from None
                time.sleep(0.2)

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(20)

    def open(self, page: Any) -> None:
        page.goto(f"http://127.0.0.1:{self.port}/")
        page.get_by_test_id("run-button").last.wait_for(timeout=60_000)

    def run_all(self, page: Any) -> None:
        """Until the page has its kernel, clicks are lost."""
        until = time.monotonic() + 60
        has_not_run = page.locator('[data-testid="cell-status"][data-status="outdated"]')
        has_not_run.first.wait_for(state="attached", timeout=60_000)
        while has_not_run.count():
            assert time.monotonic() < until, "the page got no kernel"
            page.get_by_test_id("run-button").last.click()
            page.wait_for_timeout(1000)
