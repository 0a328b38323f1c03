"""Runs through llama-cpp-python's server, with the embedded model's weights.

Its build from source takes six minutes on two cores, so this is no part of the tests. By hand:

    python3.11 -m venv .bench/llama
    .bench/llama/bin/pip install "llama-cpp-python[server]"
    PYTHONPATH=tests .venv/bin/python tests/support/try_llama_cpp_python.py .bench/llama/bin/python
"""

from __future__ import annotations

import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pydantic
from support.programs import Program, free_port, running

import pardspy_nb as pn
from pardspy_nb.llm.local.catalogue import CATALOGUE, DEFAULT
from pardspy_nb.llm.local.weights import ensure

QUIET: dict[str, Any] = {"progress": "none", "store": None}
REVIEWS = ["A joy from start to end.", "I want my evening back.", "Two hours, one good joke."]
LABELS = pn.Signature("Label the review").add_input("review")
LABELS = LABELS.add_class_output("sentiment", ["positive", "negative"])


class Product(pydantic.BaseModel):
    """What was bought."""

    name: str
    price: float


class Receipt(pn.Signature):
    """List what was bought"""

    text: str = pn.InputField()
    products: list[Product] = pn.OutputField()


def main(python: str) -> None:
    """Try labels, a nested schema, a wrong key, an unknown model and a restart in mid-run."""
    folder, port = Path(tempfile.mkdtemp()), free_port()
    command = [python, "-m", "llama_cpp.server", "--model", str(ensure(CATALOGUE[DEFAULT], print))]
    command += ["--model_alias", "small", "--host", "127.0.0.1", "--port", str(port)]
    command += ["--api_key", "right", "--n_ctx", "4096"]
    url = f"http://127.0.0.1:{port}/v1"

    def lm(model: str = "small", key: str = "right") -> pn.LM:
        return pn.LM(model, base_url=url, api_key=key, max_tokens=200, temperature=0)

    with running(Program(command, port, folder / "log")) as server:
        said("labels", lambda: pn.run_parallel(pn.Predict(LABELS, lm()), REVIEWS, **QUIET))
        texts = ["Tea for 2.50 and bread for 3.00", "One apple, 0.40"]
        said("nested", lambda: pn.run_parallel(pn.Predict(Receipt, lm()), texts, **QUIET))
        wrong = pn.Predict(LABELS, lm(key="wrong"))
        said("wrong key", lambda: pn.run_parallel(wrong, REVIEWS, max_failures=None, **QUIET))
        other = pn.Predict(LABELS, lm("other"))
        said("unknown model", lambda: pn.run_parallel(other, REVIEWS, max_failures=None, **QUIET))

        def restart() -> None:
            time.sleep(2)
            server.stop()
            server.start()

        thread = threading.Thread(target=restart)
        thread.start()
        many = pn.Predict(LABELS, lm())
        said(
            "restart",
            lambda: pn.run_parallel(many, [f"{r} {i}" for i in range(8) for r in REVIEWS], **QUIET),
        )
        thread.join()


def said(name: str, run: Callable[[], Any]) -> None:
    """Run and print what came of it."""
    began = time.monotonic()
    try:
        df = run()
    except pn.RunStopped as stopped:
        print(f"{name}: RunStopped after {time.monotonic() - began:.1f} s: {str(stopped)[:300]}")
        return
    form = df.attrs["pardspy"].get("form", "json_schema")
    print(
        f"{name}: {df['status'].value_counts().loc[lambda n: n > 0].to_dict()} in {form}, "
        f"{time.monotonic() - began:.1f} s, attempts up to {df['attempts'].max()}"
    )
    print(df[["status", *[c for c in ("sentiment", "products", "error") if c in df]]].head(3))


if __name__ == "__main__":
    main(sys.argv[1])
