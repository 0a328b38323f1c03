"""Memory never answers for another question, and knows the same one again."""

from __future__ import annotations

import functools
import sys
import threading
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.scripted_server import ScriptedServer

import pardspy_nb as pn
from pardspy_nb.modules.module import from_module
from pardspy_nb.store import keys
from pardspy_nb.store.keys import codecs_of

QUIET: Any = {"progress": "none"}
suffix = "global"


def key(module: Any) -> str:
    codec = codecs_of(from_module(module), "v1")[0]
    digest: str = codec.base.hexdigest()
    return digest


def in_language(text: str, lang: str) -> str:
    return f"{lang}:{text}"


def closure(value: Any) -> Callable[..., Any]:
    return lambda text: value


def default(value: Any) -> Callable[..., Any]:
    def module(text: str, more: Any = value) -> Any:
        return more

    return module


class Classifier:
    def __init__(self, label: Any) -> None:
        self.label, self.calls, self.seen = label, 0, list[str]()
        self._lock = threading.Lock()

    def ask(self, text: str) -> Any:
        with self._lock:
            self.calls += 1
            self.seen.append(text)
        return self.label

    async def acall(self, text: str) -> Any:
        return self.ask(text)


def one(text: str) -> int:
    return 1


def wrapped(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def module(text: str) -> Any:
        return function(text)

    return module


def two(text: str) -> int:
    return 2


two.__qualname__ = two.__name__ = "one"


def predict(model: str = "m", text: str = "text -> label") -> pn.Predict:
    return pn.Predict(text, pn.LM(model, base_url="http://127.0.0.1:9/v1", api_key="key"))


@pytest.mark.parametrize(
    ("this", "other"),
    [
        (functools.partial(in_language, lang="de"), functools.partial(in_language, lang="fr")),
        (functools.partial(one), functools.partial(two)),
        (lambda text: 1, lambda text: 2),
        (lambda text: {"a", "b"}, lambda text: {"a", "c"}),
        (closure("de"), closure("fr")),
        (closure({"a": [1]}), closure({"a": [2]})),
        (closure(one), closure(two)),
        (closure(predict("a")), closure(predict("b"))),
        (default(1), default(2)),
        (Classifier("x").ask, Classifier("y").ask),
        (Classifier("x"), Classifier("y")),
        (one, two),
        (wrapped(one), wrapped(two)),
        (pn.Program([predict("a"), one]), pn.Program([predict("b"), one])),
        (pn.Program([predict(), one]), pn.Program([predict(), two])),
        (pn.Program([pn.Program([one])]), pn.Program([pn.Program([two])])),
        (
            pn.BestOfN(predict(), score=lambda i, p: 1),
            pn.BestOfN(predict(), score=lambda i, p: 2),
        ),
        (pn.BestOfN(predict(), 2, one), pn.BestOfN(predict(), 3, one)),
        (pn.Refine(predict("a"), score=one), pn.Refine(predict("b"), score=one)),
    ],
)
def test_modules_that_differ_in_what_can_be_seen_have_different_keys(
    this: Any, other: Any, recwarn: pytest.WarningsRecorder
) -> None:
    assert key(this) != key(other)
    assert key(this) == key(this)
    assert not recwarn.list


def prefixed(prefix: str) -> Callable[..., Any]:
    def module(text: str) -> dict[str, str]:
        found = {}
        found["m"] = prefix + text
        return found

    return module


def nested(prefix: str) -> Callable[..., Any]:
    space: dict[str, Any] = {"prefix": prefix}
    exec("def module(text): return [(lambda: prefix + t)() for t in [text]]", space)
    made: Callable[..., Any] = space["module"]
    return made


def cached(prefix: str) -> Callable[..., Any]:
    return functools.lru_cache(prefixed(prefix))


def config(prefix: str) -> Callable[..., Any]:
    class Config:
        PREFIX = prefix

    return lambda text: Config.PREFIX + text


def config_module(prefix: str) -> Callable[..., Any]:
    made = types.ModuleType("config")
    made.PREFIX = prefix  # type: ignore[attr-defined]
    return lambda text: made.PREFIX + text


def slotted(prefix: str) -> Any:
    class Slotted:
        __slots__ = ("prefix",)

        def __call__(self, text: str) -> str:
            return self.prefix + text

    made = Slotted()
    made.prefix = prefix
    return made


def with_attribute(prefix: str) -> Callable[..., Any]:
    def module(text: str) -> str:
        return module.prefix + text  # type: ignore[attr-defined]

    module.prefix = prefix  # type: ignore[attr-defined]
    return module


def with_table(prefix: str) -> Callable[..., Any]:
    table = pd.DataFrame({"a": [prefix]})
    return lambda text: table["a"][0]


def with_mapping(prefix: str) -> Callable[..., Any]:
    known = {1 if prefix == "de" else "1": object}
    return lambda text: known.get(1)


@pytest.mark.parametrize(
    "make",
    [
        prefixed,
        nested,
        cached,
        config,
        config_module,
        slotted,
        with_attribute,
        with_table,
        with_mapping,
        lambda prefix: types.SimpleNamespace(run=prefixed(prefix)).run,
    ],
)
def test_wherever_a_value_is_kept(make: Any, recwarn: pytest.WarningsRecorder) -> None:
    assert key(make("de")) == key(make("de"))
    assert key(make("de")) != key(make("fr"))
    assert not recwarn.list


def test_a_change_by_the_user_counts_and_one_by_the_module_itself_does_not() -> None:
    class Translator:
        def __init__(self) -> None:
            self.language, self.last = "de", ""
            self.memory: dict[str, str] = {}

        def speak(self, language: str) -> None:
            self.language = language

        def __call__(self, text: str) -> str:
            asked.append(text)
            self.last = text
            return self.memory.setdefault(text, f"{self.language}:{text}:{len(self.last)}")

    asked: list[str] = []
    translate = Translator()
    for _ in range(3):
        df = pn.run_parallel(translate, ["a", "b"], cache_key="v1", max_workers=1, **QUIET)
        assert list(df["output"]) == ["de:a:1", "de:b:1"]
    assert asked == ["a", "b"], "its memory and its last text are its own affair"
    translate.speak("fr")
    translate.memory.clear()
    df = pn.run_parallel(translate, ["a"], cache_key="v1", **QUIET)
    assert list(df["output"]) == ["fr:a:1"]


def test_a_global_that_a_function_uses_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    def module(text: str) -> str:
        return text + suffix

    before = key(module)
    monkeypatch.setitem(globals(), "suffix", "changed")
    assert key(module) != before


def test_what_a_function_changes_itself_does_not_make_it_another() -> None:
    calls: list[str] = []
    counts = {"n": 0}
    total = 0

    def module(text: str) -> str:
        nonlocal total
        total += 1
        calls.append(text)
        counts["n"] += 1
        return text

    keeper = Classifier("x")
    before = key(module), key(keeper), key(keeper.ask)
    for name in "ab":
        module(name)
        keeper.ask(name)
    assert (key(module), key(keeper), key(keeper.ask)) == before
    for asked in (2, 2):
        pn.run_parallel(module, {"text": ["c", "d"]}, cache_key="v1", **QUIET)
        assert len(calls) == 2 + asked


def requests_like() -> Any:
    import socket

    return socket.socket()


def test_what_cannot_be_seen_is_warned_of_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys, "_warned", set())
    session = requests_like()

    def look_up(text: str) -> Any:
        return session.sendall(b"")

    with pytest.warns(UserWarning, match=r"'look_up' cannot all be seen: .*session \(a socket"):
        first = key(look_up)
    assert key(look_up) == first


def test_a_class_of_the_notebook_and_one_that_was_imported_ask_the_same(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    text = (
        "import pydantic, pardspy_nb as pn\n"
        "class Product(pydantic.BaseModel):\n    name: str\n"
        "class Sig(pn.Signature):\n"
        '    """x"""\n'
        "    text: str = pn.InputField()\n"
        "    products: list[Product] = pn.OutputField()\n"
        "    best: Product | None = pn.OutputField()\n"
    )
    fixed = []
    for module in ("__main__", "reviews.schema"):
        made = types.ModuleType(module)
        with monkeypatch.context() as patched:
            patched.setitem(sys.modules, module, made)
            exec(text, made.__dict__)
        lm = pn.LM("m", base_url="http://127.0.0.1:9/v1", api_key="key")
        fixed.append(pn.Predict(made.Sig, lm).fixed)
    assert fixed[0] == fixed[1]
    assert "list of Product (name: text)" in str(fixed[0])


def test_times_that_differ_only_in_their_zone_are_different_inputs() -> None:
    def zone(at: pd.Timestamp) -> str:
        return str(at.tzinfo)

    times = [pd.Timestamp("2026-01-01", tz=tz) for tz in ("UTC", "Europe/London")]
    for _ in range(2):
        df = pn.run_parallel(zone, [{"at": at} for at in times], cache_key="v1", **QUIET)
        assert list(df["output"]) == ["UTC", "Europe/London"]


def test_compare_tells_its_modules_apart() -> None:
    def with_session(session: Any) -> Callable[..., dict[str, str]]:
        return lambda text: {"label": str(session.fileno())}

    modules = {name: with_session(requests_like()) for name in "ab"}
    with pytest.warns(UserWarning, match="cannot all be seen"):
        made = pn.compare(modules, {"text": ["1"]}, pred="label", cache_key="v1")
    labels = [df["label"][0] for df in made.frames.values()]
    assert labels == [module("")["label"] for module in modules.values()]


def test_rows_known_as_hopeless_are_not_asked_again(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    from support.scripted_server import Reply

    long = "This model's maximum context length is 8192 tokens"
    server.script = lambda marker, attempt: {
        1: Reply("refusal"),
        2: Reply("status", code=400, message=long),
        3: Reply("status", code=400, message="odd"),
    }.get(marker, Reply())
    rows = [f"row-{i}" for i in range(4)]
    first = pn.run_parallel(predict, rows, max_failures=None, **QUIET)
    assert first["error_type"].tolist()[1:] == [
        "RefusedOutputError",
        "ContextLengthError",
        "BadRequestError",
    ]
    asked = server.attempts.total()
    again = pn.run_parallel(predict, rows, max_failures=None, **QUIET)
    assert server.attempts.total() == asked + 1, "only the odd one"
    assert list(again["error_type"]) == list(first["error_type"])
    assert again["error"].str.contains("known since .*retry_hopeless=True asks again").sum() == 2
    metrics = again.parallel.metrics
    assert (metrics.failures, metrics.hopeless) == (3, 2)
    assert ("known hopeless", "2") in again.parallel.summary().figures
    assert "retry_hopeless=True" in again.parallel.summary()._repr_html_()
    server.script = lambda marker, attempt: Reply()
    pn.run_parallel(predict, rows, retry_hopeless=True, **QUIET)
    done = pn.run_parallel(predict, rows, **QUIET)
    assert done["cached"].all()


def test_a_retry_asks_hopeless_rows(predict: pn.Predict, server: ScriptedServer) -> None:
    from support.scripted_server import Reply

    server.script = lambda marker, attempt: Reply("refusal") if marker == 1 else Reply()
    df = pn.run_parallel(predict, ["row-0", "row-1"], max_failures=None, **QUIET)
    server.script = lambda marker, attempt: Reply()
    df.parallel.retry_failed()
    assert list(df["status"]) == ["ok", "ok"]


def test_a_remembered_repair_stays_known(
    predict: pn.Predict, server: ScriptedServer, fast_retries: None, store_path: Path
) -> None:
    from support.scripted_server import Reply

    server.script = lambda marker, attempt: Reply("garbage") if attempt == 1 else Reply()
    first = pn.run_parallel(predict, ["row-0"], **QUIET)
    again = pn.run_parallel(predict, ["row-0", "row-0"], **QUIET)
    assert first["repaired"].tolist() == ["asked again"]
    assert again["repaired"].tolist() == ["asked again"] * 2
    assert again["attempts"].tolist() == [2, 2]
    assert again["latency_ms"].tolist() == first["latency_ms"].tolist() * 2
