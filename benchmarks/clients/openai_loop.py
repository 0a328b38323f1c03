"""The yardstick: workers that call `AsyncOpenAI.chat.completions.create`, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import openai
from common import measure, work


async def main(url: str, reviews: Sequence[str], in_flight: int) -> list[tuple[object, object]]:
    async with openai.AsyncOpenAI(base_url=url, api_key="none", max_retries=0) as client:

        async def ask(messages: Any) -> str:
            completion = await client.chat.completions.create(model="mock", messages=messages)
            return completion.choices[0].message.content or ""

        return await work(ask, reviews, in_flight)


def run(url: str, reviews: Sequence[str], in_flight: int) -> list[tuple[object, object]]:
    return asyncio.run(main(url, reviews, in_flight))


if __name__ == "__main__":
    measure(run)
