"""`pn.doctor()`: what this environment is."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.scripted_server import ScriptedServer

import pardspy_nb as pn


def test_it_names_versions_kernel_store_and_endpoint(
    lm: pn.LM, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://user:secret@proxy:1")
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    found = pn.doctor(lm)
    words = repr(found)
    pandas = f"pandas {pd.__version__}"
    for part in (pandas, "openai", "plain Python", "answers.sqlite", "reached", "HTTPS_PROXY"):
        assert part in words, part
    assert "sk-test-secret-key" not in words
    assert "secret" not in words
    assert not server.requests
    assert "<table" in found._repr_html_()


def test_what_will_not_work_is_said_with_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    find = importlib.util.find_spec

    def lacks(name: str, *more: Any) -> Any:
        return None if name in ("sklearn", "ipywidgets") else find(name, *more)

    monkeypatch.setattr(importlib.util, "find_spec", lacks)
    found = pn.doctor(pn.LM("m", base_url="http://127.0.0.1:9/v1", api_key="k"))
    words = repr(found)
    assert "pip install 'pardspy_nb[evaluate]'" in words
    assert "pip install 'ipywidgets'" in words
    assert "cannot reach http://127.0.0.1:9/v1" in words
    assert dict(found.facts)["model"].endswith("not reached")


def test_a_store_that_cannot_be_used_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = tmp_path / "a.sqlite"
    broken.write_text("no store at all, but long enough to be taken for a file of some kind")
    monkeypatch.setenv("PARDSPY_STORE", str(broken))
    found = pn.doctor(pn.LM("fake"))
    assert any("PARDSPY_STORE" in trouble for trouble in found.troubles)
    assert broken.exists()


def test_a_custom_lm_is_not_looked_into() -> None:
    class Own:
        async def complete(self, messages: Any, **more: Any) -> pn.Completion:
            raise NotImplementedError

    assert "a custom LM" in repr(pn.doctor(Own()))
