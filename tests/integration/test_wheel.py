"""What others install: the wheel, in an empty environment, without the extras."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

PROGRAM = """
import pardspy_nb as pn
df = pn.run_parallel(lambda x: {"y": x + 1}, [1, 2, 3], progress="tqdm")
assert list(df["y"]) == [2, 3, 4], df
assert "site-packages" in pn.__file__, pn.__file__
try:
    pn.Predict("text -> label")(text="x")
except pn.LocalModelError as error:
    assert "pardspy_nb[local]" in str(error)
else:
    raise AssertionError("a model answered without a runtime")
"""


def test_the_wheel_works_in_an_empty_environment(tmp_path: Path) -> None:
    root = Path(__file__).parents[2]
    run = {"check": True, "cwd": tmp_path, "capture_output": True, "text": True}
    subprocess.run(
        [sys.executable, "-m", "build", "--wheel", "--outdir", str(tmp_path), str(root)], **run
    )
    wheel = next(tmp_path.glob("*.whl"))
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "v")], **run)
    python = str(tmp_path / "v" / "bin" / "python")
    install = [
        python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-compile",
        "--disable-pip-version-check",
    ]
    subprocess.run([*install, "-c", str(root / "constraints.txt"), str(wheel)], **run)
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("OPENAI", "PARDSPY"))}
    done = subprocess.run(
        [python, "-c", PROGRAM], cwd=tmp_path, env=clean, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
