"""Any value makes a frame."""

from __future__ import annotations

from typing import Any

import pytest
from support.scripted_server import ScriptedServer

import pardspy_nb as pn

QUIET: dict[str, Any] = {"progress": "none", "store": None}


@pytest.mark.parametrize("value", [2**70, "half a pair \ud800", {"a": [1]}, b"x", 1.5], ids=repr)
def test_any_value_makes_a_frame(value: Any) -> None:
    df = pn.run_parallel(lambda i: {"out": i}, {"i": [value, value]}, **QUIET)
    assert list(df["status"]) == ["ok", "ok"]
    assert str(df["out"][0]).encode()


def test_an_integer_too_large_for_its_column_is_kept(server: ScriptedServer) -> None:
    class Big:
        async def complete(self, messages: Any, **more: Any) -> pn.Completion:
            return pn.Completion('{"b": 100000000000000000000}', pn.Usage(2**64, 1, 1), "m")

    df = pn.run_parallel(pn.Predict("a -> b: int", Big()), ["x"], **QUIET)
    assert df["b"][0] == 10**20
    assert df["prompt_tokens"].isna().all()  # no call has so many
