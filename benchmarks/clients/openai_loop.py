"""The yardstick: workers that call `AsyncOpenAI.chat.completions.create`, and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import openai
from common import SYSTEM, measure


async def work(url: str, reviews: Sequence[str], in_flight: int) -> list[Any]:
    client = openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0)
    answers: list[Any] = [None] * len(reviews)
    todo = iter(enumerate(reviews))

    async def worker() -> None:
        for number, review in todo:
            completion = await client.chat.completions.create(
                model="mock",
                messages=[{"role": "system", "content": SYSTEM},
                          {"role": "user", "content": review}],
            )  # fmt: skip
            answers[number] = completion.choices[0].message.content

    await asyncio.gather(*(worker() for _ in range(in_flight)))
    await client.close()
    return answers


def run(url: str, reviews: Sequence[str], in_flight: int) -> list[tuple[object, object]]:
    answers = map(json.loads, asyncio.run(work(url, reviews, in_flight)))
    return [(a["sentiment"], a["reason"]) for a in answers]


if __name__ == "__main__":
    measure(run)
