"""The public door, the direction of imports, and what importing costs."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import pardspy_nb as pn

PACKAGE = Path(pn.__file__).parent

# each module may import those named here and nothing else of the package
ALLOWED: dict[str, set[str]] = {
    "errors": set(),
    "usage": set(),
    "events": set(),
    "clock": set(),
    "testing": set(),
    "threads": set(),
    "prices": set(),
    "history": set(),
    "fields": set(),
    "policy": set(),
    "failures": set(),
    "kernel": set(),
    "interrupts": set(),
    "hooks": {"events"},
    "store.file": {"errors"},
    "store.outfile": set(),
    "store": {"store.file", "store.outfile"},
    "signature": {"fields"},
    "extraction": {"fields"},
    "answers": {"errors", "extraction", "signature"},
    "confidence": {"fields"},
    "image": set(),
    "forms": set(),
    "scout": {"events"},
    "direct": set(),
    "endpoint": {"direct", "errors"},
    "portal": {"endpoint"},
    "local.catalogue": set(),
    "local.weights": {"errors", "local.catalogue"},
    "local.child": set(),
    "local.server": {"errors", "local.catalogue", "local.weights"},
    "local": {"local.server"},
    "lm": {"endpoint", "errors", "forms", "local", "portal", "prices", "usage"},
    "metrics": {"usage"},
    "tally": {"events", "failures", "metrics", "usage"},
    "markup": {"failures", "interval", "metrics", "usage"},
    "prediction": {"metrics", "usage"},
    "predict": {
        "answers",
        "confidence",
        "errors",
        "events",
        "fields",
        "history",
        "image",
        "lm",
        "portal",
        "prediction",
        "signature",
        "usage",
    },
    "foreign": {"events", "fields", "prices", "usage"},
    "modules": {
        "errors",
        "events",
        "fields",
        "foreign",
        "history",
        "lm",
        "portal",
        "predict",
        "prediction",
        "signature",
        "threads",
        "usage",
    },
    "pairs": {"fields", "modules"},
    "program": {"fields", "modules", "prediction", "usage"},
    "sampling": {"errors", "events", "fields", "modules", "predict", "prediction", "usage"},
    "batch": {"events", "fields", "modules"},
    "interval": set(),
    "deciding": {"batch", "events", "fields", "options"},
    "truths": {"batch", "fields"},
    "lineup": {"events", "policy", "threads"},
    "overtime": {"lineup", "policy"},
    "limits": set(),
    "pace": {"events", "hooks", "limits", "policy"},
    "adapt": {"events", "policy"},
    "gates": {"events", "hooks"},
    "sparing": {"events", "hooks", "lineup"},
    "steering": set(),
    "engine": {
        "clock",
        "events",
        "gates",
        "hooks",
        "lineup",
        "overtime",
        "policy",
        "sparing",
        "steering",
    },
    "recipes": {"events", "modules", "predict"},
    "memory": {
        "errors",
        "events",
        "modules",
        "options",
        "provenance",
        "recipes",
        "store.file",
        "usage",
    },
    "budget": {"errors", "events", "hooks", "image", "lm", "modules"},
    "assembly": {
        "batch",
        "budget",
        "clock",
        "endpoint",
        "engine",
        "events",
        "hooks",
        "lm",
        "modules",
        "options",
        "pace",
        "policy",
        "scout",
    },
    "backend": {"adapt", "batch", "clock", "events", "hooks", "memory", "portal"},
    "cluster.wire": {"errors", "events", "limits", "lm", "usage"},
    "cluster.shares": set(),
    "cluster.admission": {"events"},
    "cluster.sources": {"events", "hooks", "lineup", "sparing"},
    "cluster.site": {
        "assembly",
        "clock",
        "cluster.admission",
        "cluster.wire",
        "endpoint",
        "engine",
        "events",
        "hooks",
        "limits",
        "lineup",
        "modules",
        "options",
        "policy",
    },
    "cluster.timers": set(),
    "cluster.member": {"cluster.sources", "cluster.wire", "lineup"},
    "cluster.losses": {"cluster.member", "cluster.sources", "errors", "lineup"},
    "cluster.entry": {
        "budget",
        "cluster.member",
        "cluster.wire",
        "events",
        "gates",
        "hooks",
        "limits",
        "lineup",
        "lm",
        "pace",
        "policy",
    },
    "cluster.fleet": {
        "clock",
        "cluster.entry",
        "cluster.losses",
        "cluster.member",
        "cluster.shares",
        "cluster.sources",
        "cluster.timers",
        "cluster.wire",
        "errors",
        "events",
        "hooks",
        "lineup",
        "policy",
        "steering",
    },
    "cluster.hosting": {
        "clock",
        "cluster.site",
        "cluster.wire",
        "events",
        "memory",
        "modules",
        "options",
        "portal",
        "provenance",
    },
    "cluster.dask": {"cluster.fleet", "cluster.hosting", "cluster.sources", "cluster.wire"},
    "cluster.sharded": {
        "batch",
        "cluster",
        "cluster.dask",
        "cluster.hosting",
        "cluster.sources",
        "cluster.wire",
        "events",
        "frame",
        "ledger",
        "memory",
        "modules",
        "options",
        "parts",
        "segments",
    },
    "cluster": {
        "assembly",
        "batch",
        "clock",
        "cluster.dask",
        "cluster.fleet",
        "cluster.hosting",
        "cluster.sources",
        "events",
        "memory",
        "modules",
        "options",
        "policy",
    },
    "options": {"events", "fields"},
    "summary": {"failures", "markup", "metrics"},
    "sinks": {"events", "kernel", "sinks.bar", "sinks.callback", "sinks.panel"},
    "sinks.bar": {"events", "markup"},
    "sinks.callback": {"events"},
    "sinks.panel": {"events", "kernel", "markup", "metrics"},
    "records": {"events", "usage"},
    "frame": {"batch", "events", "failures", "fields", "metrics", "records", "summary", "usage"},
    "plots": {"evaluations"},
    "evaluations": {"interval", "markup", "truths"},
    "votes": set(),
    "comparisons": {
        "evaluations",
        "frame",
        "interval",
        "markup",
        "options",
        "run",
        "usage",
    },
    "provenance": {"modules", "options", "predict", "prices"},
    "handover": set(),
    "ledger": {
        "batch",
        "errors",
        "events",
        "failures",
        "frame",
        "handover",
        "hooks",
        "modules",
        "options",
        "provenance",
        "records",
        "summary",
        "tally",
        "truths",
    },
    "run": {
        "assembly",
        "backend",
        "batch",
        "budget",
        "clock",
        "cluster",
        "cluster.sharded",
        "deciding",
        "errors",
        "events",
        "frame",
        "handover",
        "interrupts",
        "kernel",
        "ledger",
        "memory",
        "metrics",
        "modules",
        "options",
        "pairs",
        "prediction",
        "provenance",
        "records",
        "sinks",
    },
    "parts": {"batch", "events", "fields", "frame", "modules", "records", "segments"},
    "segments": {"fields", "frame"},
    "filing": {
        "events",
        "frame",
        "ledger",
        "metrics",
        "modules",
        "options",
        "parts",
        "run",
        "segments",
    },
    "merge": {"frame", "metrics", "provenance", "usage"},
    "retry": {"batch", "errors", "failures", "merge", "modules", "options", "run"},
    "previews": {"markup", "modules", "options", "run"},
    "jobs.provider": {"errors", "lm", "policy", "portal"},
    "jobs.lines": {"errors", "events", "lm", "predict", "usage"},
    "jobs.shelf": {"errors", "store.file"},
    "jobs.reading": {
        "batch",
        "errors",
        "events",
        "jobs.lines",
        "jobs.provider",
        "jobs.shelf",
        "ledger",
        "lm",
        "memory",
        "modules",
        "options",
        "predict",
        "provenance",
        "run",
    },
    "jobs.job": {
        "errors",
        "jobs.provider",
        "jobs.reading",
        "jobs.shelf",
        "kernel",
        "lm",
        "portal",
        "predict",
        "retry",
        "sinks.jobview",
    },
    "jobs": {
        "batch",
        "errors",
        "events",
        "frame",
        "jobs.job",
        "jobs.lines",
        "jobs.reading",
        "jobs.shelf",
        "lm",
        "memory",
        "modules",
        "options",
        "predict",
        "provenance",
        "run",
    },
    "sinks.jobview": {"kernel", "markup"},
    "estimates": {
        "events",
        "interval",
        "markup",
        "memory",
        "modules",
        "options",
        "provenance",
        "records",
        "run",
        "usage",
    },
    "diffs": set(),
    "parallel": {"errors", "kernel", "modules", "options", "prediction", "run"},
    "accessor": {
        "frame",
        "handover",
        "metrics",
        "options",
        "plots",
        "retry",
        "run",
        "summary",
        "votes",
    },
}

# who may import these libraries, wherever in the file
ONLY = {
    "openai": {"endpoint"},
    "pandas": {
        "frame",
        "merge",
        "diffs",
        "plots",
        "accessor",
        "votes",
        "evaluations",
        "comparisons",
        "handover",
    },
    "dspy": {"foreign"},
    "langchain_core": {"foreign"},
    "sklearn": {"evaluations"},
    "scipy": {"comparisons"},
    "xllamacpp": {"local.child"},
    "ipywidgets": {"sinks.panel", "sinks.jobview"},
    "sqlite3": {"store.file"},
    "tqdm": {"sinks.bar"},
    "json_repair": {"extraction"},
    "pyarrow": {
        "cluster.sharded",
        "filing",
        "handover",
        "parts",
        "segments",
        "store.outfile",
    },
    "cloudpickle": {"cluster.wire", "jobs.shelf"},
    "distributed": {"cluster.dask", "cluster.hosting", "cluster.sharded"},
    "dask": {"cluster.sharded"},
    "polars": {"handover"},
    "matplotlib": {"plots"},
    "genai_prices": {"prices"},
}


def modules() -> dict[str, Path]:
    found = {}
    for path in PACKAGE.rglob("*.py"):
        parts = path.relative_to(PACKAGE).with_suffix("").parts
        parts = parts[:-1] if parts[-1] == "__init__" else parts
        if parts:
            found[".".join(parts)] = path
    return found


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


def test_imports_point_one_way() -> None:
    found = {name: imports(name, path)[0] for name, path in modules().items()}
    assert found.keys() == ALLOWED.keys()
    assert {n: i for n, i in found.items() if not i <= ALLOWED[n]} == {}


def test_the_allowed_table_has_no_cycle() -> None:
    from graphlib import TopologicalSorter

    list(TopologicalSorter(ALLOWED).static_order())


@pytest.mark.parametrize("library", ONLY)
def test_one_room_per_library(library: str) -> None:
    users = {name for name, path in modules().items() if library in imports(name, path)[1]}
    assert users <= ONLY[library]


def test_the_public_names_are_sorted_and_exist() -> None:
    assert pn.__all__ == sorted(pn.__all__, key=lambda n: (not n.isupper(), n[0].islower(), n))
    assert all(hasattr(pn, name) for name in pn.__all__)


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
