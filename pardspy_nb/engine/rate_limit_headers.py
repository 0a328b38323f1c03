"""Reads the rate limits of an endpoint from its response headers."""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

_HEADERS = (  # (limit, remaining, time until the whole limit is available again)
    "x-ratelimit-limit-{}",
    "x-ratelimit-remaining-{}",
    "x-ratelimit-reset-{}",
)
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|s|m|h|d)")
_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_MINUTE_S, _LONGER_S = 60.0, 600.0
# what litellm's proxy says of a key, a team, a user …: no time goes with it, usually a minute
_OF_A_GATEWAY = re.compile(r"x-ratelimit-(\w+)-limit-(requests|tokens)", re.IGNORECASE)
_ABOUT_A_MINUTE_S = 55.0


class Limits(NamedTuple):
    """Requests and tokens a minute; None where there is no limit, or the limit is unknown."""

    rpm: float | None
    tpm: float | None


class HeardLimits:
    """The limits in the headers of one response after another. Any thread may use it.

    The limits of a gateway are taken to be for a minute. If one is available again after a shorter
    time, it is left to the gateway.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._of_gateways: dict[tuple[str, ...], list[tuple[str, str, str]]] = {}  # by all names
        self._first_at: dict[str, float] = {}  # by header, when it was first heard
        self._shorter: set[str] = set()

    def of(self, headers: Mapping[str, str]) -> Limits | None:
        """The limits a minute, None if the headers never held any."""
        names = tuple(headers)
        if names not in self._of_gateways:
            self._of_gateways[names] = _of_gateways(names)
        own = limits_of(headers)
        if not (gateways := self._of_gateways[names]):
            return own
        found = {
            "requests": [own.rpm] if own is not None and own.rpm is not None else [],
            "tokens": [own.tpm] if own is not None and own.tpm is not None else [],
        }
        for name, name_of_rest, what in gateways:
            most = _number(headers[name])
            if most and self._is_a_minutes(name, most, _number(headers.get(name_of_rest))):
                found[what].append(most)
        return Limits(*(min(limits, default=None) for limits in found.values()))

    def _is_a_minutes(self, name: str, most: float, left: float | None) -> bool:
        since_s = self._clock() - self._first_at.setdefault(name, self._clock())
        is_whole_again = left is not None and left >= most - 1
        if is_whole_again and 0 < since_s < _ABOUT_A_MINUTE_S:
            self._shorter.add(name)
        return name not in self._shorter


def _of_gateways(names: Iterable[str]) -> list[tuple[str, str, str]]:
    """The headers of gateways among these: of a limit, of what is left of it, and of what it is."""
    matches = [(name, _OF_A_GATEWAY.fullmatch(name)) for name in names]
    return [
        (name, f"x-ratelimit-{match[1]}-remaining-{match[2]}", match[2].lower())
        for name, match in matches
        if match
    ]


def _number(text: str | None) -> float | None:
    """The number of at least 0 in a text, None if there is none."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) and number >= 0 else None


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
