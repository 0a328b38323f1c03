"""The public API as users type it. Checked by mypy, never run."""

from __future__ import annotations

import asyncio
from typing import Any, Literal

import pandas as pd

import pardspy_nb as pn


class Review(pn.Signature):
    """Analyze customer review sentiment"""

    review: str = pn.InputField("Customer review text")
    sentiment: Literal["positive", "negative"] = pn.OutputField("Overall sentiment")


signature: pn.Signature = (
    pn.Signature("Analyze customer review sentiment")
    .add_input("review", str, "Customer review text")
    .add_class_output("sentiment", ["positive", "negative"], "Overall sentiment")
    .add_output("reason", str, "Brief explanation", optional=True)
)
lm = pn.LM("gpt-5.4-nano", temperature=0, max_tokens=100, timeout_s=30, price=(0.1, 0.4), seed=1)
predict = pn.Predict(signature, lm, demos=[{"review": "good", "sentiment": "positive"}])
thoughtful = pn.ChainOfThought(Review, lm, instructions="Judge the tone", confidence=True)
prediction: pn.Prediction = predict(review="good")
outputs: dict[str, Any] = prediction.outputs
usage: pn.Usage | None = prediction.usage

reviews = pd.DataFrame({"review": ["good", "bad"]})
df = pn.run_parallel(predict, reviews, max_workers=8, max_failures=0.1, rpm=100, store=None)
pn.run_parallel(predict, {"review": ["good", "bad"]}, repeat=3, progress="none")
pn.run_parallel(predict, {"_batch": [{"review": "good"}]}, max_cost_usd=0.5, on_budget="return")
pn.run_parallel([(predict, {"review": "good"})], hedge=0.95)


async def awaited() -> Any:
    await predict.acall(review="good")
    return await pn.arun_parallel(predict, reviews, columns={"review": "review"})


asyncio.run(awaited())
run: pn.Run = pn.start_parallel(predict, reviews, truth="human")
run.pause()
run.resume()
run.max_workers = "auto"
run.max_workers = 32
run.drop_stragglers()
metrics: pn.ParallelMetrics = run.metrics
for completion in run.iter():
    completion.outputs["sentiment"]
run.cancel()
last: pn.Run | None = pn.last_run()

parallel = pn.Parallel(predict, max_workers=3, max_failures=1, only_successful=True)
answer: pn.Prediction = parallel({"review": ["good"]})
pn.Parallel.from_factory(lambda i: pn.Predict(Review, history=pn.History(4)))
pn.Parallel.from_instances([predict, thoughtful], repeat=2)

pn.Program([predict, lambda sentiment: {"loud": sentiment.upper()}])
pn.BestOfN(predict, 3, lambda inputs, made: len(made.outputs["reason"]))
pn.Refine(predict, 3, lambda inputs, made: 1.0, threshold=0.5)
file_metrics: pn.ParallelMetrics = pn.run_to_parquet(predict, "in.parquet", "out.parquet")
job: pn.BatchJob = pn.submit_batch(predict, reviews, completion_window="24h")
jobs: list[pn.BatchJob] = pn.batch_jobs()

shown: pn.Preview = pn.preview(predict, reviews, n=2)
projected: pn.Estimate = pn.estimate(predict, reviews, sample=20)
judged: pn.Evaluation = pn.evaluate(df, truth="human", pred="sentiment")
compared: pn.Comparison = pn.compare({"a": predict, "b": thoughtful}, reviews, truth="human")
pn.diff(df, df)
pn.plot_latency(df).set_title("latency")
pn.plot_counts(df, "sentiment")
pn.store.info().answers + pn.store.clear(model="old") + pn.store.export("answers.parquet")

try:
    parallel(review=["good"])
except pn.TooManyFailures as stopped:
    stopped.df.head()
except (pn.BudgetExceeded, pn.FailFast, pn.AllFailed, pn.RunStopped) as stopped:
    len(stopped.errors)
except pn.ParallelError:
    raise
