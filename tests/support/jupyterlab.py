"""Drives a real JupyterLab, or Notebook 7, in headless Chromium."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import nbformat


class Lab:
    """A JupyterLab server over one folder; `open` gives a page with a notebook in it."""

    application, address = "jupyterlab", "doc/tree/{}"

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        token = secrets.token_hex(8)
        config = folder / "config"
        quiet = config / "s" / "@jupyterlab" / "apputils-extension"
        quiet.mkdir(parents=True)
        (quiet / "notification.jupyterlab-settings").write_text(
            '{"fetchNews": "false", "checkForUpdates": false}'
        )
        environment = os.environ | {
            "JUPYTER_CONFIG_DIR": str(config),
            "JUPYTER_DATA_DIR": str(folder / "data"),
            "JUPYTERLAB_SETTINGS_DIR": str(config / "s"),
            "IPYTHONDIR": str(folder / "ipython"),
            "JUPYTERLAB_WORKSPACES_DIR": str(config / "w"),
            "PARDSPY_STORE": str(folder / "answers.sqlite"),
        }
        self._process = subprocess.Popen(
            [
                sys.executable,
                "-m",
                self.application,
                "--no-browser",
                "--ip=127.0.0.1",
                "--port=0",
                "--allow-root",
                "--expose-app-in-browser",
                f"--IdentityProvider.token={token}",
                f"--ServerApp.root_dir={folder}",
            ],
            stderr=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert self._process.stderr is not None
        for line in self._process.stderr:
            if found := re.search(r"http://127\.0\.0\.1:(\d+)/", line):
                place = f"http://127.0.0.1:{found.group(1)}/{self.address}"
                self._url = f"{place}?token={token}&reset"
                break
        # keep reading, or the server would stop on a full pipe
        import threading

        threading.Thread(target=self._process.stderr.read, daemon=True).start()

    def add_kernel(self, ipykernel: str) -> str:
        """The name of a kernel like ours but for the version of ipykernel."""
        name = f"ipykernel-{ipykernel}"
        packages = self.folder / name
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "install",
                "--quiet",
                "--disable-pip-version-check",
                "--no-deps",
                "--target",
                str(packages),
                f"ipykernel=={ipykernel}",
            ],
            check=True,
        )
        spec = {
            "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
            "display_name": name,
            "language": "python",
            "env": {"PYTHONPATH": str(packages)},
        }
        folder = self.folder / "data" / "kernels" / name
        folder.mkdir(parents=True)
        (folder / "kernel.json").write_text(json.dumps(spec))
        return name

    def stop(self) -> None:
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:  # it was still starting
            self._process.kill()
            self._process.wait(20)

    def write(self, name: str, *cells: str, kernel: str = "python3") -> Path:
        notebook = nbformat.v4.new_notebook(
            cells=[nbformat.v4.new_code_cell(cell) for cell in cells],
            metadata={"kernelspec": {"name": kernel, "display_name": kernel}},
        )
        path = self.folder / name
        nbformat.write(notebook, path)
        return path

    def open(self, page: Any, name: str) -> None:
        until = time.monotonic() + 60
        while True:  # a server says its address before it listens
            try:
                page.goto(self._url.format(name))
                break
            except Exception as error:
                if "ERR_CONNECTION_REFUSED" not in str(error) or time.monotonic() > until:
                    raise
                page.wait_for_timeout(500)
        page.wait_for_selector(".jp-Notebook .jp-CodeCell", timeout=60_000)
        page.wait_for_function("window.jupyterapp !== undefined")
        page.wait_for_function(IDLE, timeout=30_000)

    def run_all(self, page: Any) -> None:
        page.evaluate("() => { window.jupyterapp.commands.execute('notebook:run-all-cells'); }")

    def run_cell(self, page: Any, number: int) -> None:
        page.evaluate(
            """number => { const app = window.jupyterapp;
            app.shell.currentWidget.content.activeCellIndex = number;
            app.commands.execute('notebook:run-cell'); }""",
            number,
        )

    def wait_kernel_idle(self, page: Any) -> None:
        page.wait_for_function(IDLE, timeout=10_000)

    def wait_idle(self, page: Any) -> None:
        page.wait_for_function(DONE, timeout=60_000)

    def save(self, page: Any, path: Path) -> dict[str, Any]:
        """Save, and return the file once it has its outputs."""
        page.evaluate("() => { window.jupyterapp.commands.execute('docmanager:save'); }")
        for _ in range(100):
            text = path.read_text()  # empty while the server writes it
            saved: dict[str, Any] = json.loads(text) if text.endswith("}\n") else {"cells": []}
            if any(cell["outputs"] for cell in saved["cells"]):
                return saved
            page.wait_for_timeout(100)
        raise AssertionError("the notebook was not saved within ten seconds")


class NotebookSeven(Lab):
    """A server of Notebook 7, whose page shows one notebook."""

    application, address = "notebook", "notebooks/{}"


IDLE = """() => {
  const w = window.jupyterapp.shell.currentWidget;
  return w && w.sessionContext && w.sessionContext.session
    && w.sessionContext.session.kernel && w.sessionContext.session.kernel.status === 'idle';
}"""
DONE = """() => {
  const w = window.jupyterapp.shell.currentWidget;
  const prompts = [...document.querySelectorAll('.jp-CodeCell .jp-InputPrompt')];
  return w.sessionContext.session.kernel.status === 'idle'
    && prompts.length > 0
    && prompts.every(p => /\\[\\d+\\]/.test(p.textContent));
}"""
