"""The public door, the direction of imports, and what importing costs."""

from __future__ import annotations

import ast
import functools
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pardspy_nb as pn

PACKAGE = Path(pn.__file__).parent

# each package may import those named here, and nothing else of the house
ALLOWED: dict[str, set[str]] = {
    "core": set(),
    "signatures": {"core"},
    "llm": {"core"},
    "engine": {"core"},
    "modules": {"core", "signatures", "llm"},
    "tables": {"core", "signatures"},
    "store": {"core", "modules"},
    "display": {"core", "tables"},
    "executors": {"core", "engine", "llm", "modules", "tables", "store"},
    "runs": {"core", "engine", "llm", "modules", "tables", "store", "display", "executors"},
    "analysis": {"core", "tables", "store", "display", "runs"},
}

# who may import these libraries, wherever in the file
ONLY = {
    "openai": {"llm.endpoint"},
    "pandas": {
        "tables.arrow",
        "tables.column_types",
        "tables.excel",
        "tables.explode",
        "tables.frame",
        "tables.ground_truth",
        "tables.merge",
        "tables.readers",
        "tables.text_files",
        "analysis.diff",
        "analysis.plots",
        "analysis.drawing",
        "analysis.grouping",
        "analysis.accessor",
        "analysis.vote",
        "analysis.evaluate",
        "analysis.compare",
        "analysis.agreement",
        "analysis.corrected",
        "analysis.picks",
        "analysis.review",
        "analysis.review_frame",
        "analysis.shares",
        "tables.export",
    },
    "dspy": {"modules.integrations.dspy"},
    "langchain_core": {"modules.integrations.langchain"},
    "sklearn": {"analysis.evaluate"},
    "scipy": {"analysis.compare"},
    "xllamacpp": {"llm.local.server_process"},
    "marimo": {
        "display.marimo_panel",
        "display.marimo_view",
        "display.marimo_review",
        "display.job_panel",
    },
    "ipywidgets": {"display.panel", "display.job_panel", "display.review_panel"},
    "sqlite3": {"store.sqlite"},
    "tqdm": {"display.bar"},
    "json_repair": {"signatures.lenient_json"},
    "pyarrow": {
        "executors.cluster.partitions",
        "runs.collectors.partitions",
        "runs.to_parquet",
        "tables.export",
        "tables.arrow",
        "tables.chunks",
        "tables.column_types",
        "tables.parquet",
        "tables.readers",
        "store.answers_file",
    },
    "cloudpickle": {"executors.cluster.messages", "runs.batch_api.job_folder"},
    "distributed": {
        "executors.cluster.dask_link",
        "executors.cluster.worker_tasks",
        "executors.cluster.partitions",
        "runs.collectors.partitions",
    },
    "dask": {"executors.cluster.partitions"},
    "polars": {"tables.export"},
    "matplotlib": {"analysis.drawing", "analysis.plots", "analysis.plot_text"},
    "genai_prices": {"llm.prices"},
}


@functools.cache
def modules() -> dict[str, Path]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if parts:
            found[".".join(parts)] = path
    return found


@functools.cache
def imports(name: str, path: Path) -> tuple[set[str], set[str]]:
    """(modules of the package, top-level libraries) that a file imports."""
    package = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    ours, theirs = set(), set()
    known = modules()
    tree = ast.parse(path.read_text())
    typing_only = {  # nothing is loaded for these
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING"
        for inner in ast.walk(node)
    }
    for node in ast.walk(tree):
        if id(node) in typing_only:
            continue
        if isinstance(node, ast.Import):
            theirs |= {alias.name.split(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.level:
            base = package[: len(package) - node.level + 1] + (node.module or "").split(".")
            base = [part for part in base if part]
            for alias in node.names:
                deeper = ".".join([*base, alias.name])
                ours.add(deeper if deeper in known else ".".join(base))
        elif isinstance(node, ast.ImportFrom):
            theirs.add((node.module or "").split(".")[0])
    return ours - {name}, theirs


def forbidden(found: dict[str, set[str]]) -> list[str]:
    """The imports among these that the table does not allow."""
    return [
        f"{name} imports {other}"
        for name, others in found.items()
        if (mine := name.partition(".")[0]) in ALLOWED
        for other in others
        if (theirs := other.partition(".")[0]) != mine and theirs not in ALLOWED[mine]
    ]


def test_packages_import_one_way() -> None:
    """The table above is the architecture: no file of a package imports from another package
    than those in the package's line, and every file is in a package."""
    found = {name: imports(name, path)[0] for name, path in modules().items()}
    assert {name.partition(".")[0] for name in found} == {*ALLOWED, "testing"}
    assert forbidden(found) == []


def test_a_forbidden_import_is_found() -> None:
    assert forbidden({"engine.budget": {"core.usage", "llm.lm"}}) == [
        "engine.budget imports llm.lm"
    ]


def test_no_file_is_too_long_to_read_at_once() -> None:
    lengths = {name: len(path.read_text().splitlines()) for name, path in modules().items()}
    assert {name: n for name, n in lengths.items() if n > 400} == {}


def test_no_circle_of_files() -> None:
    from graphlib import TopologicalSorter

    graph = {name: imports(name, path)[0] for name, path in modules().items()}
    list(TopologicalSorter(graph).static_order())


@pytest.mark.parametrize("library", ONLY)
def test_one_room_per_library(library: str) -> None:
    users = {name for name, path in modules().items() if library in imports(name, path)[1]}
    assert users <= ONLY[library]


def test_the_public_names_are_sorted_and_exist() -> None:
    assert pn.__all__ == sorted(pn.__all__, key=lambda n: (not n.isupper(), n[0].islower(), n))
    assert all(hasattr(pn, name) for name in pn.__all__)


@pytest.mark.slow
def test_the_door_shows_the_public_names_and_nothing_else() -> None:
    """`dir(pn)`, and with it a notebook's completion of `pn.`."""
    from IPython.core.completer import provisionalcompleter
    from IPython.core.interactiveshell import InteractiveShell

    assert dir(pn) == sorted(pn.__all__)
    shell = InteractiveShell()
    shell.user_ns["pn"] = pn
    with provisionalcompleter():
        shown = {completion.text for completion in shell.Completer.completions("pn.", 3)}
    assert shown == set(pn.__all__)


def test_importing_loads_nothing_heavy() -> None:
    heavy = [
        "openai",
        "matplotlib",
        "ipywidgets",
        "xllamacpp",
        "tqdm",
        "genai_prices",
        "IPython",
        "pydantic",
    ]
    program = (
        f"import json, sys, pardspy_nb;print(json.dumps([m for m in {heavy} if m in sys.modules]))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == []


@pytest.mark.slow
def test_importing_costs_little_more_than_pandas(tmp_path: Path) -> None:
    """At most 1.3 times the CPU of `import pandas`: the best of each, until it shows. Both are
    compiled, as `pip install` leaves a package."""
    env = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}
    env["PYTHONPYCACHEPREFIX"] = str(tmp_path)

    def cpu_s(module: str) -> float:
        program = f"import time; import {module}; print(time.process_time())"
        done = subprocess.run(
            [sys.executable, "-c", program], capture_output=True, check=True, env=env
        )
        return float(done.stdout)

    cpu_s("pardspy_nb")  # compiles

    ours, pandas = cpu_s("pardspy_nb"), cpu_s("pandas")
    for _ in range(20):
        if ours <= 1.3 * pandas:
            return
        ours, pandas = min(ours, cpu_s("pardspy_nb")), min(pandas, cpu_s("pandas"))
    pytest.fail(f"import pardspy_nb takes {ours / pandas:.2f} times import pandas")
