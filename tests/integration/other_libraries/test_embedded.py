"""A DSPy module on the embedded model."""

from __future__ import annotations

from typing import Any

import dspy
import pytest

import pardspy_nb as pn

pytestmark = pytest.mark.model

QUIET: dict[str, Any] = {"progress": "none", "store": None}


def test_a_real_model_answers_a_dspy_module() -> None:
    """The embedded model behind `dspy.LM`, with the same results as one by one."""
    where, key = pn.LM("local").serve()
    lm = dspy.LM(
        "openai/embedded", api_base=where, api_key=key, cache=False, temperature=0.0, max_tokens=60
    )
    module = dspy.Predict("review -> mood: Literal['good', 'bad']")
    texts = ["I love it", "It broke at once"]
    with dspy.context(lm=lm, adapter=dspy.JSONAdapter(), track_usage=True):
        one_by_one = [module(review=text) for text in texts]
        df = pn.run_parallel(module, {"review": texts}, **QUIET)
    assert list(df["mood"]) == [p.mood for p in one_by_one]
    assert list(df["completion_tokens"]) == [
        sum(of["completion_tokens"] for of in p.get_lm_usage().values()) for p in one_by_one
    ]
