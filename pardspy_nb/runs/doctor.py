"""What this environment is, and what will not work in it."""

from __future__ import annotations

import asyncio
import importlib.metadata
import importlib.util
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ..core.errors import PardspyError
from ..core.plain_text import printable
from ..core.redaction import redacted
from ..display import html, notebook
from ..llm.background_loop import run_sync
from ..llm.lm import LM
from ..store.maintenance import info

_PACKAGES = (
    *("pardspy_nb", "pandas", "numpy", "pydantic", "openai", "pyarrow", "matplotlib", "tqdm"),
    *("ipywidgets", "ipykernel", "jupyterlab", "notebook", "marimo", "polars", "dask", "dspy"),
)
# a package, and what needs it
_NEEDED_FOR = {
    "ipywidgets": ("the panel; runs show text instead", "ipywidgets"),
    "xllamacpp": ("the embedded model, LM('local')", "pardspy_nb[local]"),
    "sklearn": ("pn.evaluate and pn.compare", "pardspy_nb[evaluate]"),
    "distributed": ("executor=, many processes", "pardspy_nb[dask]"),
    "xlsxwriter": ("df.parallel.to_excel", "pardspy_nb[excel]"),
    "polars": ("result='polars'", "polars"),
    "pyarrow": ("parquet files, run_to_parquet", "pyarrow"),
}
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE")
_WAIT_S = 10.0


@dataclass(frozen=True)
class Diagnosis:
    """The result of `doctor`; a notebook shows it as HTML.

    Attributes:
        facts: what was found, as (name, text).
        troubles: what will not work here, and what to type.
    """

    facts: Sequence[tuple[str, str]]
    troubles: Sequence[str]

    def __repr__(self) -> str:
        lines = [f"{name:>12}  {text}" for name, text in self.facts]
        lines += ["", "What will not work here:" if self.troubles else "All of it works here."]
        return printable("\n".join([*lines, *(f"  - {trouble}" for trouble in self.troubles)]))

    def _repr_html_(self) -> str:
        words = "What will not work here:" if self.troubles else "All of it works here."
        return html.box(
            [
                html.table(("", ""), self.facts),
                html.note(words),
                *(html.note(f"– {trouble}") for trouble in self.troubles),
            ],
            html.ORANGE if self.troubles else html.GREEN,
        )


def doctor(lm: Any = None) -> Diagnosis:
    """Look at this environment: versions, kernel, front end, store, model and endpoint.

    The endpoint is connected to; nothing is asked of a model, and nothing is paid. No key is shown.

    Args:
        lm: the LM to look at; None for `LM()`.
    """
    facts = [("python", f"{platform.python_version()}, {platform.platform()}")]
    facts.append(("packages", ", ".join(filter(None, map(_version, _PACKAGES)))))
    facts.append(("kernel", notebook.kernel_in_words()))
    facts.append(("front end", notebook.front_end_in_words()))
    troubles = [*notebook.troubles()]
    facts.append(("store", _store(troubles)))
    facts.append(("model", _model(lm, troubles)))
    if found := [name for name in _PROXIES if os.environ.get(name) or os.environ.get(name.lower())]:
        facts.append(("proxies", f"set: {', '.join(found)}"))
    for package, (what, install) in _NEEDED_FOR.items():
        if importlib.util.find_spec(package) is None:
            troubles.append(f"{what}: pip install '{install}'")
    return Diagnosis(facts, troubles)


def _version(package: str) -> str | None:
    try:
        return f"{package} {importlib.metadata.version(package)}"
    except importlib.metadata.PackageNotFoundError:
        return None


def _store(troubles: list[str]) -> str:
    try:
        found = info()
    except PardspyError as error:
        troubles.append(f"remembering rows: {error}; store= or PARDSPY_STORE names another file")
        return "cannot be used"
    folder = next((p for p in found.path.parents if p.exists()), found.path)
    if not os.access(found.path if found.path.exists() else folder, os.W_OK):
        troubles.append(f"remembering rows: {found.path} cannot be written; set PARDSPY_STORE")
    return repr(found).replace("\n ", ";")


def _model(lm: Any, troubles: list[str]) -> str:
    """The model in words: its endpoint, and whether it is reached."""
    try:
        lm = LM() if lm is None else lm
    except (PardspyError, ValueError) as error:
        troubles.append(f"the model: {error}")
        return "none"
    if not isinstance(lm, LM):
        return f"{lm!r}, a custom LM, which is not looked into"
    if lm.is_local:
        return f"{lm!r}, on this machine"
    try:
        run_sync(asyncio.wait_for(lm.prepare(), _WAIT_S))
    except Exception as error:
        reason = redacted(str(error) or f"no answer within {_WAIT_S:.0f} s", ())
        troubles.append(f"the model {lm.model!r}: {reason}")
        return f"{lm!r}, not reached"
    return f"{lm!r}, reached (nothing was asked)"
