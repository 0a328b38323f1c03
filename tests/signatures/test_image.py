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
    df = pn.run_parallel(look, table, progress="none", max_workers=1)
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
    assert pn.run_parallel(look, table, progress="none")["cached"].all()
    path.write_bytes(PNG + b"\0")  # another image under the same name
    assert pn.run_parallel(look, table.iloc[:1], progress="none")["cached"].tolist() == [False]


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
