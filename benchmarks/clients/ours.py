"""pardspy_nb: a validated Predict, progress on, the frame built."""

from __future__ import annotations

from collections.abc import Sequence

from common import LABELS, measure

import pardspy_nb as pn

SIGNATURE = (
    pn.Signature("Analyze customer review sentiment")
    .add_input("review", str)
    .add_class_output("sentiment", LABELS)
    .add_output("reason", str)
)


def run(url: str, reviews: Sequence[str], in_flight: int) -> list[tuple[object, object]]:
    predict = pn.Predict(SIGNATURE, pn.LM("mock", base_url=url, api_key="none", price=(1, 4)))
    df = pn.run_parallel(predict, list(reviews), max_workers=in_flight, store=None)
    return list(zip(df["sentiment"], df["reason"], strict=True))


if __name__ == "__main__":
    measure(run)
