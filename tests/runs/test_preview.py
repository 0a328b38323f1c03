"""What would be sent, before anything is."""

from __future__ import annotations

from typing import Any

import pytest
from support.scripted_server import ScriptedServer

import pardspy_nb as pn

QUIET: dict[str, Any] = {"progress": "none"}


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
