"""The documentation's settings: `make docs` builds it, without a network."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent

project = "pardspy_nb"
author = "the authors of pardspy_nb"
copyright = author  # noqa: A001 - the name that Sphinx reads
version = release = importlib.metadata.version("pardspy_nb")

extensions = [
    "myst_nb",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
    "sphinx_copybutton",
]
exclude_patterns = ["_build"]

# notebooks are shown with the outputs that they keep
nb_execution_mode = "off"
nb_ipywidgets_js = {}  # these would come from other hosts
myst_enable_extensions = ["colon_fence"]  # no "dollarmath": a dollar is a price here
myst_heading_anchors = 3

autodoc_member_order = "bysource"
autodoc_typehints = "description"
autodoc_typehints_description_target = "documented"
autodoc_typehints_format = "short"
autosummary_generate = False
napoleon_google_docstring = True
napoleon_numpy_docstring = False
napoleon_use_ivar = True

copybutton_exclude = ".linenos, .gp, .go"
copybutton_selector = ".highlight-python pre, .highlight-sh pre, .highlight-ipython3 pre"

html_theme = "pydata_sphinx_theme"
html_title = f"pardspy_nb {release}"
html_show_sourcelink = False
html_copy_source = False
html_theme_options = {
    "show_toc_level": 2,
    "navigation_with_keys": False,
    "footer_start": ["copyright"],
    "footer_end": [],
}


def copy_notebooks() -> None:
    """The notebooks stand beside this folder; Sphinx reads what is below it."""
    target = HERE / "tutorials" / "notebooks"
    target.mkdir(exist_ok=True)
    sources = sorted((HERE.parent / "notebooks").glob("*.ipynb"))
    for gone in {p.name for p in target.glob("*.ipynb")} - {p.name for p in sources}:
        (target / gone).unlink()
    for source in sources:
        text = source.read_text(encoding="utf-8").replace("](../docs/", "](/")
        copy = target / source.name
        if not copy.exists() or copy.read_text(encoding="utf-8") != text:
            copy.write_text(text, encoding="utf-8")


def as_restructured_text(app: Any, what: str, name: Any, obj: Any, opts: Any, lines: Any) -> None:
    """Docstrings write `code` as Markdown does; reStructuredText wants two backticks."""

    def code(found: re.Match[str]) -> str:
        return f"``{found[1]}``" + (f"\\ {found[2]}" if found[2] else "")  # the plural of `Row`s

    text = re.sub(r"(?<!`)`([^`]+)`(?!`)(\w?)", code, "\n".join(lines))
    if what in ("property", "attribute"):
        text = f"\\\n{text}"  # else Napoleon takes what stands before a colon for the type
    lines[:] = text.split("\n")


def setup(app: Any) -> None:
    """What Sphinx calls first."""
    copy_notebooks()
    app.connect("autodoc-process-docstring", as_restructured_text, priority=100)
