"""dspy.Parallel over dspy.Predict."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import dspy
from common import measure


class Sentiment(dspy.Signature):
    """Analyze customer review sentiment"""

    review: str = dspy.InputField()
    sentiment: Literal["positive", "neutral", "negative"] = dspy.OutputField()
    reason: str = dspy.OutputField()


def run(url: str, reviews: Sequence[str], in_flight: int) -> list[tuple[object, object]]:
    lm = dspy.LM("openai/mock", api_base=url, api_key="none", cache=False, num_retries=0)
    dspy.configure(lm=lm, adapter=dspy.JSONAdapter())
    predict = dspy.Predict(Sentiment)
    pairs = [(predict, dspy.Example(review=r).with_inputs("review")) for r in reviews]
    answers = dspy.Parallel(num_threads=in_flight, disable_progress_bar=False)(pairs)
    return [(a.sentiment, a.reason) for a in answers]


if __name__ == "__main__":
    measure(run)
