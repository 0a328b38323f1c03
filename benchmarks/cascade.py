"""What a cascade costs and how often it agrees with the strong model, for several targets.

The models are scripted: the strong one knows the label; the cheap one is right with the
probability that it reports (`calibrated`), is surer than it should be (`overconfident`), or reports
a confidence that says nothing (`random`). Each line is the median of some tables.

Run: python benchmarks/cascade.py [rows] [tables]
"""

from __future__ import annotations

import json
import math
import random
import statistics
import sys
from typing import Any

import pardspy_nb as pn

LABELS = ["positive", "neutral", "negative"]
KINDS = ("calibrated", "overconfident", "random")
PRICES = {"cheap": 0.1e-3, "strong": 2e-3}  # USD a call


class Scripted:
    """A model whose answer to a row is drawn once, from the row's number."""

    def __init__(self, model: str, kind: str, seed: int) -> None:
        self.model, self.kind, self.seed = model, kind, seed

    async def complete(self, messages: list[Any], **params: Any) -> pn.Completion:
        """Answer, and report the label's probability."""
        number = int(messages[-1]["content"].rsplit(" ", 1)[1])
        draw = random.Random(self.seed * 1_000_003 + number)
        label, sure = draw.choice(LABELS), 1.0
        if self.model == "cheap":
            sure, is_right = self._drawn(draw)
            label = label if is_right else LABELS[(LABELS.index(label) + 1) % 3]
        return _completion(label, sure, self.model)

    def _drawn(self, draw: random.Random) -> tuple[float, bool]:
        true = 1 - 0.6 * draw.random() ** 2  # how often it is right on rows like this one
        is_right = draw.random() < true
        if self.kind == "random":
            return 0.4 + 0.6 * draw.random(), is_right
        return (true if self.kind == "calibrated" else true**0.25), is_right


def _completion(label: str, sure: float, model: str) -> pn.Completion:
    others = [
        {"token": o, "logprob": math.log((1 - sure) / 2 + 1e-12)} for o in LABELS if o != label
    ]
    own = {"token": label, "logprob": math.log(min(sure, 1 - 1e-9))}
    tokens = [
        {"token": '{"sentiment":"', "logprob": 0.0},
        {**own, "top_logprobs": [own, *others]},
        {"token": '"}', "logprob": 0.0},
    ]
    usage = pn.Usage(50, 5, 55, PRICES[model], 0.0)
    text = json.dumps({"sentiment": label}, separators=(",", ":"))
    return pn.Completion(text, usage, model, "stop", None, tokens)


def main() -> None:
    """Print one line for each kind of model and each target."""
    rows = int(sys.argv[1]) if len(sys.argv) > 1 else 3000
    tables = int(sys.argv[2]) if len(sys.argv) > 2 else 5
    signature = (
        pn.Signature("Sentiment").add_input("text", str).add_class_output("sentiment", LABELS)
    )
    print("| confidence | target | kept | of these as the strong model | cost, strong alone = 1 |")
    print("|---|---|---|---|---|")
    for kind in KINDS:
        for target in (0.8, 0.9, 0.95, 0.99):
            kept, same, cost = [], [], []
            for seed in range(tables):
                models = [pn.Predict(signature, Scripted(m, kind, seed)) for m in PRICES]
                cascade = pn.Cascade(models, on="sentiment", target=target)
                texts = [f"text {i}" for i in range(rows)]
                df = pn.run_parallel(cascade, texts, store=None, progress="none", max_workers=64)
                mine = df[df["stage"] == 1]
                strong = [random.Random(seed * 1_000_003 + i).choice(LABELS) for i in mine.index]
                kept.append(len(mine) / rows)
                same.append((mine["sentiment"].astype(str) == strong).mean() if len(mine) else None)
                cost.append(df["cost_usd"].sum() / (rows * PRICES["strong"]))
            known = [s for s in same if s is not None]
            agree = f"{statistics.median(known):.1%}" if known else "–"
            print(
                f"| {kind} | {target:.0%} | {statistics.median(kept):.0%} | {agree} | "
                f"{statistics.median(cost):.2f} |"
            )


if __name__ == "__main__":
    main()
