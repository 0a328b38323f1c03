"""docs/benchmarks.json as a table and a plot: `python benchmarks/report.py`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

DOCS = Path(__file__).parent.parent / "docs"
BEGIN, END = "<!-- from benchmarks.json -->", "<!-- until here -->"
NAMES = {
    "ours": "**pardspy_nb**",
    "aiohttp_loop": "aiohttp by hand",
    "curator_llm": "Curator",
    "openai_loop": "bare `AsyncOpenAI` loop",
    "langchain_batch": "LangChain `batch`",
    "chatlas_parallel": "chatlas `parallel_chat_structured`",
    "litellm_batch": "litellm `batch_completion`",
    "dspy_parallel": "`dspy.Parallel`",
}


def table(about: dict[str, Any]) -> str:
    lines = []
    for name, found in about["settings"].items():
        yardstick = found["openai_loop"]["cpu_ms"]
        lines += [
            f"### {name}",
            "",
            "| | CPU ms a row | (lowest to highest) | × bare client | "
            "rows/s | really in flight | answers right |",
            "|---|---:|---:|---:|---:|---:|---|",
        ]
        for client, r in sorted(found.items(), key=lambda item: item[1]["cpu_ms"]):
            lines.append(
                f"| {NAMES[client]} ({about['versions'][client]}) | {r['cpu_ms']:.2f} | "
                f"{r['cpu_ms_from']:.2f} to {r['cpu_ms_to']:.2f} | "
                f"{r['cpu_ms'] / yardstick:.2f} | {r['rows_per_s']:,.0f} | {r['in_flight']:.0f} | "
                f"{'all' if r['right'] else 'NO'} |"
            )
        lines.append("")
    head = (
        f"Measured on {about['date']}: {about['machine']}, Python {about['python']}, medians of "
        f"{about['rounds']} interleaved runs."
    )
    return "\n".join([head, "", *lines])


def plot(about: dict[str, Any]) -> None:
    import matplotlib.pyplot as plt

    fig, axes = plt.subplots(1, len(about["settings"]), figsize=(11, 3.6), sharey=True)
    order = sorted(
        NAMES,
        key=lambda c: -next(iter(about["settings"].values())).get(c, {"cpu_ms": 99})["cpu_ms"],
    )
    for ax, (name, found) in zip(axes, about["settings"].items(), strict=True):
        shown = [c for c in order if c in found]
        values = [found[c]["cpu_ms"] for c in shown]
        colours = ["tab:blue" if c == "ours" else "0.7" for c in shown]
        bars = ax.barh([NAMES[c].strip("*").replace("`", "") for c in shown], values, color=colours)
        ax.bar_label(bars, fmt="%.2f", padding=3)
        ax.set(xscale="log", title=name, xlabel="CPU ms a row (log scale)", xlim=(0.1, 40))
        ax.spines[["top", "right"]].set_visible(False)
    fig.tight_layout()
    (DOCS / "images").mkdir(exist_ok=True)
    fig.savefig(DOCS / "images" / "benchmarks.png", dpi=110)


def main() -> None:
    about = json.loads((DOCS / "benchmarks.json").read_text())
    page = DOCS / "benchmarks.md"
    before, _, rest = page.read_text().partition(BEGIN)
    after = rest.partition(END)[2]
    page.write_text(f"{before}{BEGIN}\n\n{table(about)}\n{END}{after}")
    plot(about)


if __name__ == "__main__":
    main()
