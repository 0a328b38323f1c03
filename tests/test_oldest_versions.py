"""The lower bounds in pyproject.toml are the versions that the oldest environment has."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]
TESTED_EXTRAS = ("local", "evaluate", "excel", "dask")


def test_each_lower_bound_is_tested() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    needed = list(project["dependencies"])
    for extra in TESTED_EXTRAS:
        needed += project["optional-dependencies"][extra]
    lines = (ROOT / "constraints-oldest.txt").read_text().splitlines()
    pins = {_plain(name): version for name, _, version in (line.partition("==") for line in lines)}
    bounds = {m[1]: m[2] for text in needed if (m := re.match(r"([\w-]+).*?>=([\d.]+)", text))}
    assert len(bounds) == len(needed) - 1, "all but pip have a lower bound"
    newer = {
        name: (bound, pins[_plain(name)])
        for name, bound in bounds.items()
        if not f"{pins[_plain(name)]}.".startswith(f"{bound}.")
    }
    assert newer == {}


def _plain(name: str) -> str:
    return name.lower().replace("_", "-")
