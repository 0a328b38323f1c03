"""How long an endpoint asks to wait: in a header, or in the words of its refusal."""

from __future__ import annotations

import email.utils
import math
import re
import time
from collections.abc import Mapping

_UNIT_S = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3600.0}
_TIME = r"((?:\d+(?:\.\d+)?(?:ms|[smh]))+)"
_PART = re.compile(r"(\d+(?:\.\d+)?)(ms|[smh])")
_IN_WORDS = (
    re.compile(rf'"retryDelay"\s*:\s*"{_TIME}"'),  # google.rpc.RetryInfo: Gemini
    re.compile(rf"(?:try|retry)[^.]{{0,30}}? (?:in|after) {_TIME}", re.IGNORECASE),  # OpenAI, Groq
    re.compile(
        r"(?:try|retry)[^.]{0,30}? (?:in|after) (\d+(?:\.\d+)?) ?sec", re.IGNORECASE
    ),  # Azure
)


def asked_wait_s(headers: Mapping[str, str], raw: bytes) -> float | None:
    """Seconds to wait as an answer asks, None if it does not ask: by its headers, else by its body
    (`retryDelay`, "try again in 1m2.5s")."""
    asked_s = parse_retry_after(headers)
    if asked_s is not None:
        return asked_s
    text = bytes(raw[:5000]).decode(errors="replace")
    found = next((match for words in _IN_WORDS if (match := words.search(text))), None)
    if found is None:
        return None
    parts = _PART.findall(found[1])
    return sum(float(n) * _UNIT_S[unit] for n, unit in parts) if parts else float(found[1])


def parse_retry_after(headers: Mapping[str, str]) -> float | None:
    """Seconds to wait from `retry-after-ms` or `Retry-After` (seconds or HTTP date, RFC 9110)."""
    if (ms := _finite(headers.get("retry-after-ms"))) is not None:
        return max(0.0, ms / 1e3)
    if (value := headers.get("retry-after")) is None:
        return None
    if (seconds := _finite(value)) is not None:
        return max(0.0, seconds)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except ValueError:
        return None


def _finite(text: str | None) -> float | None:
    """The number in a text; None if the text is not a number, or the number is not finite."""
    try:
        number = float(text or "")
    except ValueError:
        return None
    return number if math.isfinite(number) else None
