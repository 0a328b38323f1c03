"""What every client of the comparison is asked, and how it is measured.

    python clients/NAME.py URL ROWS IN_FLIGHT

prints one line of JSON. CPU seconds are those of this process, threads and all, after a small
first run that pays for imports and lazy set-up.
"""

from __future__ import annotations

import asyncio
import json
import resource
import sys
import time
from collections.abc import Awaitable, Callable, Sequence

LABELS = ("positive", "neutral", "negative")
SYSTEM = "Analyze customer review sentiment. Answer with one JSON object."
WARM_UP = 100


def review(number: int) -> str:
    return f"row-{number}: a good thing, it came in time and does what it should."


def correct(number: int, sentiment: object, reason: object) -> bool:
    return sentiment == LABELS[number % 3] and reason == f"because of row-{number}"


async def work(
    ask: Callable[[list[dict[str, str]]], Awaitable[str]], reviews: Sequence[str], in_flight: int
) -> list[tuple[object, object]]:
    """Workers over one iterator, and nothing else: `ask(messages)` gives an answer's text."""
    answers = [""] * len(reviews)
    todo = iter(enumerate(reviews))

    async def worker() -> None:
        for number, review in todo:
            answers[number] = await ask(
                [{"role": "system", "content": SYSTEM}, {"role": "user", "content": review}]
            )

    await asyncio.gather(*(worker() for _ in range(in_flight)))
    return [(a["sentiment"], a["reason"]) for a in map(json.loads, answers)]


def measure(run: Callable[[str, Sequence[str], int], Sequence[tuple[object, object]]]) -> None:
    """`run(url, reviews, in_flight)` gives (sentiment, reason) of each row, in order."""
    url, rows, in_flight = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    run(url, [review(i) for i in range(WARM_UP)], in_flight)
    reviews = [review(i) for i in range(rows)]
    base_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    cpu, wall = time.process_time(), time.perf_counter()
    answers = run(url, reviews, in_flight)
    cpu, wall = time.process_time() - cpu, time.perf_counter() - wall
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    right = sum(correct(i, *answer) for i, answer in enumerate(answers))
    print(
        json.dumps(
            {
                "cpu_ms": cpu / rows * 1e3,
                "rows_per_s": rows / wall,
                "right": right,
                "rows": rows,
                "mb": peak_mb - base_mb,
            }
        )
    )
