"""chatlas' parallel_chat_structured."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Literal

import chatlas
from common import SYSTEM, measure
from pydantic import BaseModel


class Sentiment(BaseModel):
    sentiment: Literal["positive", "neutral", "negative"]
    reason: str


def run(url: str, reviews: Sequence[str], in_flight: int) -> list[tuple[object, object]]:
    chat = chatlas.ChatOpenAICompletions(
        base_url=url, model="mock", api_key="none", system_prompt=SYSTEM
    )
    answers = asyncio.run(
        chatlas.parallel_chat_structured(
            chat, list(reviews), Sentiment, max_active=in_flight, rpm=10_000_000
        )
    )
    return [(a.data.sentiment, a.data.reason) for a in answers]


if __name__ == "__main__":
    measure(run)
