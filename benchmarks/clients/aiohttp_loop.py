"""The floor: workers that post with aiohttp and read the JSON, and nothing else."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Sequence
from typing import Any

import aiohttp
from common import SYSTEM, measure


async def work(url: str, reviews: Sequence[str], in_flight: int) -> list[Any]:
    answers: list[Any] = [None] * len(reviews)
    todo = iter(enumerate(reviews))
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector) as session:

        async def worker() -> None:
            for number, review in todo:
                body = {
                    "model": "mock",
                    "messages": [{"role": "system", "content": SYSTEM},
                                 {"role": "user", "content": review}],
                }  # fmt: skip
                headers = {"authorization": "Bearer none"}
                async with session.post(
                    url + "/chat/completions", json=body, headers=headers
                ) as response:
                    answer = await response.json()
                answers[number] = answer["choices"][0]["message"]["content"]

        await asyncio.gather(*(worker() for _ in range(in_flight)))
    return answers


def run(url: str, reviews: Sequence[str], in_flight: int) -> list[tuple[object, object]]:
    answers = map(json.loads, asyncio.run(work(url, reviews, in_flight)))
    return [(a["sentiment"], a["reason"]) for a in answers]


if __name__ == "__main__":
    measure(run)
