"""The embedded server's process: llama.cpp on loopback. It ends with its parent.

Run as `python -m pardspy_nb.llm.local.server_process`. Settings come as one JSON line on standard
input, which stays open as long as the parent lives. The address goes out as one JSON line.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from typing import Any

_NICE = 5


def _leave_with_parent(parent: int) -> None:
    """End this process when standard input closes, or when the parent process changes.

    Both are watched, because a process forked off the parent would keep the pipe open.
    """

    def on_close() -> None:
        sys.stdin.read()
        os._exit(0)

    def on_orphaned() -> None:
        while os.getppid() == parent:
            time.sleep(0.5)
        os._exit(0)

    for watch in (on_close, on_orphaned):
        threading.Thread(target=watch, daemon=True).start()


def _start(settings: dict[str, Any]) -> Any:
    import xllamacpp

    params = xllamacpp.CommonParams()
    params.model.path = settings["path"]
    params.model_alias = {settings["alias"]}
    params.api_keys = [settings["key"]]
    params.hostnames = ["127.0.0.1"]
    params.port = 0
    params.n_parallel = settings["slots"]
    params.n_ctx = settings["context_tokens"]
    params.kv_unified = True  # slots share the context: a long row may use free context
    params.cpuparams.n_threads = params.cpuparams_batch.n_threads = settings["threads"]
    # a slot that is idle between two rows keeps the beginning that all prompts share
    params.cache_idle_slots = False
    params.cont_batching = True
    params.ctx_shift = False
    params.offline = True
    params.ui = False
    params.verbosity = 0
    return xllamacpp.Server(params)


def main() -> None:
    """Serve until the parent ends."""
    settings = json.loads(sys.stdin.readline())
    if hasattr(os, "nice"):
        os.nice(_NICE)  # the user's own work comes first
    _leave_with_parent(settings["parent"])
    server = _start(settings)
    print(json.dumps({"address": server.listening_address}), flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
