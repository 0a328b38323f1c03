"""LangChain runnables as they are."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pytest
from langchain_core.output_parsers import StrOutputParser
from langchain_core.prompts import ChatPromptTemplate, PromptTemplate
from langchain_core.runnables import RunnableLambda, RunnablePassthrough
from langchain_openai import ChatOpenAI
from pydantic import BaseModel
from support.scripted_server import COMPLETION_TOKENS, PROMPT_TOKENS, Reply, ScriptedServer

import pardspy_nb as pn

QUIET: dict[str, Any] = {"progress": "none", "store": None}
TOKENS = PROMPT_TOKENS + COMPLETION_TOKENS


class Mood(BaseModel):
    sentiment: Literal["positive", "neutral", "negative"]
    reason: str


@pytest.fixture
def chat(server: ScriptedServer) -> ChatOpenAI:
    return ChatOpenAI(
        model="gpt-4o-mini", base_url=server.url, api_key="sk-test-key", max_retries=0
    )


@pytest.fixture
def prompt() -> ChatPromptTemplate:
    return ChatPromptTemplate.from_messages([("system", "Label"), ("user", "{review} of {brand}")])


def test_a_chain_is_run_as_it_is_with_its_usage(
    chat: ChatOpenAI, prompt: ChatPromptTemplate, server: ScriptedServer
) -> None:
    rows = {"review": [f"row-{i}" for i in range(6)], "brand": "x"}
    typed = prompt | chat.with_structured_output(Mood)
    df = pn.run_parallel(typed, rows, max_workers=3, **QUIET)
    assert list(df["reason"]) == rows["review"]
    assert list(df["sentiment"].cat.categories) == ["positive", "neutral", "negative"]
    assert list(df["total_tokens"]) == [TOKENS] * 6
    assert df["cost_usd"].sum() == pytest.approx(6 * (11 * 0.15 + 7 * 0.6) / 1e6)
    one = asyncio.run(typed.ainvoke({"review": "row-2", "brand": "x"}))
    assert (df["sentiment"][2], df["reason"][2]) == (one.sentiment, one.reason)

    text = pn.run_parallel(prompt | chat | StrOutputParser(), rows, **QUIET)
    assert "row-3" in text["output"][3]
    assert list(text["total_tokens"]) == [TOKENS] * 6


def test_a_bare_model_and_a_lambda(chat: ChatOpenAI, server: ScriptedServer) -> None:
    df = pn.run_parallel(chat, ["row-1", "row-2"], **QUIET)
    assert list(df.columns[:2]) == ["input", "output"]
    assert "row-1" in df["output"][0]
    assert list(df["finish_reason"]) == ["stop"] * 2

    async def later(given: Any) -> Any:
        return {"late": given["text"]}

    assert list(pn.run_parallel(RunnableLambda(later), {"text": ["a"]}, **QUIET)["late"]) == ["a"]
    upper = RunnableLambda(lambda given: {"loud": given["text"].upper()})
    assert list(pn.run_parallel(upper, {"text": ["a", "b"]}, **QUIET)["loud"]) == ["A", "B"]


def test_a_chain_that_takes_one_bare_value_gets_it() -> None:
    rag = {"ctx": lambda question: "C", "q": RunnablePassthrough()} | PromptTemplate.from_template(
        "{ctx} {q}"
    )
    df = pn.run_parallel(rag, ["x"], **QUIET)
    assert df["text"].tolist() == [rag.invoke("x").text]

    async def later(given: Any) -> Any:
        return {"late": given["text"]}

    again = RunnableLambda(later).with_retry()
    assert list(pn.run_parallel(again, {"text": ["a"]}, **QUIET)["late"]) == ["a"]


def test_failures_are_tried_again_by_us(
    chat: ChatOpenAI, prompt: ChatPromptTemplate, server: ScriptedServer, fast_retries: None
) -> None:
    server.script = lambda marker, attempt: Reply("status", code=500) if attempt == 1 else Reply()
    df = pn.run_parallel(prompt | chat, {"review": ["row-0"], "brand": ["b"]}, **QUIET)
    assert list(df["attempts"]) == [2]
    with pytest.raises(ValueError, match="brand"):
        pn.run_parallel(prompt | chat, {"review": ["row-0"]}, **QUIET)
