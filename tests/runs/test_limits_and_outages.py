"""Limits and outages of real endpoints: no row is lost, and the run slows down."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
from support.scripted_server import Reply, ScriptedServer

import pardspy_nb as pn

pytestmark = pytest.mark.slow

QUIET: dict[str, Any] = {"store": None, "progress": "none"}
Headers = Callable[[float], dict[str, str]]


class Limit:
    """Lets in so many requests a window, and refuses the others."""

    def __init__(self, most: int, window_s: float, status: int, headers: Headers) -> None:
        self.most, self.window_s, self.status, self.headers = most, window_s, status, headers
        self.began, self.let_in, self.refused = 0.0, 0, 0
        self._lock = threading.Lock()

    def __call__(self, marker: int, attempt: int) -> Reply:
        with self._lock:
            now = time.monotonic()
            if now - self.began >= self.window_s:
                self.began, self.let_in = now, 0
            if self.let_in < self.most:
                self.let_in += 1
                return Reply()
            self.refused += 1
            headers = self.headers(self.window_s - (now - self.began))
            return Reply("status", code=self.status, headers=headers)


def asked(predict: pn.Predict, n: int, **options: Any) -> Any:
    return pn.run_parallel(predict, [f"row-{i}" for i in range(n)], **{**QUIET, **options})


@pytest.mark.slow
@pytest.mark.parametrize(
    ("status", "headers"),
    [
        (429, lambda left_s: {"retry-after-ms": str(int(left_s * 1e3) + 1)}),
        (429, lambda left_s: {"retry-after": "0"}),
        (429, lambda left_s: {}),
        (503, lambda left_s: {}),
        (529, lambda left_s: {}),
    ],
)
@pytest.mark.parametrize("workers", ["auto", 16])
def test_no_row_is_lost_to_a_limit(
    predict: pn.Predict, server: ScriptedServer, status: int, headers: Headers, workers: Any
) -> None:
    server.script = limit = Limit(8, 0.4, status, headers)
    df = asked(predict, 30, max_workers=workers)
    assert df["status"].eq("ok").all()
    assert df["reason"].tolist() == [f"row-{i}" for i in range(30)]
    assert limit.refused < 60, "the run slows down and does not storm"


def test_rows_come_back_gradually_after_a_hold(predict: pn.Predict, server: ScriptedServer) -> None:
    server.script = limit = Limit(5, 1.0, 429, lambda left_s: {"retry-after": "1"})
    df = asked(predict, 20, max_workers=20)
    assert df["status"].eq("ok").all()
    assert limit.refused < 45, "all twenty at once in each window were sixty"


@pytest.mark.parametrize(
    "down", [Reply("status", code=502), Reply("status", code=504), Reply("reset")]
)
def test_no_row_is_lost_to_an_outage(
    predict: pn.Predict, server: ScriptedServer, down: Reply
) -> None:
    back_at = time.monotonic() + 1.5
    server.script = lambda marker, attempt: down if time.monotonic() < back_at else Reply()
    df = asked(predict, 20, max_workers=8)
    assert df["status"].eq("ok").all()
    assert len(server.requests) < 60


def test_an_outage_that_lasts_longer_than_the_option_fails_the_rows(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    server.script = lambda marker, attempt: Reply("status", code=503)
    began = time.monotonic()
    df = asked(predict, 12, outage_s=0.5, max_attempts=2, max_failures=None)
    assert df["error_type"].eq("ServerError").all()
    assert time.monotonic() - began < 10


def test_a_row_that_alone_is_refused_fails_after_its_attempts(
    predict: pn.Predict, server: ScriptedServer, fast_retries: None
) -> None:
    too_large = Reply("status", code=429, message="Request too large for the model")
    server.script = lambda marker, attempt: too_large if marker == 3 else Reply()
    server.delay_s = 0.01
    df = asked(predict, 200, max_workers=4, max_failures=1)
    failed = df[df["status"] == "failed"]
    assert failed.index.tolist() == [3]
    assert failed["attempts"].tolist() == [4]


@pytest.mark.parametrize("header", ["3600", "Fri, 01 Jan 2100 00:00:00 GMT"])
def test_a_longer_wait_than_the_option_ends_the_run_with_the_reason(
    predict: pn.Predict, server: ScriptedServer, header: str
) -> None:
    reply = Reply("status", code=429, headers={"retry-after": header}, message="daily limit")
    server.script = lambda marker, attempt: Reply() if marker < 2 else reply
    with pytest.raises(
        pn.RunStopped, match=r"asks to wait [\d,]+ s, longer than outage_s=120"
    ) as e:
        asked(predict, 50, max_workers=1)
    assert "daily limit" in str(e.value)
    assert e.value.df["status"].value_counts().to_dict()["ok"] == 2
    assert len(server.requests) == 3


def test_a_wait_in_the_words_of_a_refusal_is_kept(
    predict: pn.Predict, server: ScriptedServer
) -> None:
    body = {"details": [{"@type": "type.googleapis.com/google.rpc.RetryInfo", "retryDelay": "1s"}]}
    server.script = lambda marker, attempt: (
        Reply("status", code=429, body=body) if len(server.requests) == 1 else Reply()
    )
    asked(predict, 3, max_workers=1)
    assert server.times_s[1] - server.times_s[0] >= 1


def test_one_attempt_is_one_attempt(predict: pn.Predict, server: ScriptedServer) -> None:
    server.script = lambda marker, attempt: Reply("status", code=503)
    df = asked(predict, 5, max_attempts=1, max_failures=None)
    assert df["attempts"].tolist() == [1] * 5
    assert len(server.requests) == 5


@pytest.mark.parametrize("value", [-1, float("nan"), float("inf"), "long", True])
def test_a_limit_that_is_no_time_is_refused(predict: pn.Predict, value: Any) -> None:
    with pytest.raises(ValueError, match="outage_s must be a number of seconds"):
        asked(predict, 1, outage_s=value)
