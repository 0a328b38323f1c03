"""Reads the rate limits of an endpoint from its response headers."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from typing import NamedTuple

_HEADERS = (  # (limit, remaining, time until the whole limit is available again)
    "x-ratelimit-limit-{}",
    "x-ratelimit-remaining-{}",
    "x-ratelimit-reset-{}",
)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MINUTE_S, _LONGER_S = 60.0, 600.0


class Limits(NamedTuple):
    """Requests and tokens a minute; None where there is no limit, or the limit is unknown."""

    rpm: float | None
    tpm: float | None


def limits_of(headers: Mapping[str, str]) -> Limits | None:
    """The limits a minute in the headers of OpenAI and of compatible endpoints
    (`x-ratelimit-limit-requests`, `-tokens`; OpenAI guide "Rate limits"). None without any limit.

    Some endpoints count requests by the day under the same names. The remaining amount and the
    time until the whole limit is available again show the period. Limits for more than a minute
    are left to the endpoint.
    """
    found = Limits(_per_minute(headers, "requests"), _per_minute(headers, "tokens"))
    return None if found == (None, None) else found


def _per_minute(headers: Mapping[str, str], what: str) -> float | None:
    limit, remaining, reset = (headers.get(name.format(what)) for name in _HEADERS)
    if limit is None:
        return None
    try:
        most = float(limit)
        used = most - float(remaining) if remaining is not None else 0.0
    except ValueError:
        return None
    if not (math.isfinite(most) and most > 0):
        return None
    reset_s = None if reset is None else seconds_of(reset)
    # the whole limit comes back in one period, so the used share comes back in the same share of
    # a period; where periods begin at fixed times, the reset is at most one period away
    if reset_s is not None and used > 0:
        is_longer = reset_s > _MINUTE_S and reset_s * most / used > _LONGER_S
        return None if is_longer else most
    return most


def seconds_of(text: str) -> float | None:
    """The seconds of a text such as `6m0s`, `120ms`, `1.5s` or plain seconds; None if the text is
    no time."""
    try:
        return float(text)
    except ValueError:
        parts = _PART.findall(text)
        whole = "".join(number + unit for number, unit in parts) == text.strip()
        return sum(float(n) * _UNIT_S[unit] for n, unit in parts) if parts and whole else None
