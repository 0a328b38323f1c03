"""litellm.batch_completion, answers validated by pydantic."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import litellm
from common import SYSTEM, measure
from pydantic import BaseModel


class Sentiment(BaseModel):
    sentiment: Literal["positive", "neutral", "negative"]
    reason: str


def run(url: str, reviews: Sequence[str], in_flight: int) -> list[tuple[object, object]]:
    prompts = [
        [{"role": "system", "content": SYSTEM}, {"role": "user", "content": review}]
        for review in reviews
    ]
    responses = litellm.batch_completion(
        model="openai/mock",
        messages=prompts,
        max_workers=in_flight,
        api_base=url,
        api_key="none",
        num_retries=0,
    )
    answers = [Sentiment.model_validate_json(r.choices[0].message.content) for r in responses]
    return [(a.sentiment, a.reason) for a in answers]


if __name__ == "__main__":
    measure(run)
