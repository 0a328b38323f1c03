"""Images as inputs."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
from support.scripted_server import ScriptedServer

import pardspy_nb as pn

QUIET: dict[str, Any] = {"progress": "none", "store": None}


PNG = bytes.fromhex(
    "89504e470d0a1a0a0000000d4948445200000001000000010806000000"
    "1f15c4890000000d49444154789c63f8cfc0f01f0005000 1ff89993d1d0000000049454e44ae426082".replace(
        " ", ""
    )
)


def test_images_go_as_parts_beside_the_text(
    lm: pn.LM, server: ScriptedServer, tmp_path: Any
) -> None:
    import base64

    path = tmp_path / "a.png"
    path.write_bytes(PNG)
    look = pn.Predict(
        pn.Signature("Look")
        .add_input("photo", pn.Image)
        .add_input("question")
        .add_output("reason"),
        lm,
    )
    photos = [str(path), PNG, "https://example.org/b.jpg", pn.Image(path, detail="low")]
    table = pd.DataFrame({"photo": photos, "question": [f"row-{i}?" for i in range(4)]})
    options: dict[str, Any] = {"progress": "none", "image_root": tmp_path}
    df = pn.run_parallel(look, table, max_workers=1, **options)
    assert list(df["status"]) == ["ok"] * 4 or df["error"].tolist() == []
    parts = [r["messages"][-1]["content"] for r in server.requests]
    assert parts[0][0] == {"type": "text", "text": "question: row-0?\nphoto: (image 1)"}
    data = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
    assert [p[1]["image_url"] for p in parts] == [
        {"url": data},
        {"url": data},
        {"url": "https://example.org/b.jpg"},
        {"url": data, "detail": "low"},
    ]
    assert pn.run_parallel(look, table, **options)["cached"].all()
    path.write_bytes(PNG + b"\0")  # another image under the same name
    assert pn.run_parallel(look, table.iloc[:1], **options)["cached"].tolist() == [False]


def test_detail_is_part_of_what_an_image_is(lm: pn.LM, server: ScriptedServer) -> None:
    look = pn.Predict(pn.Signature("L").add_input("photo", pn.Image).add_output("reason"), lm)
    photos = [pn.Image(PNG, detail="low"), pn.Image(PNG, detail="high"), pn.Image(PNG)]
    assert not pn.run_parallel(look, photos, progress="none")["cached"].any()
    assert len(set(photos)) == 3


def test_what_is_no_image_is_refused_before_anything_is_sent(
    lm: pn.LM, server: ScriptedServer, tmp_path: Any
) -> None:
    (tmp_path / "b.png").write_text("no image")
    look = pn.Predict(pn.Signature("L").add_input("photo", pn.Image).add_output("reason"), lm)
    for bad in (str(tmp_path / "none.png"), str(tmp_path / "b.png"), b"abc", 3):
        with pytest.raises(ValueError, match="photo"):
            pn.run_parallel(look, {"photo": [PNG, bad]}, **QUIET)
    with pytest.raises(ValueError, match="image"):
        pn.run_parallel(look, [PNG], max_cost_usd=1.0, **QUIET)
    assert server.requests == []


@pytest.fixture
def look(lm: pn.LM) -> pn.Predict:
    return pn.Predict(pn.Signature("L").add_input("photo", pn.Image).add_output("reason"), lm)


@pytest.mark.parametrize(
    ("cell", "why"),
    [
        ("{outside}/a.png", "not below"),
        ("{root}/../outside/a.png", "not below"),
        ("{root}/link.png", "not below"),
        ("{root}/secrets.bmp", "not PNG"),
        ("{root}/cut.png", "broken"),
        ("{root}/none.png", "no image file"),
        ("/etc/passwd", "not below"),
        ("file:///etc/passwd", "begins with http"),
        ("ftp://example.org/a.png", "begins with http"),
        ("http://127.0.0.1/a.png", "not public"),
        ("http://localhost:8000/a.png", "not public"),
        ("http://[::1]/a.png", "not public"),
        ("http://[::ffff:127.0.0.1]/a.png", "not public"),
        ("http://169.254.169.254/latest/meta-data/x.png", "not public"),
        ("https://10.1.2.3/a.png", "not public"),
        ("https://192.168.0.1/a.png", "not public"),
        ("https://[fd00::1]/a.png", "not public"),
        ("http://2130706433/a.png", "not public"),
        ("http://0x7f.1/a.png", "not public"),
        ("http://metadata.google.internal/x", "not public"),
        ("http://intranet/a.png", "not public"),
        ("http://user@127.0.0.1/a.png", "not public"),
        ("data:text/html;base64,AAAA", "data: URL"),
        ("data:image/png;base64,AAAA", "not PNG"),
    ],
)
def test_a_cell_names_only_images_that_may_be_sent(
    look: pn.Predict, server: ScriptedServer, tmp_path: Any, cell: str, why: str
) -> None:
    root, outside = tmp_path / "root", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    (outside / "a.png").write_bytes(PNG)
    (root / "link.png").symlink_to(outside / "a.png")
    (root / "secrets.bmp").write_text("BM_PASSWORD=hunter2\n" * 9)
    (root / "cut.png").write_bytes(PNG[:40])
    given = cell.format(root=root, outside=outside)
    options: dict[str, Any] = {**QUIET, "image_root": root}
    with pytest.raises(ValueError, match=f"photo.*{why}"):
        pn.run_parallel(look, {"photo": [PNG, given]}, **options)
    with pytest.raises(pn.ParallelError, match=why):  # of a stream only when the row comes
        pn.run_parallel(look, iter([{"photo": given}]), **options)
    assert server.requests == []


def test_what_is_allowed_by_name_is_sent(
    look: pn.Predict, server: ScriptedServer, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a.png").write_bytes(PNG)
    monkeypatch.chdir(tmp_path)
    cells = ["a.png", str(tmp_path / "a.png"), "https://example.org/a", "http://10.0.0.5/a.png"]
    df = pn.run_parallel(look, cells, image_hosts=["10.0.0.5"], **QUIET)
    assert df["status"].eq("ok").all()
    elsewhere = pn.Image(tmp_path / "a.png")  # made by the user, not named by a row
    monkeypatch.chdir("/")
    assert pn.run_parallel(look, [elsewhere], **QUIET)["status"].eq("ok").all()
    files = [str(tmp_path / "a.png")] * 30
    run = pn.start_parallel(
        look, files, image_root=tmp_path, max_workers=1, dedupe=False, repeat=2, **QUIET
    )
    run.max_workers = 4  # from another thread, with another context
    assert run.result()["status"].eq("ok").all()
    with pytest.raises(ValueError, match="image_root must be a folder"):
        pn.run_parallel(look, cells, image_root=tmp_path / "no", **QUIET)
