"""Limits that an endpoint's response headers tell."""

from __future__ import annotations

import pytest

from pardspy_nb.engine.rate_limit_headers import HeardLimits, Limits, limits_of, seconds_of


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"x-ratelimit-limit-requests": "500"}, Limits(500, None)),
        (
            {
                "x-ratelimit-limit-requests": "60",
                "x-ratelimit-remaining-requests": "59",
                "x-ratelimit-reset-requests": "1s",
                "x-ratelimit-limit-tokens": "150000",
                "x-ratelimit-remaining-tokens": "149984",
                "x-ratelimit-reset-tokens": "6ms",
            },
            Limits(60, 150000),
        ),  # OpenAI's guide
        (
            {
                "x-ratelimit-limit-requests": "14400",
                "x-ratelimit-remaining-requests": "14370",
                "x-ratelimit-reset-requests": "2m59.56s",
                "x-ratelimit-limit-tokens": "18000",
                "x-ratelimit-remaining-tokens": "17997",
                "x-ratelimit-reset-tokens": "7.66ms",
            },
            Limits(None, 18000),
        ),  # Groq counts requests by the day
        ({"x-ratelimit-limit-requests": "many"}, None),
        ({"x-ratelimit-limit-tokens": "0"}, None),
        ({"x-ratelimit-limit-tokens": "inf"}, None),
        (
            {
                "x-ratelimit-limit-requests": "0",
                "x-ratelimit-remaining-requests": "-1",
                "x-ratelimit-reset-requests": "1s",
            },
            None,
        ),
    ],
)
def test_limits_are_read_from_response_headers(
    headers: dict[str, str], expected: Limits | None
) -> None:
    assert limits_of(headers) == expected


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("6m0s", 360), ("120ms", 0.12), ("1.5s", 1.5), ("7", 7), ("1d2h", 93600), ("soon", None)],
)
def test_durations_of_headers(text: str, seconds: float | None) -> None:
    assert seconds_of(text) == (None if seconds is None else pytest.approx(seconds))


def gateway(
    limit: int, remaining: int, of: str = "api_key", what: str = "requests"
) -> dict[str, str]:
    prefix = f"x-ratelimit-{of}"
    return {f"{prefix}-limit-{what}": str(limit), f"{prefix}-remaining-{what}": str(remaining)}


def test_the_lowest_of_a_gateways_limits_is_kept() -> None:
    own = {"x-ratelimit-limit-requests": "50"}
    heard = HeardLimits().of(gateway(60, 59) | gateway(30, 29, "team") | own)
    assert heard == Limits(30, None)
    both = gateway(60, 59) | gateway(9000, 8000, "model_per_key", "tokens")
    assert HeardLimits().of(both) == Limits(60, 9000)
    assert HeardLimits().of({"content-type": "application/json"}) is None


def test_a_gateways_limit_that_is_whole_again_within_a_minute_is_left_to_it() -> None:
    now = [100.0]
    headers = HeardLimits(lambda: now[0])
    assert headers.of(gateway(5, 4)) == Limits(5, None)
    now[0] += 12
    assert headers.of(gateway(5, 3)) == Limits(5, None)
    now[0] += 12
    assert headers.of(gateway(5, 4)) == Limits(None, None), "it is one of less than a minute"
    minute = HeardLimits(lambda: now[0])
    assert minute.of(gateway(5, 4)) == Limits(5, None)
    now[0] += 61
    assert minute.of(gateway(5, 4)) == Limits(5, None)
