"""In text files text is text, all ways in agree, and a bad file is refused with the remedy."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pandas as pd
import pytest

import pardspy_nb as pn
from pardspy_nb.tables.text_files import TextFile

QUIET: Any = {"store": None, "progress": "none"}


def same(**row: Any) -> dict[str, Any]:
    return {f"{name}_seen": repr(value) for name, value in row.items()}


def both_ways(path: Path) -> list[pd.DataFrame]:
    target = path.with_suffix(".out.parquet")
    pn.run_to_parquet(same, path, target, **QUIET)
    return [pn.run_parallel(same, path, **QUIET), pd.read_parquet(target)]


def test_jsonl_keeps_the_types_of_json(tmp_path: Path) -> None:
    path = tmp_path / "in.jsonl"
    path.write_text(
        '{"text": "007", "n": 1152921504606846977, "date": "2026-01-02", "f": 1}\n'
        '{"text": "1_000", "n": null, "date": "20260102", "f": 2.5}\n'
    )
    for df in both_ways(path):
        assert list(df["text_seen"]) == ["'007'", "'1_000'"]
        assert list(df["date_seen"]) == ["'2026-01-02'", "'20260102'"]
        assert df["n_seen"].iloc[0] == "1152921504606846977", "exact, with one missing"
        assert str(df["n"].iloc[0]) == "1152921504606846977"
        assert pd.isna(df["n"].iloc[1])
        assert list(df["f_seen"]) == ["1.0", "2.5"]


def test_the_type_of_a_csv_column_is_that_of_the_whole_file(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    rows = [f"{i:03},{i},0.5,1.50" for i in range(2500)]
    path.write_text("\n".join(["id,n,half,price", *rows, "A04,,,x"]))
    for df in both_ways(path):
        assert list(df["id"].iloc[[0, 1, -1]]) == ["000", "001", "A04"]
        assert list(df["n_seen"].iloc[[0, 2499]]) == ["0", "2499"]
        assert list(df["half_seen"].iloc[[0]]) == ["0.5"]
        assert df["price"].iloc[0] == "1.50"
        assert pd.isna(df["n"].iloc[-1])


def test_words_for_nothing_are_text_and_an_empty_cell_is_missing(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("n,text\n1,None\n2,NA\n3,null\n4,nan\n5,\n")
    for df in both_ways(path):
        assert list(df["text_seen"].iloc[:4]) == ["'None'", "'NA'", "'null'", "'nan'"]
        assert pd.isna(df["text"].iloc[4])


@pytest.mark.parametrize("header", ["id,text", "id,text,"])
def test_a_comma_at_the_end_of_each_line_shifts_nothing(header: str, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text(f"{header}\r\n1,a,\r\n2,b,\r\n")
    for df in both_ways(path):
        assert (list(df["id"]), list(df["text"])) == ([1, 2], ["a", "b"])


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("ragged.csv", b"a,b\n1,2\n1,2,3\n", r"line 3: 3 values, and the header has 2.*quote"),
        ("short.csv", b"a,b\n1\n", r"line 2: 1 values"),
        ("quote.csv", b'a,b\n"1,2\n', r"line 2: .*mend the quotes"),
        ("latin.csv", "a\nZürich\n".encode("latin-1"), r"line 2: byte 1 .*encoding='latin-1'"),
        ("empty.csv", b"", r"is empty; a \.csv begins with the names"),
        ("twice.csv", b"a,a\n1,2\n", r"columns of the same name: \['a'\]; rename"),
        ("cut.jsonl", b'{"a": 1}\n{"a": \n', r"line 2: it is no JSON .*mend the line"),
        ("list.jsonl", b"[1]\n", r"line 1: it is no JSON object; write one object a line"),
        ("twice.jsonl", b'{"a": 1, "a": 2}\n', r"line 1: .*comes twice"),
    ],
)
def test_a_file_that_does_not_parse_names_the_line_and_the_remedy(
    name: str, content: bytes, words: str, tmp_path: Path
) -> None:
    path = tmp_path / name
    path.write_bytes(content)
    for run in (
        lambda: pn.run_parallel(same, path, **QUIET),
        lambda: pn.run_to_parquet(same, path, tmp_path / "o.parquet", **QUIET),
    ):
        with pytest.raises(ValueError, match=words) as info:
            run()
        assert name in str(info.value)


def test_folders_and_other_files_get_an_error_with_the_remedy(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("a\n1\n")
    (tmp_path / "b.parquet").write_bytes(b"not parquet")
    (tmp_path / "folder").mkdir()
    (tmp_path / "folder" / "a.csv").write_text("a\n1\n")
    with pytest.raises(ValueError, match=r"1 \.csv files; pass one file"):
        pn.run_parallel(same, tmp_path / "folder", **QUIET)
    for way in (pn.run_parallel, lambda f, p, **k: pn.run_to_parquet(f, p, tmp_path / "o.parquet")):
        with pytest.raises(ValueError, match=r"cannot read .*b\.parquet"):
            way(same, tmp_path / "b.parquet", **QUIET)
    with pytest.raises(ValueError, match="columns is a dict of input and column"):
        pn.run_parallel(same, tmp_path / "a.csv", columns=["text"], **QUIET)


def test_chunks_begin_where_the_one_before_ends(tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_bytes('\ufefftext,n\n"a\nb",1\n\nc,2\nü,3\n'.encode())
    for rows in (1, 2, None):
        file = TextFile(path, rows)
        chunks = list(file.chunks())
        assert pd.concat(chunks)["text"].tolist() == ["a\nb", "c", "ü"]
        assert file.n_rows == 3
        assert file.n_chunks == len(chunks)


def test_declared_text_is_text_whatever_it_looks_like(predict: pn.Predict, tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("review\n12\n13\n")
    assert list(pn.run_parallel(predict, path, **QUIET)["review"]) == ["12", "13"]
    pn.run_to_parquet(predict, path, tmp_path / "o.parquet", **QUIET)
    assert list(pd.read_parquet(tmp_path / "o.parquet")["review"]) == ["12", "13"]


@pytest.mark.parametrize("cells", [["007", "008"], ["1_000", "2"], ["+1", "2"], ["1e5", "2.0"]])
def test_digits_that_are_no_number_of_python_stay_text(cells: list[str], tmp_path: Path) -> None:
    path = tmp_path / "in.csv"
    path.write_text("\n".join(["key,n", *(f"{cell},1" for cell in cells)]))
    for df in both_ways(path):
        assert list(df["key"]) == cells
        assert list(df["n"]) == [1] * len(cells)
