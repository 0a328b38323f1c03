"""Embedded servers of this process: one for each model and settings, started on first use."""

from __future__ import annotations

import asyncio
import atexit
import importlib.util
import json
import os
import secrets
import subprocess
import sys
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ...core.errors import LocalModelError
from . import weights
from .catalogue import CATALOGUE, DEFAULT

SETTINGS = ("threads", "slots", "context_tokens")


@dataclass(frozen=True)
class LocalModel:
    """An embedded model and how its server runs.

    `threads` is the number of CPU threads (default: the cores that this process may use), `slots`
    the number of requests handled at once, `context_tokens` the context that all slots share.
    """

    name: str
    path: str | None = None
    threads: int = 0
    slots: int = 8
    context_tokens: int = 16384

    @classmethod
    def named(cls, model: str, **settings: Any) -> LocalModel:
        """The model for `"local"`, `"local:NAME"` or `"local:/path/model.gguf"`."""
        name = model.partition(":")[2] or DEFAULT
        if name.endswith(".gguf") or os.sep in name:
            path = Path(name).expanduser()
            if not path.is_file():
                raise LocalModelError(f"no such model file: {path}")
            return cls(path.stem, str(path.resolve()), **settings)
        if name not in CATALOGUE:
            raise LocalModelError(
                f"no embedded model {name!r}; choose one of "
                f"{', '.join(CATALOGUE)}, or give the path of a .gguf file"
            )
        return cls(name, **settings)

    @property
    def identity(self) -> dict[str, Any]:
        """The values that identify the weights in a cache key."""
        if self.path is None:
            return {"weights": CATALOGUE[self.name].sha256}
        found = Path(self.path).stat()
        return {"weights": [self.path, found.st_size, found.st_mtime_ns]}


class _Server:
    def __init__(self, model: LocalModel) -> None:
        self._process, self._log, self.base_url, self.key = _launch(model)
        self._owner = os.getpid()

    @property
    def alive(self) -> bool:
        if os.getpid() == self._owner:
            return self._process.poll() is None
        try:  # a forked process uses its parent's server
            os.kill(self._process.pid, 0)
        except OSError:
            return False
        return True

    def stop(self) -> None:
        if os.getpid() != self._owner:
            return
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout, self._log):
            if pipe is not None:
                pipe.close()


servers: dict[LocalModel, _Server] = {}
_lock = threading.Lock()


def _forget_lock() -> None:
    """In a forked process: another thread of the parent may have held the lock."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_lock)


async def serve(model: LocalModel) -> tuple[str, str]:
    """The running server's base URL and key. If necessary, fetch the weights and start the server.

    Raises:
        LocalModelError: the runtime is not installed, the weights cannot be fetched, or the server
            does not start.
    """
    server = servers.get(model)
    if server is None or not server.alive:
        server = await asyncio.to_thread(_ensure, model)
    return server.base_url, server.key


def _ensure(model: LocalModel) -> _Server:
    with _lock:
        server = servers.get(model)
        if server is None or not server.alive:
            server = servers[model] = _Server(model)
        return server


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _say(text: str) -> None:
    if sys.stderr is not None:  # a service has none
        print(text, file=sys.stderr, flush=True)


def _launch(model: LocalModel) -> tuple[subprocess.Popen[str], IO[bytes], str, str]:
    if importlib.util.find_spec("xllamacpp") is None:
        raise LocalModelError(
            "no model to ask: either set OPENAI_API_KEY (or LM(model, base_url=…)), or install "
            "the embedded one with: pip install 'pardspy_nb[local]'"
        )
    path = model.path or str(weights.ensure(CATALOGUE[model.name], _say))
    threads = model.threads or _usable_cores()
    _say(f"Starting the embedded model {model.name} ({threads} threads, {model.slots} slots) …")
    key = secrets.token_urlsafe(24)
    settings = {
        "path": path,
        "alias": model.name,
        "key": key,
        "threads": threads,
        "slots": model.slots,
        "context_tokens": model.context_tokens,
        "parent": os.getpid(),
    }
    log = tempfile.TemporaryFile()  # noqa: SIM115 - open as long as the server runs
    process = subprocess.Popen(
        # -P: nothing is imported from the working folder
        [sys.executable, "-P", "-m", "pardspy_nb.llm.local.server_process"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=log,
        text=True,
        start_new_session=True,  # a keyboard interrupt must not reach the server
    )
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(settings) + "\n")
    process.stdin.flush()
    for line in process.stdout:  # the runtime may print other lines first
        if line.startswith('{"address"'):
            return process, log, json.loads(line)["address"] + "/v1", key
    process.kill()
    process.wait()
    log.seek(0)
    tail = log.read().decode(errors="replace").strip()[-400:]
    raise LocalModelError(f"the embedded model {path} did not start: {tail or 'no message'}")


@atexit.register
def _stop_all() -> None:
    for server in servers.values():
        server.stop()
