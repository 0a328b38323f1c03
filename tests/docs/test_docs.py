"""The README and the documentation say what is so, and what they show can be run."""

from __future__ import annotations

import dataclasses
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urldefrag

import pytest
from support.batch_server import BatchServer
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn
from pardspy_nb.core import errors

ROOT = Path(__file__).parents[2]
DOCS = ROOT / "docs"
README = ROOT / "README.md"
PAGES = [p for p in sorted(DOCS.rglob("*.md")) if "_build" not in p.parts]
HOWTO = [p for p in sorted((DOCS / "howto").glob("*.md")) if p.name != "index.md"]
NAMES = [p.stem for p in HOWTO]
BLOCK = re.compile(r"^```python\n(.*?)^```$", re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")
REFERENCE = "\n".join(p.read_text() for p in sorted((DOCS / "reference").glob("*.md")))
# what the scripted model says on pages that ask for something else than a sentiment
ANSWERS = {
    "images": '{"kind": "invoice"}',
    "nested-records": '{"products": [{"name": "lamp", "price": 20.0}, {"name": "shade"}]}',
}


def blocks(page: Path) -> list[str]:
    return BLOCK.findall(page.read_text())


def run(block: str, page: Path) -> dict[str, Any]:
    names: dict[str, Any] = {"__name__": "__main__"}
    exec(compile(block, str(page), "exec"), names)
    return names


@pytest.fixture
def _endpoint(
    server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[None]:
    """`pn.LM()` and all models of OpenAI's are the scripted server; a folder of its own."""
    import matplotlib.pyplot as plt

    monkeypatch.setenv("OPENAI_BASE_URL", server.url)
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test")
    monkeypatch.setenv("MPLBACKEND", "Agg")
    monkeypatch.chdir(tmp_path)
    plt.switch_backend("Agg")
    yield
    plt.close("all")


# -- the README ---------------------------------------------------------------------------------


def test_the_readme_is_short() -> None:
    assert len(README.read_text().splitlines()) <= 150


@pytest.mark.parametrize("page", [README, *PAGES], ids=lambda p: str(p.relative_to(ROOT)))
def test_each_python_block_compiles(page: Path) -> None:
    for block in blocks(page):
        compile(block, str(page), "exec")


@pytest.mark.usefixtures("_endpoint")
def test_the_readmes_first_example_runs_as_it_stands(server: ScriptedServer) -> None:
    df = run(blocks(README)[0], README)["df"]
    assert df["status"].eq("ok").all()
    assert server.attempts.total() == len(df) == 3


def test_links_of_the_readme_lead_to_files() -> None:
    links = [link for link in LINK.findall(README.read_text()) if "://" not in link]
    assert len(links) > 30
    for link in links:
        path, anchor = urldefrag(link)
        assert (ROOT / path).exists(), link
        if anchor:
            heads = re.findall(r"^#+ (.*)$", (ROOT / path).read_text(), re.MULTILINE)
            assert anchor in [re.sub(r"[^\w]+", "-", head.lower()).strip("-") for head in heads]


# -- the guides ---------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.usefixtures("_endpoint")
@pytest.mark.parametrize("name", [n for n in NAMES if n != "batch-api"])
def test_each_guide_begins_with_an_example_that_runs(name: str, server: ScriptedServer) -> None:
    from PIL import Image

    if name in ANSWERS:
        server.script = lambda marker, attempt: Reply(content=ANSWERS[name])
    Path("scans").mkdir()
    for number in (1, 2):
        Image.new("RGB", (8, 8)).save(f"scans/{number}.png")
    page = DOCS / "howto" / f"{name}.md"
    names = run(blocks(page)[0], page)
    if "df" in names:
        assert names["df"]["status"].eq("ok").all()


@pytest.mark.slow
@pytest.mark.usefixtures("_endpoint")
def test_the_guide_to_batches_begins_with_an_example_that_runs(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    page = DOCS / "howto" / "batch-api.md"
    provider, is_over = BatchServer(), threading.Event()
    provider.start()
    monkeypatch.setenv("OPENAI_BASE_URL", provider.url)

    def finish() -> None:
        while not is_over.wait(0.1):
            provider.finish()

    thread = threading.Thread(target=finish)
    thread.start()
    try:
        assert run(blocks(page)[0], page)["df"]["status"].eq("ok").all()
    finally:
        is_over.set()
        thread.join()
        provider.stop()


# -- the reference ------------------------------------------------------------------------------


def test_the_reference_has_every_public_name() -> None:
    entries = set(re.findall(r"^\.\. auto\w+:: (?:pardspy_nb\.)?([\w.]+)", REFERENCE, re.MULTILINE))
    known = {name for name, kind in vars(errors).items() if isinstance(kind, type)}
    assert [name for name in pn.__all__ if name not in entries | known] == []


def test_the_reference_has_every_option() -> None:
    page = (DOCS / "reference" / "options.md").read_text()
    assert [f.name for f in dataclasses.fields(pn.Options) if f"`{f.name}`" not in page] == []


def test_the_reference_has_every_variable() -> None:
    page = (DOCS / "reference" / "environment.md").read_text()
    pattern = re.compile(r"\b(?:PARDSPY|EXAMPLES_DEFAULT|OPENAI)_[A-Z]+(?:_[A-Z]+)*\b")
    code = "".join(p.read_text() for p in (ROOT / "pardspy_nb").rglob("*.py"))
    read = {name for name in pattern.findall(code) if f'"{name}"' in code}
    assert {"PARDSPY_MODEL", "PARDSPY_STORE", "OPENAI_API_KEY"} <= read
    assert [name for name in sorted(read) if f"`{name}`" not in page] == []


# -- the site -----------------------------------------------------------------------------------


class Links(HTMLParser):
    """What a page loads, where it leads, and the anchors that it has."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.leads: list[str] = []
        self.anchors: set[str] = set()
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        found = dict(attrs)
        self.anchors |= {value for key in ("id", "name") if (value := found.get(key))}
        if tag in ("script", "link", "img", "iframe", "source") and (
            url := found.get("src") or found.get("href")
        ):
            self.loads.append(url)
        if tag == "a" and (url := found.get("href")):
            self.leads.append(url)


@pytest.fixture
def site(tmp_path: Path) -> dict[Path, Links]:
    """All pages, built with warnings as errors."""
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "--quiet", "-b", "html"]
    command += ["-d", str(tmp_path / "trees"), str(DOCS), str(tmp_path / "html")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    pages = [p for p in (tmp_path / "html").rglob("*.html") if "_static" not in p.parts]
    return {page: Links(page) for page in pages}


@pytest.mark.slow
def test_the_site_builds_loads_nothing_from_elsewhere_and_has_no_broken_link(
    site: dict[Path, Links],
) -> None:
    assert len(site) > 40
    foreign = re.compile(r"(?:[a-z]+:)?//", re.IGNORECASE)
    assert [(p.name, url) for p, of in site.items() for url in of.loads if foreign.match(url)] == []
    links = [(page, url) for page, of in site.items() for url in [*of.loads, *of.leads]]
    assert [(page.name, url) for page, url in links if not leads_somewhere(url, page, site)] == []


def leads_somewhere(url: str, page: Path, site: dict[Path, Links]) -> bool:
    """Whether a link within the site has a target; links to elsewhere are not followed."""
    path, anchor = urldefrag(url)
    if re.match(r"[a-z]+:", path):
        return True
    target = (page.parent / unquote(path.partition("?")[0])).resolve() if path else page
    return target.exists() and (
        not anchor or target not in site or unquote(anchor) in site[target].anchors
    )
