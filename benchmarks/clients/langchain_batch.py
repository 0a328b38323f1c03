"""LangChain's `batch` over ChatOpenAI with structured output."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from common import SYSTEM, measure
from langchain_openai import ChatOpenAI
from pydantic import BaseModel


class Sentiment(BaseModel):
    sentiment: Literal["positive", "neutral", "negative"]
    reason: str


def run(url: str, reviews: Sequence[str], in_flight: int) -> list[tuple[object, object]]:
    model = ChatOpenAI(model="mock", base_url=url, api_key="none", max_retries=0)
    chain = model.with_structured_output(Sentiment, method="json_schema")
    prompts = [[("system", SYSTEM), ("user", review)] for review in reviews]
    answers = chain.batch(prompts, config={"max_concurrency": in_flight})
    return [(a.sentiment, a.reason) for a in answers]


if __name__ == "__main__":
    measure(run)
