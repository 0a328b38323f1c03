"""Bespoke Curator's LLM, its cache off.

It counts tokens with a vocabulary it downloads; a stand-in that splits at blanks, which costs
less, takes its place, so that the comparison needs no network.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from typing import Any, Literal

os.environ |= {
    "CURATOR_DISABLE_CACHE": "1",
    "TELEMETRY_ENABLED": "false",
    "CURATOR_VIEWER": "0",
    "CURATOR_CACHE_DIR": tempfile.mkdtemp(),
    "OPENAI_API_KEY": "none",
    "HF_HUB_OFFLINE": "1",
}

import tiktoken


class Blanks:
    def encode(self, text: str, **more: Any) -> list[str]:
        return text.split()


tiktoken.get_encoding = tiktoken.encoding_for_model = lambda *args, **more: Blanks()

from bespokelabs import curator
from common import SYSTEM, measure
from pydantic import BaseModel


class Sentiment(BaseModel):
    sentiment: Literal["positive", "neutral", "negative"]
    reason: str


class Labeller(curator.LLM):  # its `response_format` is for models it knows
    def prompt(self, row: dict[str, Any]) -> Any:
        return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": row["review"]}]

    def parse(self, row: dict[str, Any], text: str) -> dict[str, Any]:
        answer = Sentiment.model_validate_json(text)
        return {**row, "sentiment": answer.sentiment, "reason": answer.reason}


def run(url: str, reviews: Sequence[str], in_flight: int) -> list[tuple[object, object]]:
    labeller = Labeller(
        model_name="mock",
        backend="openai",
        backend_params={
            "base_url": url,
            "max_concurrent_requests": in_flight,
            "max_retries": 1,
            "max_requests_per_minute": 10_000_000,
            "max_tokens_per_minute": 10_000_000_000,
        },
    )
    rows = labeller([{"number": i, "review": review} for i, review in enumerate(reviews)])
    rows = getattr(rows, "dataset", rows)
    by_number = {row["number"]: (row["sentiment"], row["reason"]) for row in rows}
    return [by_number[i] for i in range(len(reviews))]


if __name__ == "__main__":
    measure(run)
