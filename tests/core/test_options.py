"""Options are checked before anything starts."""

from __future__ import annotations

from typing import Any

import pytest
from support.scripted_server import ScriptedServer

import pardspy_nb as pn


@pytest.mark.parametrize(
    "options",
    [
        {"max_workers": 0},
        {"max_workers": True},
        {"max_workers": "many"},
        {"repeat": 0},
        {"max_failures": -1},
        {"max_failures": 1.5},
        {"timeout_s": 0},
        {"max_attempts": 0},
        {"progress": "bar"},
        {"store": 1.5},
    ],
    ids=str,
)
def test_options_out_of_range_are_refused_by_name(
    predict: pn.Predict, server: ScriptedServer, options: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=next(iter(options))):
        pn.run_parallel(predict, ["row-0"], **options)
    assert not server.requests


def test_an_unknown_option_names_the_nearest(predict: pn.Predict) -> None:
    with pytest.raises(TypeError, match="did you mean 'max_workers'"):
        pn.run_parallel(predict, ["row-0"], max_worker=3)
