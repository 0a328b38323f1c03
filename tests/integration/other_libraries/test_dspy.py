"""`dspy.Module`s as they are, against running them row by row."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any, Literal

import dspy
import pytest
from support.scripted_server import COMPLETION_TOKENS, PROMPT_TOKENS, Reply, ScriptedServer

import pardspy_nb as pn

LABELS = ["positive", "neutral", "negative"]
QUIET: dict[str, Any] = {"progress": "none", "store": None}
TOKENS = PROMPT_TOKENS + COMPLETION_TOKENS


class Review(dspy.Signature):
    """Analyze customer review sentiment"""

    review: str = dspy.InputField(desc="Customer review text")
    sentiment: Literal["positive", "neutral", "negative"] = dspy.OutputField()
    reason: str = dspy.OutputField()


class Twice(dspy.Module):
    """Two steps of which the second sees the first; without a declared signature."""

    def __init__(self) -> None:
        super().__init__()
        self.label = dspy.Predict(Review)
        self.again = dspy.Predict(Review)

    def forward(self, review: str) -> Any:
        first = self.label(review=review)
        return self.again(review=f"{review} {first.sentiment}")


class TwiceAsync(Twice):
    async def aforward(self, review: str) -> Any:
        first = await self.label.acall(review=review)
        return await self.again.acall(review=f"{review} {first.sentiment}")


@pytest.fixture(autouse=True)
def quiet_dspy() -> Any:
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=False)


@pytest.fixture
def dlm(server: ScriptedServer) -> dspy.LM:
    return dspy.LM(
        "openai/gpt-4o-mini",
        api_base=server.url,
        api_key="sk-test-secret-key",
        cache=False,
        num_retries=3,
    )


MODULES = {
    "predict": lambda: dspy.Predict(Review),
    "chain": lambda: dspy.ChainOfThought(Review),
    "sync": Twice,
    "async": TwiceAsync,
}


@pytest.mark.parametrize("name", MODULES)
@pytest.mark.parametrize("way", ["context", "own"])
def test_results_and_usage_are_those_of_running_it_row_by_row(
    dlm: dspy.LM, server: ScriptedServer, name: str, way: str
) -> None:
    """The server counts; DSPy's own tracker counts the rows run one by one."""
    texts = [f"row-{i} is a review" for i in range(6)]
    adapter = dspy.JSONAdapter()
    reasoned = '{"reasoning": "so", "sentiment": "%s", "reason": "row-%d"}'
    server.script = lambda marker, attempt: Reply(content=reasoned % (LABELS[marker % 3], marker))
    module = MODULES[name]()
    if way == "own":
        module.set_lm(dlm)
    default = dlm if way == "context" else None
    with dspy.context(lm=default, adapter=adapter, track_usage=True):
        one_by_one = [module(review=text) for text in texts]
        tokens = [sum(of["total_tokens"] for of in p.get_lm_usage().values()) for p in one_by_one]
        before = server.billed_prompt + server.billed_completion
        df = pn.run_parallel(module, {"review": texts}, max_workers=4, **QUIET)
    billed = server.billed_prompt + server.billed_completion - before
    for column in one_by_one[0].toDict():
        assert list(df[column]) == [getattr(p, column) for p in one_by_one]
    assert list(df["total_tokens"]) == tokens
    assert df["total_tokens"].sum() == billed == before
    assert df["cost_usd"].sum() == pytest.approx(billed / TOKENS * (11 * 0.15 + 7 * 0.6) / 1e6)
    assert set(df["model"]) == {"openai/gpt-4o-mini"}
    if name in ("predict", "chain"):
        assert list(df["sentiment"].cat.categories) == LABELS
    assert len(dlm.history) >= 6  # the user's own LM is as it was
    assert dlm.num_retries == 3


def test_dspys_own_retries_are_off_and_ours_are_counted(
    dlm: dspy.LM, server: ScriptedServer, fast_retries: None
) -> None:
    def script(marker: int, attempt: int) -> Reply:
        if attempt < 3:
            return Reply("status", code=[429, 500][attempt - 1], headers={"retry-after": "0"})
        return Reply(content='{"sentiment": "neutral", "reason": "r"}')

    server.script = script
    with dspy.context(lm=dlm, adapter=dspy.JSONAdapter()):
        df = pn.run_parallel(dspy.Predict(Review), {"review": ["row-1", "row-2"]}, **QUIET)
    assert list(df["attempts"]) == [3, 3]
    assert dict(server.attempts) == {1: 3, 2: 3}
    assert list(df["total_tokens"]) == [TOKENS] * 2


def test_a_key_that_is_refused_ends_the_run(dlm: dspy.LM, server: ScriptedServer) -> None:
    server.script = lambda marker, attempt: Reply("status", code=401)
    module = dspy.Predict(Review)
    module.set_lm(dlm)
    rows = {"review": [f"row-{i}" for i in range(30)]}
    with pytest.raises(pn.RunStopped) as stopped:
        pn.run_parallel(module, rows, max_workers=2, max_failures=None, **QUIET)
    assert len(server.requests) <= 4
    assert len(stopped.value.df) == 30


def test_what_dspy_has_in_its_cache_costs_nothing(dlm: dspy.LM, server: ScriptedServer) -> None:
    dspy.configure_cache(enable_disk_cache=False, enable_memory_cache=True)
    server.script = lambda marker, attempt: Reply(content='{"sentiment": "neutral", "reason": "r"}')
    lm = dlm.copy(cache=True)
    with dspy.context(lm=lm, adapter=dspy.JSONAdapter()):
        for expected in (TOKENS, 0):
            df = pn.run_parallel(dspy.Predict(Review), {"review": ["row-8"]}, **QUIET)
            assert list(df["total_tokens"]) == [expected]
            assert (df["cost_usd"][0] > 0) == (expected > 0)
    assert len(server.requests) == 1


def test_wrong_inputs_are_refused_before_anything_is_sent(
    dlm: dspy.LM, server: ScriptedServer
) -> None:
    module = dspy.Predict(Review)
    module.set_lm(dlm)
    with pytest.raises(ValueError, match="revew"):
        pn.run_parallel(module, {"revew": ["a"]}, **QUIET)
    with pytest.raises(ValueError, match="must be str"):
        pn.run_parallel(module, {"review": [1]}, **QUIET)
    assert server.requests == []


def test_a_dspy_module_in_a_program_a_factory_pairs_and_best_of_n(
    dlm: dspy.LM, server: ScriptedServer
) -> None:
    server.script = lambda marker, attempt: Reply(content='{"sentiment": "neutral", "reason": "r"}')

    def make() -> Any:
        module = dspy.Predict(Review)
        module.set_lm(dlm)
        return module

    rows = {"review": ["row-1", "row-2"]}
    with dspy.context(adapter=dspy.JSONAdapter()):
        program = pn.Program([make(), lambda sentiment: {"loud": sentiment.upper()}])
        df = pn.run_parallel(program, rows, **QUIET)
        assert list(df["loud"]) == ["NEUTRAL"] * 2
        assert list(df["total_tokens"]) == [TOKENS] * 2
        made = pn.Parallel.from_factory(lambda i: make(), **QUIET)(rows)
        assert [c["sentiment"] for c in made.completions] == ["neutral"] * 2
        example = dspy.Example(review="row-3", sentiment="x").with_inputs("review")
        paired = pn.run_parallel([(make(), example), (make(), {"review": "row-4"})], **QUIET)
        assert list(paired["review"]) == ["row-3", "row-4"]
        best = pn.BestOfN(make(), 3, lambda inputs, p: float(p.sentiment == "neutral"))
        assert list(pn.run_parallel(best, rows, **QUIET)["total_tokens"]) == [3 * TOKENS] * 2


def test_a_subclass_with_a_forward_of_its_own_is_run_as_it_is(
    dlm: dspy.LM, server: ScriptedServer
) -> None:
    class Loud(dspy.ChainOfThought):
        def forward(self, **inputs: Any) -> Any:
            prediction = super().forward(**inputs)
            prediction.reason = prediction.reason.upper()
            return prediction

    answer = '{"reasoning": "so", "sentiment": "neutral", "reason": "r"}'
    server.script = lambda marker, attempt: Reply(content=answer)
    with dspy.context(lm=dlm, adapter=dspy.JSONAdapter()):
        df = pn.run_parallel(Loud(Review), {"review": ["row-1"]}, **QUIET)
    assert df["reason"].tolist() == ["R"]


def test_a_model_that_only_speaks_sync_is_called_in_threads() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that such LMs are on their way out

        class Own(dspy.BaseLM):
            def forward(self, prompt: Any = None, messages: Any = None, **more: Any) -> Any:
                from litellm import ModelResponse

                said = '{"sentiment": "neutral", "reason": "r"}'
                return ModelResponse(
                    choices=[{"message": {"content": said, "role": "assistant"}}],
                    model="own",
                    usage={"prompt_tokens": 3, "completion_tokens": 2, "total_tokens": 5},
                )

        with dspy.context(lm=Own("own"), adapter=dspy.JSONAdapter()):
            df = pn.run_parallel(dspy.Predict(Review), {"review": ["a", "b"]}, **QUIET)
    assert df["sentiment"].tolist() == ["neutral"] * 2, df["error"].tolist()
    assert df["total_tokens"].tolist() == [5, 5]


def test_an_awaited_run_and_a_store_with_a_key(dlm: dspy.LM, server: ScriptedServer) -> None:
    server.script = lambda marker, attempt: Reply(content='{"sentiment": "neutral", "reason": "r"}')
    module = dspy.Predict(Review)
    module.set_lm(dlm)

    async def twice() -> list[Any]:
        with dspy.context(adapter=dspy.JSONAdapter()):
            return [
                await pn.arun_parallel(module, ["row-1"], progress="none", cache_key="v1")
                for _ in range(2)
            ]

    first, second = asyncio.run(twice())
    assert (first["cached"][0], second["cached"][0]) == (False, True)
    assert second["sentiment"][0] == "neutral"


def test_examples_are_rows_and_their_inputs_reach_the_module() -> None:
    """As in DSPy's own tests of `Parallel`: an example's declared inputs are the row."""

    class Lower(dspy.Module):
        def forward(self, text: str) -> Any:
            return dspy.Prediction(answer=text.lower())

    rows = [dspy.Example(text=t, label="x").with_inputs("text") for t in ("A", "B")]
    for module in (Lower(), lambda text: {"answer": text.lower()}):
        for data in (rows, {"_batch": rows}, iter(rows)):
            df = pn.run_parallel(module, data, store=None, progress="none")
            assert list(df["text"]) == ["A", "B"]
            assert list(df["answer"]) == ["a", "b"]


def test_a_changed_prompt_of_a_dspy_module_is_another_question() -> None:
    from pardspy_nb.modules.module import from_module
    from pardspy_nb.store.keys import codecs_of

    def key(instructions: str) -> str:
        module = dspy.Predict(dspy.Signature("text -> label", instructions))
        digest: str = codecs_of(from_module(module), "v1")[0].base.hexdigest()
        return digest

    assert key("one") == key("one")
    assert key("one") != key("two")
