"""Signatures without inputs, examples of DSPy, and what is refused by name."""

from __future__ import annotations

from typing import Any

import pytest
from support.scripted_server import ScriptedServer

import pardspy_nb as pn

QUIET: Any = {"store": None, "progress": "none"}


@pytest.fixture
def maker(lm: pn.LM) -> pn.Predict:
    signature = pn.Signature("Make up a review").add_class_output(
        "sentiment", ["positive", "neutral", "negative"]
    )
    return pn.Predict(signature.add_output("reason"), lm)


def test_rows_are_made_by_a_signature_without_inputs(
    maker: pn.Predict, server: ScriptedServer
) -> None:
    for data, options, rows in (
        ({"_batch": [{}, {}, {}]}, {}, 3),
        ([{}, {}], {}, 2),
        ({}, {"repeat": 10}, 10),
        ({}, {}, 1),
    ):
        server.requests.clear()
        df = pn.run_parallel(maker, data, **options, **QUIET)
        assert (len(df), len(server.requests)) == (rows, rows), "each is asked on its own"
    assert server.requests[0]["messages"][-1]["content"] == "Answer now."
    server.requests.clear()
    made = pn.Parallel.from_instances([maker, maker, maker], **QUIET)()
    assert len(made.completions) == len(server.requests) == 3
    assert maker().sentiment in ("positive", "neutral", "negative")


def test_parallel_tells_its_signature(predict: pn.Predict) -> None:
    for parallel in (
        pn.Parallel(predict),
        pn.Parallel.from_instances([predict]),
        pn.Parallel.from_factory(lambda i: predict),
    ):
        assert parallel.signature == predict.signature
    assert pn.Parallel(lambda text: text).signature is None


class Example:
    """As `dspy.Example`."""

    def __init__(self, declares: bool = True, **values: Any) -> None:
        self._input_keys = {"review"} if declares else None
        self._values = values

    def toDict(self) -> dict[str, Any]:  # noqa: N802
        return self._values

    def inputs(self) -> Any:
        if self._input_keys is None:
            raise ValueError("Inputs have not been set for this example.")
        return {name: self._values[name] for name in self._input_keys}


def test_examples_are_rows(predict: pn.Predict) -> None:
    labelled = [Example(review=f"row-{i}", label="x") for i in range(3)]
    for rows in (labelled, {"_batch": labelled}, iter(labelled)):
        df = pn.run_parallel(predict, rows, **QUIET)
        assert list(df["review"]) == ["row-0", "row-1", "row-2"]
    bare = [Example(False, review="row-1")]
    assert list(pn.run_parallel(predict, bare, **QUIET)["review"]) == ["row-1"]
    with pytest.raises(ValueError, match=r"row 0 has unknown \['label'\]"):
        pn.run_parallel(predict, [Example(False, review="row-1", label="x")], **QUIET)


def test_generator_functions_are_refused_by_name() -> None:
    def yields(text: str) -> Any:
        yield text

    async def yields_async(text: str) -> Any:
        yield text

    class Callable:
        def __call__(self, text: str) -> Any:
            yield text

    for module in (yields, yields_async, Callable()):
        with pytest.raises(TypeError, match="is a generator function, which yields"):
            pn.run_parallel(module, ["a"], **QUIET)
    df = pn.run_parallel(lambda text: (c for c in text), ["a"], max_failures=None, **QUIET)
    assert "returned a generator as 'output'" in df["error"][0]


@pytest.mark.parametrize(
    ("column", "words"),
    [
        ({"a", "b"}, "is a set, which has no order"),
        (frozenset("ab"), "is a frozenset"),
        ({"a": 1}.keys(), "is a dict_keys"),
        ({"a": "x"}.values(), "is a dict_values, which is not a list"),
        ((c for c in "ab"), "is a generator, which is not a list"),
        (map(str, [1, 2]), "is a map"),
    ],
)
def test_what_is_no_list_is_refused_as_a_column(column: Any, words: str) -> None:
    with pytest.raises(TypeError, match=rf"input 'text' {words}.*list\(…\)"):
        pn.run_parallel(lambda text: text, {"text": column}, **QUIET)


def test_a_retry_of_an_error_that_no_row_has_says_so() -> None:
    def fail(text: str) -> str:
        raise ValueError("bad")

    df = pn.run_parallel(fail, ["a", "b"], max_failures=None, **QUIET)
    with pytest.warns(UserWarning, match=r"no failed row has .*'Timeout'.*ValueError \(2 rows\)"):
        df.parallel.retry_failed(error="Timeout")


def test_long_errors_are_shown_short_and_kept_whole() -> None:
    def fail(text: str) -> str:
        raise ValueError("x" * 1_000_000)

    with pytest.raises(pn.TooManyFailures) as info:
        pn.run_parallel(fail, ["a"], **QUIET)
    assert len(str(info.value)) < 2000
    assert "(1,000,000 characters)" in str(info.value)
    assert info.value.__cause__ is None, "a traceback would print it"
    assert len(info.value.df["error"][0]) == 1_000_000
    assert len(info.value.df.parallel.summary()._repr_html_()) < 20_000
    assert list(info.value.df.parallel.failures.columns[:3]) == ["status", "error_type", "error"]
