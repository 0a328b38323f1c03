"""Before a run: what would be sent, what it would cost. After it: what made it, what changed."""

from __future__ import annotations

import json
import random
import statistics
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn
from pardspy_nb.core.intervals import wilson
from pardspy_nb.runs.estimate import _sum_of, _t
from pardspy_nb.tables.merge import places, spans

QUIET: dict[str, Any] = {"progress": "none"}


# -- preview --------------------------------------------------------------------------------------


def test_preview_shows_exactly_what_is_sent_and_sends_nothing(
    predict: pn.Predict, server: ScriptedServer, reviews: list[str]
) -> None:
    preview = pn.preview(predict, reviews, n=2)
    assert not server.requests
    pn.run_parallel(predict, reviews[:2], max_workers=1, **QUIET)
    assert list(preview.requests) == server.requests
    assert "row-0 is a review" in repr(preview)
    assert "row-1 is a review" in preview._repr_html_()
    assert "sk-test-secret-key" not in repr(preview) + preview._repr_html_()


def test_preview_escapes_and_refuses_like_a_run(predict: pn.Predict) -> None:
    assert "<script>" not in pn.preview(predict, ["<script>"])._repr_html_()
    with pytest.raises(ValueError, match="missing"):
        pn.preview(predict, {"review": [None]})
    with pytest.raises(ValueError, match="no rows"):
        pn.preview(predict, [])
    with pytest.raises(TypeError, match="cannot be seen"):
        pn.preview(lambda x: x, ["a"])


def test_preview_of_the_embedded_model_and_a_custom_one_needs_neither(
    signature: pn.Signature,
) -> None:
    assert "repeat_penalty" in repr(pn.preview(pn.Predict(signature, pn.LM("local")), ["x"]))

    class Custom:
        async def complete(self, messages: Any, **more: Any) -> Any:
            raise AssertionError

    assert "schema" in repr(pn.preview(pn.Predict(signature, Custom()), ["x"]))


# -- estimate -------------------------------------------------------------------------------------


def test_an_estimate_is_near_the_truth_and_its_pilot_is_not_paid_again(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    def script(marker: int, attempt: int) -> Reply:
        dice = random.Random(marker)
        if marker % 10 == 3:
            return Reply("status", code=400)
        return Reply(usage=(dice.randint(100, 300), dice.randint(10, 50), 0))

    server.script = script
    rows = [f"row-{i}" for i in range(400)]
    estimate = pn.estimate(predict, rows, sample=40, seed=2, **QUIET)
    assert len(server.requests) == 40
    assert len(estimate.pilot) == 40
    assert estimate.rows == 400
    pilot_ok = int((estimate.pilot["status"] == "ok").sum())
    assert (estimate.remembered, estimate.to_ask) == (pilot_ok, 400 - pilot_ok)

    df = pn.run_parallel(predict, rows, max_failures=None, **QUIET)
    tokens, cost = df["total_tokens"].sum(), df["cost_usd"].sum()
    assert df["cached"].sum() == pilot_ok
    assert estimate.tokens is not None
    assert estimate.cost_usd is not None
    assert estimate.tokens.low < tokens < estimate.tokens.high
    assert estimate.cost_usd.low < cost < estimate.cost_usd.high
    assert estimate.tokens.high < 2 * estimate.tokens.expected
    assert estimate.failure_rate.low < 0.1 < estimate.failure_rate.high
    assert estimate.time_s is not None
    assert estimate.time_s.expected > 0


def test_a_second_estimate_costs_nothing_and_tells_the_same(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    rows = [f"row-{i}" for i in range(100)] + ["row-5"] * 30
    first = pn.estimate(predict, rows, sample=10, **QUIET)
    server.requests.clear()
    second = pn.estimate(predict, rows, sample=10, **QUIET)
    assert not server.requests
    assert second.pilot_cost_usd == 0
    assert (second.tokens, second.cost_usd) == (first.tokens, first.cost_usd)
    assert second.time_s == pytest.approx(first.time_s, rel=0.5)
    assert second.equal + second.remembered + second.to_ask == 130
    assert second.equal in (29, 30, 0), "all of row-5, but for the one that is asked"
    assert "130" in repr(second)
    assert "95 %" in second._repr_html_()


def test_the_pilot_is_a_random_choice_in_order(predict: pn.Predict, server: ScriptedServer) -> None:
    rows = [f"row-{i}" for i in range(200)]
    chosen = [
        pn.estimate(predict, rows, seed=seed, store=None, **QUIET).pilot.index.tolist()
        for seed in (0, 0, 1)
    ]
    assert chosen[0] == chosen[1] != chosen[2]
    assert len(set(chosen[0])) == 20
    assert chosen[0] == sorted(chosen[0])
    assert max(chosen[0]) > 100


def test_without_a_store_all_rows_are_projected(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    estimate = pn.estimate(predict, [f"row-{i}" for i in range(50)], store=None, **QUIET)
    assert estimate.to_ask == 50
    assert estimate.tokens == (900, 900, 900)


def test_what_cannot_be_estimated_is_refused(predict: pn.Predict) -> None:
    with pytest.raises(ValueError, match="list"):
        pn.estimate(predict, iter([{"review": "x"}]), **QUIET)
    with pytest.raises(ValueError, match="at least 2"):
        pn.estimate(predict, ["x"], sample=1, **QUIET)
    with pytest.raises(ValueError, match="rows"):
        pn.estimate(predict, [], **QUIET)


def test_functions_have_time_and_failures_but_no_tokens() -> None:
    def half(x: int) -> int:
        if x % 2:
            raise ValueError("odd")
        return x

    estimate = pn.estimate(half, list(range(100)), **QUIET)
    assert (estimate.tokens, estimate.cost_usd) == (None, None)
    assert estimate.failure_rate.low < 0.5 < estimate.failure_rate.high
    assert "unknown" in repr(estimate)


@pytest.mark.parametrize(
    ("freedom", "t"), [(3, 3.182), (4, 2.776), (9, 2.262), (19, 2.093), (100, 1.984)]
)
def test_students_t_is_that_of_the_tables(freedom: int, t: float) -> None:
    assert _t(freedom) == pytest.approx(t, rel=0.005)


def test_wilsons_interval_is_that_of_the_textbook() -> None:
    low, share, high = wilson(1, 20)
    assert (low, share, high) == pytest.approx((0.00888, 0.05, 0.23613), abs=1e-4)
    assert wilson(0, 20).low == 0


def test_the_interval_of_a_sum_covers_what_it_promises() -> None:
    """Ninety-five in a hundred, give or take."""
    dice = random.Random(1)
    covered = 0
    for _ in range(400):
        seen = [dice.lognormvariate(5, 0.4) for _ in range(20)]
        rest = sum(dice.lognormvariate(5, 0.4) for _ in range(200))
        interval = _sum_of(seen, 200)
        assert interval is not None
        covered += interval.low <= rest <= interval.high
    assert 0.91 <= covered / 400 <= 0.98


# -- where it came from ---------------------------------------------------------------------------


def test_the_frame_says_what_made_each_row_and_parquet_keeps_it(
    predict: pn.Predict, server: ScriptedServer, reviews: list[str], tmp_path: Path
) -> None:
    pn.run_parallel(predict, reviews[:5], **QUIET)
    df = pn.run_parallel(predict, reviews, **QUIET)
    about = df.attrs["pardspy"]
    (source, made) = next(iter(about["sources"].items()))
    assert about["rows_by_source"] == {source: "0-11"}
    assert made["model"] == "gpt-4o-mini"
    assert made["endpoint"] == server.url
    assert made["prompt_sha256"] == predict.prompt_sha256
    assert made["prices"] == {
        "table": made["prices"]["table"],
        "usd_per_1m_prompt": 0.15,
        "usd_per_1m_completion": 0.6,
    }
    assert made["prices"]["table"].startswith("genai-prices 0.")
    assert made["packages"].keys() == {"pardspy_nb", "openai", "pandas", "pydantic", "python"}
    assert made["signature"]["outputs"]["sentiment"] == "one of: positive, neutral, negative"
    assert about["started_at"] < about["finished_at"]
    assert "sk-test" not in json.dumps(about)
    df.to_parquet(tmp_path / "df.parquet")
    read = pd.read_parquet(tmp_path / "df.parquet")
    assert read.attrs == df.attrs
    assert read.dtypes.equals(df.dtypes)
    assert repr(read.parallel.summary()) == repr(df.parallel.summary())


def test_rows_made_by_an_earlier_version_keep_their_origin(
    predict: pn.Predict, reviews: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    from pardspy_nb.modules import provenance

    versions = provenance.packages() | {"pardspy_nb": "0.0.9"}
    with monkeypatch.context() as earlier:
        earlier.setattr(provenance, "packages", lambda: versions)
        pn.run_parallel(predict, reviews[:5], **QUIET)
    about = pn.run_parallel(predict, reviews, **QUIET).attrs["pardspy"]
    rows = {
        about["sources"][source]["packages"]["pardspy_nb"]: of
        for source, of in about["rows_by_source"].items()
    }
    assert rows == {"0.0.9": "0-4", pn.__version__: "5-11"}


def test_credentials_in_a_url_are_not_told(signature: pn.Signature) -> None:
    from pardspy_nb.modules.module import from_module
    from pardspy_nb.modules.provenance import Sources

    lm = pn.LM("m", base_url="http://user:hush@127.0.0.1:9/v1")
    known = Sources(from_module(pn.Predict(signature, lm)), None).known
    assert "hush" not in json.dumps(known)
    assert "http://127.0.0.1:9/v1" in json.dumps(known)


def test_spans_and_places_are_each_others_inverse() -> None:
    assert spans([0, 1, 2, 5, 7, 8]) == "0-2,5,7-8"
    for seed in range(20):
        numbers = sorted(random.Random(seed).sample(range(60), 25))
        assert places(spans(numbers)) == numbers
    assert places(spans([])) == []


# -- two runs side by side ------------------------------------------------------------------------


def test_diff_tells_the_rows_whose_answer_changed(
    signature: pn.Signature, server: ScriptedServer, reviews: list[str]
) -> None:
    def run(model: str, script: Any) -> pd.DataFrame:
        server.script = script
        frame: pd.DataFrame = pn.run_parallel(
            pn.Predict(signature, pn.LM(model, base_url=server.url)),
            reviews,
            max_failures=None,
            **QUIET,
        )
        return frame

    def other(marker: int, attempt: int) -> Reply:
        if marker == 4:
            return Reply("status", code=400)
        return Reply(label=2 if marker in (0, 6) else None)

    before = run("gpt-4o-mini", lambda marker, attempt: Reply())
    after = run("gpt-4o", other)
    changed = pn.diff(before, after)
    assert changed.index.tolist() == [0, 4, 6]
    assert changed["review"].tolist() == [reviews[0], reviews[4], reviews[6]]
    assert changed["sentiment_before"].tolist() == ["positive", "neutral", "positive"]
    assert changed["sentiment_after"].isna().tolist() == [False, True, False]
    assert changed.loc[0, "sentiment_after"] == "negative"
    assert changed.loc[4, "status_after"] == "failed"
    expected = 11 * (2.5 - 0.15) / 1e6 + 7 * (10 - 0.6) / 1e6
    assert changed.loc[0, "cost_usd_change"] == pytest.approx(expected)
    assert changed.loc[0, "latency_ms_change"] == pytest.approx(
        after.loc[0, "latency_ms"] - before.loc[0, "latency_ms"]
    )
    about = changed.attrs["pardspy_diff"]
    assert about["rows"] == 12
    assert about["changed"] == {"sentiment": 3, "reason": 1, "status": 1}
    assert about["cost_usd"] == pytest.approx([before["cost_usd"].sum(), after["cost_usd"].sum()])
    assert about["p50_latency_ms"][0] == pytest.approx(statistics.median(before["latency_ms"]))
    assert pn.diff(before, after, columns=["reason"]).index.tolist() == [4]
    assert len(pn.diff(before, before)) == 0


def test_diff_matches_rows_by_index_and_sample(predict: pn.Predict, reviews: list[str]) -> None:
    before = pn.run_parallel(predict, reviews, repeat=2, **QUIET)
    assert len(pn.diff(before, before.sample(frac=1, random_state=0))) == 0
    less = pn.diff(before, before[before.index != 3])
    assert less.index.tolist() == [(3, 0), (3, 1)]
    assert less["status_after"].isna().all()
    assert less["review"].tolist() == [reviews[3]] * 2


def test_two_missing_values_are_no_difference(predict: pn.Predict, reviews: list[str]) -> None:
    before = pn.run_parallel(predict, reviews[:2], **QUIET)
    after = before.copy()
    before["note"] = pd.Series([None, "x"], dtype=object)
    after["note"] = pd.Series([float("nan"), "y"], dtype=object)
    assert pn.diff(before, after, columns=["note"]).index.tolist() == [1]


def test_diff_refuses_what_it_cannot_match(predict: pn.Predict, reviews: list[str]) -> None:
    df = pn.run_parallel(predict, reviews, **QUIET)
    with pytest.raises(ValueError, match="not unique"):
        pn.diff(df, pd.concat([df, df]))
    with pytest.raises(ValueError, match="not the result"):
        pn.diff(df, df[["review"]])
    with pytest.raises(ValueError, match="mood"):
        pn.diff(df, df, columns=["mood"])


def test_diff_of_lists_other_types_and_other_categories(tmp_path: Path) -> None:
    def function(x: int) -> dict[str, Any]:
        return {"tags": [["a"], ["b", str(x)]], "n": x}

    table = pd.DataFrame({"x": [1, 2], "kind": pd.Categorical(["p", "q"])})
    df = pn.run_parallel(function, table, **QUIET)
    df.to_parquet(tmp_path / "df.parquet")
    assert len(pn.diff(df, pd.read_parquet(tmp_path / "df.parquet"), columns=["n"])) == 0
    assert len(pn.diff(df, pd.read_parquet(tmp_path / "df.parquet"), columns=["tags"])) == 0
    df.to_csv(tmp_path / "df.csv")
    assert len(pn.diff(df, pd.read_csv(tmp_path / "df.csv", index_col=0), columns=["n"])) == 0
    other = pn.run_parallel(
        function, pd.DataFrame({"x": [1, 5, 6], "kind": ["p", "r", "s"]}), **QUIET
    )
    changed = pn.diff(df, other, columns=["n"])
    assert changed.index.tolist() == [1, 2]
    assert changed["kind"].tolist() == ["q", "s"]


def test_diff_with_and_without_samples_is_refused(predict: pn.Predict) -> None:
    one = pn.run_parallel(predict, ["row-1"], **QUIET)
    two = pn.run_parallel(predict, ["row-1"], repeat=2, **QUIET)
    with pytest.raises(ValueError, match="samples"):
        pn.diff(one, two)


def test_a_pilot_without_an_answer_tells_no_cost(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    server.script = lambda marker, attempt: Reply("status", code=400)
    estimate = pn.estimate(predict, [f"row-{i}" for i in range(30)], sample=5, **QUIET)
    assert (estimate.tokens, estimate.cost_usd) == (None, None)
    assert estimate.failure_rate.expected == 1
    server.script = lambda marker, attempt: Reply()
    few = pn.estimate(predict, ["row-1", "row-2"], return_all=False, **QUIET)
    assert (len(few.pilot), few.to_ask, few.tokens) == (2, 0, (0, 0, 0))
