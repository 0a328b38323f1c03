"""Files that are not ours stay, and old files stand until new ones are whole."""

from __future__ import annotations

import os
import signal
import stat
import subprocess
import sys
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from support.scripted_server import ScriptedServer

import pardspy_nb as pn

pytestmark = pytest.mark.slow

QUIET: dict[str, Any] = {"progress": "none", "store": None}


def double(i: int) -> dict[str, Any]:
    return {"twice": 2 * i}


def fails_from(limit: int) -> Any:
    def some(i: int) -> dict[str, Any]:
        if i >= limit:
            raise ValueError("no")
        return {"twice": 2 * i}

    return some


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_the_source_is_never_removed_whatever_its_name(tmp_path: Path) -> None:
    source, target = tmp_path / "reviews.partial.parquet", tmp_path / "reviews.parquet"
    pd.DataFrame({"i": range(5)}).to_parquet(source)
    pn.run_to_parquet(double, source, target, **QUIET)
    assert names(tmp_path) == ["reviews.parquet", "reviews.partial.parquet"]
    assert pd.read_parquet(source)["i"].tolist() == [0, 1, 2, 3, 4]


def test_an_unfinished_result_as_the_source_stays(tmp_path: Path) -> None:
    target, partial = tmp_path / "a.parquet", tmp_path / "a.partial.parquet"
    rows = pd.DataFrame({"i": range(10)})
    with pytest.raises(pn.TooManyFailures):
        pn.run_to_parquet(fails_from(4), rows, target, max_workers=1, **QUIET)
    before = partial.read_bytes()
    pn.run_to_parquet(double, partial, target, columns={"i": "i"}, **QUIET)
    assert partial.read_bytes() == before
    pn.run_to_parquet(double, rows, target, **QUIET)
    assert names(tmp_path) == ["a.parquet"], "what an earlier run to this target left is ours"


def test_files_of_others_with_our_names_stay(tmp_path: Path) -> None:
    target, rows = tmp_path / "a.parquet", pd.DataFrame({"i": range(10)})
    theirs = tmp_path / "a.partial.parquet"
    pd.DataFrame({"x": [1]}).to_parquet(theirs)
    before = theirs.read_bytes()
    pn.run_to_parquet(double, rows, target, **QUIET)
    with pytest.raises(pn.TooManyFailures, match=r"a\.partial\.2\.parquet"):
        pn.run_to_parquet(fails_from(4), rows, target, max_workers=1, **QUIET)
    assert theirs.read_bytes() == before
    other = tmp_path / "b.parquet"  # a whole result of ours under this name
    whole = tmp_path / "b.partial.parquet"
    pn.run_to_parquet(double, rows, whole, **QUIET)
    pn.run_to_parquet(double, rows, other, **QUIET)
    assert len(pd.read_parquet(whole)) == 10


@pytest.mark.parametrize("kind", ["file", "folder", "link"])
def test_a_work_folder_that_is_not_ours_is_refused_by_name(tmp_path: Path, kind: str) -> None:
    work, target = tmp_path / ".a.parquet.part", tmp_path / "a.parquet"
    if kind == "file":
        work.write_text("mine")
    elif kind == "folder":
        work.mkdir()
        (work / "mine.txt").write_text("mine")
    else:
        (tmp_path / "elsewhere").mkdir()
        (tmp_path / "elsewhere" / "mine.txt").write_text("mine")
        work.symlink_to(tmp_path / "elsewhere")
    asked: list[int] = []
    with pytest.raises(FileExistsError, match=r"\.a\.parquet\.part.*not ours"):
        pn.run_to_parquet(lambda i: asked.append(i), pd.DataFrame({"i": [1]}), target, **QUIET)
    assert asked == []
    if kind == "file":
        assert work.read_text() == "mine"
    else:
        assert (work / "mine.txt").read_text() == "mine"


@pytest.mark.slow
def test_what_a_killed_run_left_is_cleaned_by_the_next_one(
    tmp_path: Path, server: ScriptedServer
) -> None:
    code = (
        "import pardspy_nb as pn, pandas as pd, sys, time\n"
        "def slow(i):\n"
        "    if i > 2500: print('far', flush=True); time.sleep(60)\n"
        "    return i\n"
        "pn.run_to_parquet(slow, pd.DataFrame({'i': range(5000)}), sys.argv[1],"
        " progress='none', store=None)\n"
    )
    target = tmp_path / "a.parquet"
    child = subprocess.Popen([sys.executable, "-c", code, str(target)], stdout=subprocess.PIPE)
    assert child.stdout is not None
    child.stdout.readline()
    child.send_signal(signal.SIGKILL)
    child.wait()
    assert names(tmp_path) == [".a.parquet.part"]
    pn.run_to_parquet(double, pd.DataFrame({"i": range(5)}), target, **QUIET)
    assert names(tmp_path) == ["a.parquet"]


WAYS = ["parquet", "csv", "jsonl", "xlsx", "run", "store.parquet", "store.jsonl", "store.csv"]


def written(way: str, df: Any, path: Path) -> None:
    if way == "run":
        pn.run_to_parquet(double, pd.DataFrame({"i": range(3)}), path, **QUIET)
    elif way.startswith("store"):
        pn.store.export(path)
    else:
        getattr(df.parallel, {"xlsx": "to_excel"}.get(way, f"to_{way}"))(path)


@pytest.fixture
def df() -> Any:
    return pn.run_parallel(double, {"i": [1, 2, 3]}, cache_key="x", progress="none")


@pytest.mark.parametrize("way", WAYS)
def test_modes_and_links_of_targets_are_kept(tmp_path: Path, df: Any, way: str) -> None:
    ending = ".parquet" if way == "run" else f".{way.rpartition('.')[2]}"
    real, link = tmp_path / f"real{ending}", tmp_path / f"link{ending}"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    written(way, df, link)
    assert link.is_symlink()
    assert real.read_bytes() != b"old"
    assert stat.S_IMODE(real.stat().st_mode) == 0o640
    assert not [name for name in names(tmp_path) if name.startswith(".")]


@pytest.mark.parametrize("way", WAYS)
def test_on_a_full_disk_the_old_file_stands(
    tmp_path: Path, df: Any, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = tmp_path / f"out{'.parquet' if way == 'run' else '.' + way.rpartition('.')[2]}"
    target.write_text("old")

    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises((OSError, pn.ParallelError), match="No space left"):
        written(way, df, target)
    assert target.read_text() == "old"
    assert [n for n in names(tmp_path) if "provenance" not in n] == [target.name]


def test_formulas_in_a_csv_are_kept_or_escaped(tmp_path: Path) -> None:
    texts = ["=1+1", "+1", "-1", "@x", "\tx", "fine", "a=b"]
    df = pn.run_parallel(lambda t: {"t2": t, "n": -1}, {"t": texts}, **QUIET)
    plain = pd.read_csv(df.parallel.to_csv(tmp_path / "plain.csv"))
    assert plain["t2"].tolist() == texts
    path = df.parallel.to_csv(tmp_path / "escaped.csv", formulas="escape")
    escaped = pd.read_csv(path)
    assert escaped["t2"].tolist() == [*("'" + t for t in texts[:5]), *texts[5:]]
    assert escaped["n"].tolist() == [-1] * 7  # numbers are numbers
    with pytest.raises(ValueError, match="formulas must be"):
        df.parallel.to_csv(path, formulas="drop")


def test_control_characters_of_errors_reach_no_terminal(
    server: ScriptedServer, predict: pn.Predict, capsys: pytest.CaptureFixture[str]
) -> None:
    from support.scripted_server import Reply

    evil = "\x1b]0;owned\x07\x1b[2J\x9b31m\r gone \u202e"
    server.script = lambda marker, attempt: Reply("status", code=400, message=evil)
    with pytest.raises(pn.TooManyFailures) as info:
        pn.run_parallel(predict, ["row-1"], store=None)

    def fails(x: str) -> str:
        raise ValueError(evil)

    df = pn.run_parallel(fails, ["a"], max_failures=None, store=None)
    out = capsys.readouterr()
    shown = [str(info.value), repr(df.parallel.summary()), df["error"][0], out.out, out.err]
    shown.append(repr(pn.preview(predict, [evil])))
    for text in shown:
        assert "\x1b" not in text
        assert "\x9b" not in text
        assert "\u202e" not in text
    assert "\\x1b]0;owned\\x07" in df["error"][0]
