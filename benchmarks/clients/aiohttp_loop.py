"""The floor: workers that post with aiohttp and read the JSON, and nothing else."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import aiohttp
from common import measure, work

HEADERS = {"authorization": "Bearer none"}


async def main(url: str, reviews: Sequence[str], in_flight: int) -> list[tuple[object, object]]:
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, headers=HEADERS) as session:

        async def ask(messages: Any) -> str:
            body = {"model": "mock", "messages": messages}
            async with session.post(url + "/chat/completions", json=body) as response:
                answer = await response.json()
            return str(answer["choices"][0]["message"]["content"])

        return await work(ask, reviews, in_flight)


def run(url: str, reviews: Sequence[str], in_flight: int) -> list[tuple[object, object]]:
    return asyncio.run(main(url, reviews, in_flight))


if __name__ == "__main__":
    measure(run)
