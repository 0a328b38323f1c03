"""A store that is damaged, full, locked or not to be written: an error or a file set aside, and
never a wrong answer."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from support.scripted_server import ScriptedServer

import pardspy_nb as pn
from pardspy_nb.store.sqlite import Store

QUIET: dict[str, Any] = {"progress": "none"}


def overwrite(path: Path, start: int, length: int) -> None:
    """Damage a file's bytes."""
    with path.open("r+b") as file:
        file.seek(start)
        file.write(b"\xa5" * length)


@pytest.fixture
def filled(predict: pn.Predict, tmp_path: Path) -> Path:
    """A store of 400 rows at a path."""
    path = tmp_path / "filled.sqlite"
    pn.run_parallel(predict, [f"row-{i}" for i in range(400)], store=path, **QUIET)
    Path(f"{path}-wal").unlink(missing_ok=True)
    return path


def aside(path: Path) -> list[Path]:
    found = path.parent.glob(f"{path.name}.damaged-*")
    return [p for p in found if not p.name.endswith(("-wal", "-shm"))]


def test_a_damaged_default_store_is_set_aside_and_a_new_one_begun(
    predict: pn.Predict, store_path: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delenv("PARDSPY_STORE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    path = pn.store.info().path
    assert path.is_relative_to(tmp_path)
    path.parent.mkdir(parents=True)
    path.write_bytes(b"this is no database, and long enough to look like one" * 100)
    with pytest.warns(RuntimeWarning, match=r"damaged; it was set aside as .*damaged-"):
        df = pn.run_parallel(predict, ["row-1"], **QUIET)
    assert not df["cached"].any()
    assert [p.read_bytes()[:7] for p in aside(path)] == [b"this is"]
    assert pn.run_parallel(predict, ["row-1"], **QUIET)["cached"].all()


def test_a_store_of_ours_whose_pages_are_damaged_is_set_aside(
    predict: pn.Predict, filled: Path, server: ScriptedServer
) -> None:
    """Wherever the run meets the damage it says so, and the same call again begins a new one."""
    overwrite(filled, 4096, filled.stat().st_size - 4096)
    rows = [f"row-{i}" for i in range(400)]
    with pytest.raises(pn.RunStopped, match=r"set aside as .*run the same call again") as info:
        pn.run_parallel(predict, rows, store=filled, **QUIET)
    assert set(info.value.df["status"]) <= {"ok", "not_run"}
    df = pn.run_parallel(predict, rows, store=filled, **QUIET)
    assert list(df["reason"]) == rows
    assert len(aside(filled)) == 1
    assert pn.run_parallel(predict, rows, store=filled, **QUIET)["cached"].all()


@pytest.mark.slow
def test_one_damaged_page_is_known_wherever_it_is(predict: pn.Predict, tmp_path: Path) -> None:
    """Set aside by the call that meets it, so that the same call again goes on."""
    rows = [f"row-{i} " + "long " * 100 for i in range(200)]
    source = tmp_path / "whole.sqlite"
    pn.run_parallel(predict, rows, store=source, **QUIET)
    pn.store.clear(source, older_than_days=1)  # moves all into the file
    whole = source.read_bytes()
    pages = len(whole) // 4096
    assert pages > 20
    met = 0
    for page in range(1, pages, max(1, pages // 8)):
        path = tmp_path / f"{page}.sqlite"
        path.write_bytes(whole)
        overwrite(path, page * 4096, 4096)
        try:
            df = pn.run_parallel(predict, rows, store=path, **QUIET)
        except pn.RunStopped as error:
            met += "set aside" in str(error)
            df = pn.run_parallel(predict, rows, store=path, **QUIET)
        assert [reason.split()[0] for reason in df["reason"]] == [f"row-{i}" for i in range(200)]
    assert met > 3


def test_an_answer_with_a_changed_byte_is_asked_again_and_not_believed(
    predict: pn.Predict, filled: Path, server: ScriptedServer
) -> None:
    """SQLite itself does not notice this."""
    with sqlite3.connect(filled) as db:
        db.execute("""UPDATE answers SET text = replace(text, 'row-7"', 'row-8"')""")
    server.requests.clear()
    df = pn.run_parallel(predict, [f"row-{i}" for i in range(400)], store=filled, **QUIET)
    assert list(df.index[~df["cached"]]) == [7]
    assert df["reason"][7] == "row-7"
    assert len(server.requests) == 1
    assert pn.run_parallel(predict, ["row-7"], store=filled, **QUIET)["cached"].all()


def test_an_answer_under_another_rows_key_is_not_believed(
    predict: pn.Predict, filled: Path
) -> None:
    """As when an index is damaged."""
    with sqlite3.connect(filled) as db:
        (first, one), (second, other) = db.execute("SELECT id, key FROM answers LIMIT 2").fetchall()
        db.execute("UPDATE answers SET key = x'00' WHERE id = ?", (first,))
        db.execute("UPDATE answers SET key = ? WHERE id = ?", (one, second))
        db.execute("UPDATE answers SET key = ? WHERE id = ?", (other, first))
    rows = [f"row-{i}" for i in range(400)]
    df = pn.run_parallel(predict, rows, store=filled, **QUIET)
    assert list(df["reason"]) == rows
    assert (~df["cached"]).sum() == 2


@pytest.mark.slow
def test_a_read_only_store_is_refused_before_anything_is_sent(
    predict: pn.Predict, filled: Path, server: ScriptedServer
) -> None:
    filled.chmod(0o444)
    server.requests.clear()
    with pytest.raises(pn.StoreError, match=r"filled\.sqlite.*read-only.*store="):
        pn.run_parallel(predict, ["row-1"], store=filled, **QUIET)
    assert not server.requests


FULL = """
import resource, signal, sys
import pardspy_nb as pn
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
lm = pn.LM("m", base_url={url!r})
predict = pn.Predict(pn.Signature("x").add_input("review").add_output("reason"), lm)
rows = [f"row-{{i}} " + "x" * 2000 for i in range(400)]
pn.run_parallel(predict, rows[:3], store={path!r}, progress="none")
hard = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (300_000, hard))  # the disk is full, for this process
try:
    pn.run_parallel(predict, rows, store={path!r}, max_workers=4, progress="none")
except pn.RunStopped as error:
    resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    print(error)
    ok = error.df[error.df["status"] == "ok"]
    print(len(ok), (ok["reason"] == ok["review"].str.split().str[0]).all(), len(error.df))
"""


@pytest.mark.slow
def test_a_full_disk_stops_the_run_clearly_and_keeps_what_was_paid_for(
    server: ScriptedServer, tmp_path: Path
) -> None:
    path = tmp_path / "full.sqlite"
    program = FULL.format(url=server.url, path=str(path))
    done = subprocess.run(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, check=True
    )
    told, counts = done.stdout.strip().splitlines()
    assert "cannot write the store" in told
    assert "check the disk" in told
    ok, right, rows = counts.split()
    assert (right, rows) == ("True", "400")
    paid = sum(server.attempts.values())
    assert paid - 4 <= int(ok) <= paid, "rows in flight are all that was asked beyond"
    info = pn.store.info(path)
    assert info.answers > 3, "and what had been committed is there"


@pytest.mark.slow
def test_a_store_locked_by_another_process_is_waited_for(
    predict: pn.Predict, tmp_path: Path
) -> None:
    import threading

    path = tmp_path / "s.sqlite"
    Store(path).close()
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    threading.Timer(0.5, lambda: other.execute("COMMIT")).start()
    df = pn.run_parallel(predict, ["row-1"], store=path, **QUIET)
    assert list(df["status"]) == ["ok"]
    assert pn.run_parallel(predict, ["row-1"], store=path, **QUIET)["cached"].all()
    other.close()


def test_the_second_to_notice_the_damage_leaves_the_new_store_alone(
    predict: pn.Predict, filled: Path, server: ScriptedServer
) -> None:
    first, second = Store(filled), Store(filled)
    overwrite(filled, 4096, filled.stat().st_size - 4096)
    for store in (first, second):
        store._db.execute("PRAGMA cache_size = 0")
    with pytest.raises(pn.StoreError, match="set aside"):
        first.get(b"x" * 32)
    rows = [f"row-{i}" for i in range(10)]
    pn.run_parallel(predict, rows, store=filled, **QUIET)  # begins a new one
    with pytest.raises(pn.StoreError):
        second.get(b"x" * 32)
    assert len(aside(filled)) == 1
    assert pn.run_parallel(predict, rows, store=filled, **QUIET)["cached"].all()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_store_that_is_removed_while_a_run_goes_on_is_noticed(
    predict: pn.Predict, server: ScriptedServer, tmp_path: Path, replaced: bool
) -> None:
    path = tmp_path / "s.sqlite"
    server.latency_s = lambda marker: 0.01
    run = pn.start_parallel(
        predict, [f"row-{i}" for i in range(200)], store=path, max_workers=4, progress="none"
    )
    while sum(server.attempts.values()) < 20:
        time.sleep(0.002)
    for end in ("", "-wal", "-shm"):
        Path(f"{path}{end}").unlink(missing_ok=True)
    if replaced:
        Store(path).close()
    with pytest.raises(pn.RunStopped, match="removed or replaced") as info:
        run.result()
    df = info.value.df
    assert len(df) == 200
    assert (df["status"] == "ok").sum() >= 20
    assert sum(server.attempts.values()) < 100


@pytest.mark.skipif(not hasattr(os, "getuid"), reason="Windows has no modes")
def test_a_store_is_private_also_if_it_was_there_before(
    predict: pn.Predict, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "s.sqlite"
    Store(path).close()
    path.chmod(0o644)
    pn.run_parallel(predict, ["row-1"], store=path, **QUIET)
    assert path.stat().st_mode & 0o777 == 0o600
    monkeypatch.delenv("PARDSPY_STORE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    folder = pn.store.info().path.parent
    folder.mkdir(parents=True, mode=0o755)
    pn.run_parallel(predict, ["row-1"], **QUIET)
    assert folder.stat().st_mode & 0o777 == 0o700


def refuse_threads(monkeypatch: pytest.MonkeyPatch, named: str) -> None:
    start = threading.Thread.start

    def limited(thread: threading.Thread) -> None:
        if thread.name == named:
            raise RuntimeError("can't start new thread")
        start(thread)

    monkeypatch.setattr(threading.Thread, "start", limited)


def test_a_store_without_a_writer_ends_the_run_with_what_was_answered(
    predict: pn.Predict, store_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    refuse_threads(monkeypatch, "pardspy-store")
    rows = [f"row-{i}" for i in range(20)]
    with pytest.raises(pn.ParallelError, match="can't start new thread") as caught:
        pn.run_parallel(predict, rows, max_workers=2, **QUIET)
    monkeypatch.undo()
    assert len(caught.value.df) == 20
    assert set(caught.value.df["status"]) <= {"ok", "not_run", "cancelled"}


@pytest.mark.parametrize("named", ["pardspy-run", "pardspy-progress", "pardspy-calls"])
def test_a_thread_that_cannot_be_had_ends_at_once(
    predict: pn.Predict, server: ScriptedServer, monkeypatch: pytest.MonkeyPatch, named: str
) -> None:
    """With the system's words, and the next call works again."""
    from pardspy_nb.llm import background_loop

    monkeypatch.setattr(background_loop, "_loop", None)
    refuse_threads(monkeypatch, named)
    start = partial(pn.start_parallel, predict, ["row-1"] * 5, **QUIET)
    with pytest.raises(RuntimeError, match="can't start new thread"):
        (partial(predict, review="row-1") if named == "pardspy-calls" else start)()
    if (run := pn.last_run()) is not None and named == "pardspy-progress":
        run.result()
    monkeypatch.undo()
    assert pn.run_parallel(predict, ["row-1"], **QUIET)["status"].tolist() == ["ok"]
    assert predict(review="row-2").sentiment


_LAST_OF_ALL = """
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
print(db.execute("SELECT count(*) FROM answers").fetchone()[0])
db.close()  # whoever closes last moves the log into the file and deletes it
"""


def test_a_process_that_closes_the_store_leaves_the_others_their_log(
    predict: pn.Predict, store_path: Path
) -> None:
    """Else two processes would write into two logs, and neither see nor keep the other's rows."""

    def counted_elsewhere() -> int:
        counted = subprocess.run(
            [sys.executable, "-c", _LAST_OF_ALL, str(store_path)], capture_output=True, text=True
        )
        return int(counted.stdout)

    pn.run_parallel(predict, ["row-0"], **QUIET)
    kept_open = Store(store_path)
    for n in range(1, 4):
        # each run opens the file once for reading and once for writing
        pn.run_parallel(predict, [f"row-{n}"], **QUIET)
        assert counted_elsewhere() == n + 1
        assert len(list(kept_open.answers())) == n + 1
    assert Path(f"{store_path}-wal").exists()
    kept_open.close()
