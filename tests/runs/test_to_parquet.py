"""From file to file: in order, in bounded memory, once."""

from __future__ import annotations

import asyncio
import datetime as dt
import gc
import json
import threading
import weakref
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from support.scripted_server import Reply, ScriptedServer
from support.text_type import TEXT

import pardspy_nb as pn
from pardspy_nb.runs import to_parquet
from pardspy_nb.tables import chunks, parquet

QUIET: dict[str, Any] = {"progress": "none"}


@pytest.fixture(autouse=True)
def _small_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunks, "CHUNK_ROWS", 10)
    monkeypatch.setattr(to_parquet, "MAX_CHUNKS_AHEAD", 3)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "reviews.parquet"
    n = 57
    table = pa.table(
        {
            "id": pa.array([f"r{i}" for i in range(n)]),
            "review": pa.array([f"row-{i} is a review" for i in range(n)]),
            "tags": pa.array([["a"] * (i % 3) for i in range(n)]),
        }
    )
    pq.write_table(table, path, row_group_size=23)
    return path


def test_the_file_is_the_frame_of_the_same_run(
    predict: pn.Predict, source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "answers.parquet"
    metrics = pn.run_to_parquet(predict, source, target, max_workers=7, **QUIET)
    df = pd.read_parquet(target)
    again = pn.run_parallel(predict, source, max_workers=7, store=None, **QUIET)
    assert list(df.columns) == list(again.columns)
    told = ["id", "review", "sentiment", "reason", "status", "total_tokens", "model"]
    pd.testing.assert_frame_equal(df[told], again[told])
    assert dict(df.dtypes[told]) == dict(again.dtypes[told])
    assert [list(tags) for tags in df["tags"]] == [["a"] * (i % 3) for i in range(57)]
    assert (metrics.total, metrics.successes, metrics.not_run) == (57, 57, 0)
    assert metrics.usage is not None
    assert df["total_tokens"].sum() == metrics.usage.total_tokens
    assert df.parallel.metrics.successes == 57
    assert df.attrs["pardspy"]["model"] == "gpt-4o-mini"
    about = df.attrs["pardspy"]
    assert (about["metrics"]["successes"], about["ended"]) == (57, "done")
    assert [p.name for p in tmp_path.iterdir() if "part" in p.suffix] == [], "nothing left behind"


def test_rows_come_back_in_order_however_long_each_takes(tmp_path: Path) -> None:
    async def odd(i: int) -> dict[str, int]:
        await asyncio.sleep(0.03 if i % 10 == 0 else 0)
        return {"double": 2 * i}

    target = tmp_path / "out.parquet"
    pn.run_to_parquet(odd, pd.DataFrame({"i": range(200)}), target, max_workers=16, **QUIET)
    df = pd.read_parquet(target)
    assert list(df["i"]) == list(range(200))
    assert list(df["double"]) == [2 * i for i in range(200)]


@pytest.mark.slow
def test_a_row_that_takes_long_holds_up_the_reading_and_no_row_is_kept(tmp_path: Path) -> None:
    """Three parts of ten rows may be begun before the first is written, and what is written is
    let go."""
    release = asyncio.Event()
    begun: list[int] = []
    alive: list[weakref.ref[Any]] = []
    most = 0

    class Text(str):
        __slots__ = ("__weakref__",)

    async def answer(i: int) -> dict[str, Any]:
        nonlocal most
        begun.append(i)
        if i == 3:
            await release.wait()
        if i == 29:
            await asyncio.sleep(0.3)
            assert max(begun) == 29
            release.set()
        text = Text(f"answer {i}")
        alive.append(weakref.ref(text))
        if i % 80 == 0:
            gc.collect()
            most = max(most, sum(ref() is not None for ref in alive))
        await asyncio.sleep(0.002)
        return {"text": text}

    target = tmp_path / "out.parquet"
    metrics = pn.run_to_parquet(
        answer, iter([{"i": i} for i in range(400)]), target, max_workers=50, **QUIET
    )
    assert metrics.successes == 400
    assert list(pd.read_parquet(target)["text"]) == [f"answer {i}" for i in range(400)]
    assert most <= 4 * 10 + 50


def test_a_second_call_asks_only_for_what_is_missing(
    predict: pn.Predict, server: ScriptedServer, source: Path, tmp_path: Path
) -> None:
    target = tmp_path / "answers.parquet"
    server.script = lambda marker, attempt: (
        Reply("status", code=400) if marker == 31 and attempt == 1 else Reply()
    )
    with pytest.raises(
        pn.TooManyFailures, match=r"settled are in .*answers\.partial\.parquet"
    ) as info:
        pn.run_to_parquet(predict, source, target, max_workers=5, **QUIET)
    assert len(info.value.errors) == 1
    assert not target.exists(), "it appears once it is complete"
    partial = target.with_suffix(".partial.parquet")
    first = pd.read_parquet(partial)
    assert first["status"].value_counts()["failed"] == 1
    done = int((first["status"] == "ok").sum())
    assert list(first["id"]) == [f"r{i}" for i in range(len(first))]
    metrics = pn.run_to_parquet(predict, source, target, max_workers=5, **QUIET)
    assert (metrics.successes, metrics.cached) == (57, done)
    assert server.attempts.total() == 58
    assert not partial.exists()
    df = pd.read_parquet(target)
    assert list(df["cached"]) == [s == "ok" for s in first["status"]] + [False] * (57 - len(first))


def test_samples_columns_and_other_inputs(predict: pn.Predict, tmp_path: Path) -> None:
    target = tmp_path / "out.parquet"
    frame = pd.DataFrame({"text": [f"row-{i}" for i in range(12)], "n": range(12)})
    pn.run_to_parquet(predict, frame, target, repeat=2, columns={"review": "text"}, **QUIET)
    df = pd.read_parquet(target)
    assert list(df["n"]) == [i for i in range(12) for _ in range(2)]
    assert list(df["sample"]) == [0, 1] * 12
    assert "review" not in df, "the user's own column has the text"
    assert list(df["text"])[::2] == list(frame["text"])
    frame.to_csv(tmp_path / "in.csv", index=False)
    frame.to_json(tmp_path / "in.jsonl", orient="records", lines=True)
    for name in ("in.csv", "in.jsonl"):
        other = tmp_path / "other.parquet"
        pn.run_to_parquet(predict, tmp_path / name, other, columns={"review": "text"}, **QUIET)
        read = pd.read_parquet(other)
        assert list(read["text"]) == list(frame["text"])
        assert list(read["n"]) == list(range(12))
        assert (read["status"] == "ok").all()


def test_an_iterator_is_pulled_as_workers_free_up(predict: pn.Predict, tmp_path: Path) -> None:
    pulled: list[int] = []

    def rows() -> Iterator[dict[str, str]]:
        for i in range(25):
            pulled.append(i)
            yield {"review": f"row-{i}"}

    target = tmp_path / "out.parquet"
    metrics = pn.run_to_parquet(predict, rows(), target, max_workers=3, **QUIET)
    df = pd.read_parquet(target)
    assert list(df["review"]) == [f"row-{i}" for i in range(25)]
    assert metrics.total == len(pulled) == 25


def test_values_keep_their_type_in_the_file(tmp_path: Path) -> None:
    class Sig(pn.Signature):
        """x"""

        text: str = pn.InputField()
        names: list[str] = pn.OutputField()
        scores: dict[str, int] = pn.OutputField()
        when: dt.datetime = pn.OutputField()

    class Model:
        async def complete(self, messages: Any, **more: Any) -> pn.Completion:
            text = '{"names": ["a", "b"], "scores": {"a": 1}, "when": "2026-01-02T03:04:05"}'
            return pn.Completion(text, pn.Usage(), "m")

    target = tmp_path / "out.parquet"
    pn.run_to_parquet(pn.Predict(Sig, Model()), pd.DataFrame({"text": ["a"] * 3}), target, **QUIET)
    row = pd.read_parquet(target).iloc[0]
    assert list(row["names"]) == ["a", "b"]
    assert row["scores"] == {"a": 1}
    assert row["when"] == dt.datetime(2026, 1, 2, 3, 4, 5)


def test_no_rows_make_a_file_with_the_columns(predict: pn.Predict, tmp_path: Path) -> None:
    target = tmp_path / "out.parquet"
    empty = pd.DataFrame({"review": pd.array([], dtype=TEXT), "n": pd.array([], dtype="int64")})
    metrics = pn.run_to_parquet(predict, empty, target, **QUIET)
    df = pd.read_parquet(target)
    assert metrics.total == len(df) == 0
    assert list(df.columns[:5]) == ["review", "n", "sentiment", "reason", "status"]


def test_a_file_that_cannot_be_written_stops_the_run_and_leaves_the_old_one(
    predict: pn.Predict,
    server: ScriptedServer,
    source: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    target = tmp_path / "answers.parquet"
    target.write_bytes(b"of yesterday")

    def full(self: Any, table: Any) -> None:
        raise OSError(28, "No space left on device")

    server.delay_s = 0.01
    with monkeypatch.context() as broken:
        broken.setattr(parquet.ParquetSegments, "write", full)
        with pytest.raises(pn.RunStopped, match=r"No space left.*was not written.*remembered"):
            pn.run_to_parquet(predict, source, target, max_workers=2, **QUIET)
    assert target.read_bytes() == b"of yesterday"
    assert server.attempts.total() < 57
    asked = server.attempts.total()
    pn.run_to_parquet(predict, source, target, max_workers=2, **QUIET)
    assert server.attempts.total() == 57, f"{asked} rows were not asked again"
    assert len(pd.read_parquet(target)) == 57


def test_bad_input_is_refused_before_anything_is_sent(
    predict: pn.Predict, server: ScriptedServer, source: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out.parquet"
    for bad, target, error, words in (
        (source, tmp_path / "out.csv", ValueError, "another ending"),
        (source, source, ValueError, "read and written"),
        (source, tmp_path / "no" / "out.parquet", FileNotFoundError, "no folder"),
        (tmp_path / "none.parquet", out, FileNotFoundError, "none"),
        (tmp_path / "a.txt", out, ValueError, r"\.parquet, \.csv or \.jsonl"),
        ({"review": ["a"]}, out, TypeError, "path"),
        (pd.DataFrame({"text": ["a"]}), out, ValueError, "columns="),
    ):
        with pytest.raises(error, match=words):
            pn.run_to_parquet(predict, bad, target, **QUIET)
    assert not server.requests
    assert not out.exists()


def test_a_wrong_value_ends_the_run_and_keeps_the_rows_before(
    predict: pn.Predict, tmp_path: Path
) -> None:
    target = tmp_path / "out.parquet"
    frame = pd.DataFrame({"review": [f"row-{i}" for i in range(30)]})
    frame["review"] = frame["review"].astype(object)
    frame.loc[25, "review"] = 7
    with pytest.raises(pn.ParallelError, match=r"must be str, but 1 rows are not \(row 25\)"):
        pn.run_to_parquet(predict, frame, target, **QUIET)
    done = pd.read_parquet(target.with_suffix(".partial.parquet"))
    assert list(done["review"]) == [f"row-{i}" for i in range(20)]


def as_file(function: Any, source: Any, tmp_path: Path, **options: Any) -> pd.DataFrame:
    target = tmp_path / "out.parquet"
    pn.run_to_parquet(function, source, target, max_failures=None, **options, **QUIET)
    return pd.read_parquet(target)


def test_columns_that_turn_out_otherwise_on_the_way_cost_nothing(tmp_path: Path) -> None:
    """Ten rows are a part: each has its own types, and one has no answers at all."""

    async def odd(i: int) -> dict[str, Any]:
        if i < 10:
            raise ValueError("not yet")
        made: dict[str, Any] = {"number": i if i < 20 else i + 0.5, "mixed": i if i < 20 else "b"}
        made["list"] = [] if i < 20 else ["a"]
        return made | ({"late": i} if i >= 30 else {})

    df = as_file(odd, pd.DataFrame({"i": range(40)}), tmp_path)
    assert list(df["i"]) == list(range(40))
    assert list(df["number"].dropna()) == [*range(10, 20), *(i + 0.5 for i in range(20, 40))]
    assert list(df["mixed"].dropna()) == [*map(str, range(10, 20)), *["b"] * 20]
    assert list(df["late"].dropna()) == list(range(30, 40))
    assert (df["status"] == "failed").sum() == 10
    assert list(df.columns[1:5]) == ["number", "mixed", "list", "late"]


def test_numbers_no_column_holds_and_nulls_in_the_first_part(tmp_path: Path) -> None:
    class Odd(pn.Signature):
        """x"""

        i: int = pn.InputField()
        n: int = pn.OutputField()
        when: dt.datetime = pn.OutputField(optional=True)
        tags: list[str] = pn.OutputField()

    class Model:
        async def complete(self, messages: Any, **more: Any) -> pn.Completion:
            i = int(messages[-1]["content"].removeprefix("i: "))
            answer = {"n": 2**63 if i == 25 else i, "tags": [] if i < 10 else ["a"]}
            answer["when"] = None if i < 10 else "2026-01-02T03:04:05"
            return pn.Completion(json.dumps(answer), pn.Usage(), "m")

    df = as_file(pn.Predict(Odd, Model()), pd.DataFrame({"i": range(30)}), tmp_path)
    assert df["n"].astype(str).tolist() == [str(2**63 if i == 25 else i) for i in range(30)]
    assert df["when"].notna().sum() == 20
    assert [len(tags) for tags in df["tags"]] == [0] * 10 + [1] * 20


def test_line_breaks_in_a_csv_and_numbers_in_a_text_column(tmp_path: Path) -> None:
    texts = [f"row-{i}\n" + "x" * 300 + f"\nend {i}" if i % 3 else str(i) for i in range(90)]
    pd.DataFrame({"review": texts, "code": [0] * 80 + ["A1"] * 10}).to_csv(
        tmp_path / "in.csv", index=False
    )

    def first(review: str) -> str:
        return review[:5]

    df = as_file(first, tmp_path / "in.csv", tmp_path)
    assert list(df["review"]) == texts
    assert list(df["code"].astype(str))[-10:] == ["A1"] * 10
    lines = [{"review": "2026-01-02"}, {"review": "b", "more": 1}] * 30
    (tmp_path / "in.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    predict_like = pn.Signature("x").add_input("review", str).add_output("o", str)

    class Model:
        async def complete(self, messages: Any, **more: Any) -> pn.Completion:
            return pn.Completion('{"o": "fine"}', pn.Usage(), "m")

    df = as_file(pn.Predict(predict_like, Model()), tmp_path / "in.jsonl", tmp_path)
    assert list(df["review"]) == ["2026-01-02", "b"] * 30
    assert df["more"].notna().sum() == 30


def test_other_tables_and_outputs_named_like_an_input(tmp_path: Path) -> None:
    import polars as pl

    async def same(v: int) -> dict[str, int]:
        return {"v": v + 1}

    df = as_file(same, pl.DataFrame({"v": range(25), "s": ["a"] * 25}), tmp_path)
    assert list(df["v"]) == list(range(25))
    assert list(df["run_v"]) == list(range(1, 26))
    assert list(df["s"]) == ["a"] * 25
    kept = pd.DataFrame(
        {"v": pd.array([1, None], dtype="Int64"), "c": pd.Categorical(["x", "y"], ["y", "x"])}
    )

    async def fine(c: str) -> str:
        return c

    df = as_file(fine, kept, tmp_path)
    assert (str(df["v"].dtype), list(df["c"].cat.categories)) == ("Int64", ["y", "x"])


def test_the_index_and_what_made_the_answers_are_kept(predict: pn.Predict, tmp_path: Path) -> None:
    keyed = pd.DataFrame({"id": [f"k{i}" for i in range(25)], "review": ["row-1"] * 25})
    target = tmp_path / "out.parquet"
    metrics = pn.run_to_parquet(predict, keyed.set_index("id"), target, **QUIET)
    df = pd.read_parquet(target)
    assert (df.index.name, list(df.index)) == ("id", list(keyed["id"]))
    assert df.parallel.metrics == metrics
    assert metrics.saved is not None
    about = df.attrs["pardspy"]
    assert [source["model"] for source in about["sources"].values()] == ["gpt-4o-mini"]


@pytest.mark.slow
def test_a_cancelled_run_whose_module_blocks_writes_each_row_once(tmp_path: Path) -> None:
    blocked, go_on = threading.Event(), threading.Event()
    target = tmp_path / "out.parquet"

    async def block(i: int) -> int:
        if i == 27:
            blocked.set()
            go_on.wait(20)
        return i

    source = pd.DataFrame({"i": range(60)})
    call = threading.Thread(
        target=pn.run_to_parquet, args=(block, source, target), kwargs={"max_workers": 3, **QUIET}
    )
    call.start()
    assert blocked.wait(10)
    run = pn.last_run()
    assert run is not None
    run.cancel()
    call.join(10)
    go_on.set()
    assert not call.is_alive()
    df = pd.read_parquet(target.with_suffix(".partial.parquet"))
    assert list(df["i"]) == list(range(len(df)))
    assert (df["status"] == "ok").sum() == 25, "rows 1 and 2 had a worker and no turn"
    assert df["status"][27] == "cancelled"


def test_mixed_values_in_one_part_become_text(tmp_path: Path) -> None:
    lines = [{"review": "a", "x": 1}, {"review": "b", "x": "s"}, {"review": "c", "x": {"d": [1]}}]
    (tmp_path / "in.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    df = as_file(lambda review: review, tmp_path / "in.jsonl", tmp_path)
    assert list(df["x"])[:2] == ["1", "s"]
    mixed = pd.DataFrame({"review": ["a", "b"], "x": [1, "s"]})
    assert list(as_file(lambda review: review, mixed, tmp_path)["x"]) == ["1", "s"]
    assert list(mixed["x"]) == [1, "s"], "the user's frame is left as it was"


@pytest.mark.slow
def test_a_second_run_to_one_target_is_refused_while_the_first_lives(tmp_path: Path) -> None:
    target, source = tmp_path / "out.parquet", pd.DataFrame({"i": range(300)})
    begun, go_on = threading.Event(), threading.Event()

    def waiting(i: int) -> int:
        begun.set()
        go_on.wait(30)
        return i

    first = threading.Thread(
        target=lambda: pn.run_to_parquet(waiting, source, target, max_workers=4, **QUIET)
    )
    first.start()
    assert begun.wait(30)
    with pytest.raises(FileExistsError, match=r"another run writes to .*out\.parquet"):
        pn.run_to_parquet(lambda i: -i, source, target, **QUIET)
    go_on.set()
    first.join()
    assert list(pd.read_parquet(target)["output"]) == list(range(300))
    assert [path.name for path in tmp_path.iterdir()] == ["out.parquet"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("value_of", "expected"),
    [
        (lambda i: None if i > 2000 else i, lambda i: None if i > 2000 else i),
        (lambda i: None if i < 2000 else 2**60 + i, lambda i: None if i < 2000 else 2**60 + i),
        (lambda i: i if i < 2000 else i + 0.5, lambda i: i if i < 2000 else i + 0.5),
        (lambda i: 2**60 + 1 if i < 2000 else 0.5, lambda i: str(2**60 + 1 if i < 2000 else 0.5)),
        (lambda i: i if i < 2000 else "x", lambda i: str(i) if i < 2000 else "x"),
        (lambda i: [i] if i < 2000 else [0.5], lambda i: [i] if i < 2000 else [0.5]),
        (
            lambda i: {"a": i} if i < 2000 else {"b": i},
            lambda i: f'{{"{"a" if i < 2000 else "b"}":{i}}}',
        ),
        (lambda i: 2**64 + i, lambda i: str(2**64 + i)),
        (lambda i: True if i < 2000 else 1, lambda i: "true" if i < 2000 else "1"),
    ],
)
def test_whatever_was_paid_for_is_written_whatever_the_types_do(
    value_of: Any, expected: Any, tmp_path: Path
) -> None:
    async def module(i: int) -> dict[str, Any]:
        return {"v": value_of(i)}

    df = as_file(module, pd.DataFrame({"i": range(2010)}), tmp_path)
    shown = [v.tolist() if hasattr(v, "tolist") else None if pd.isna(v) else v for v in df["v"]]
    assert shown == [expected(i) for i in range(2010)]


def test_a_worse_attempt_does_not_replace_a_better_partial_file(tmp_path: Path) -> None:
    target = tmp_path / "out.parquet"
    partial = target.with_suffix(".partial.parquet")
    stop_at = 15

    def module(i: int) -> int:
        if i == stop_at:
            raise ValueError("stop")
        return i

    source = pd.DataFrame({"i": range(30)})

    def attempt() -> int:
        with pytest.raises(pn.TooManyFailures):
            pn.run_to_parquet(module, source, target, max_workers=1, **QUIET)
        return int((pd.read_parquet(partial)["status"] == "ok").sum())

    assert attempt() == 15
    stop_at = 3
    assert attempt() == 15, "the better one stays"
    worse = pd.read_parquet(partial.with_suffix(".2.parquet"))
    assert (worse["status"] == "ok").sum() == 3, "and what was paid for is written"
    stop_at = 20
    assert attempt() == 20


@pytest.mark.slow
def test_nested_columns_of_polars_pass_through(tmp_path: Path) -> None:
    import polars as pl

    rows = {
        "text": ["a", "b"],
        "tags": [["x", "y"], None],
        "records": [[{"n": "z", "deep": [["q"]]}], []],
        "bytes": [b"\xff", None],
        "big": [1234567890123456789, None],
    }

    async def count(text: str, tags: Any = None, records: Any = None) -> dict[str, Any]:
        return {"seen": [tags, records]} if text == "a" else {"seen": None}

    table = pl.DataFrame(rows)
    made = [as_file(count, table, tmp_path)]
    pn.run_parallel(count, table, **QUIET)
    table.write_parquet(tmp_path / "in.parquet")
    made += [as_file(count, tmp_path / "in.parquet", tmp_path)]
    for df in made:
        assert list(df["tags"][0]) == ["x", "y"]
        assert df["records"][0][0]["n"] == "z"
        assert df["big"].tolist()[0] == 1234567890123456789
        assert df["bytes"][0] == b"\xff"
    framed = pn.run_parallel(count, table, **QUIET)
    assert framed["records"][0] == rows["records"][0]
    assert framed["seen"][0] == [["x", "y"], rows["records"][0]]
    assert framed["big"].tolist()[0] == 1234567890123456789
