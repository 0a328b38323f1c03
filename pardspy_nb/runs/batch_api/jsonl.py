"""The files of a batch: requests in, answers out, one JSON object a line (OpenAI guide
"Batch API")."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from typing import Any

from ...core.errors import BatchExpiredError, BatchRejectedError
from ...core.events import Answer
from ...core.usage import Usage
from ...llm.lm import LM
from ...modules.predict import Predict

MAX_REQUESTS, MAX_BYTES = 50_000, 200_000_000  # of one file, at OpenAI
_URL = "/v1/chat/completions"


def files_of(
    requests: Iterable[tuple[int, Mapping[str, Any]]], max_requests: int, max_bytes: int
) -> Iterator[tuple[bytes, list[int]]]:
    """Requests, by the numbers of their rows, as files within a provider's limits.

    Raises:
        ValueError: one request is larger than a file may be.
    """
    lines: list[bytes] = []
    numbers: list[int] = []
    size = 0
    for number, body in requests:
        told = {"custom_id": f"row-{number}", "method": "POST", "url": _URL, "body": body}
        line = json.dumps(told, ensure_ascii=False).encode("utf-8", "replace") + b"\n"
        if len(line) > max_bytes:
            raise ValueError(
                f"the request of row {number} has {len(line):,} bytes, more than a "
                f"file of {max_bytes:,} holds"
            )
        if lines and (len(lines) == max_requests or size + len(line) > max_bytes):
            yield b"".join(lines), numbers
            lines, numbers, size = [], [], 0
        lines.append(line)
        numbers.append(number)
        size += len(line)
    if lines:
        yield b"".join(lines), numbers


def outcomes(
    content: bytes, predict: Predict, lm: LM, factor: float
) -> Iterator[tuple[int, Answer | Exception]]:
    """What became of the rows in a file of answers or errors, by number; costs are times
    `factor`. Lines that nobody can read are left out."""
    for line in content.splitlines():
        try:
            told = json.loads(line)
            number = int(told["custom_id"].removeprefix("row-"))
        except (ValueError, KeyError, TypeError, AttributeError):
            continue
        yield number, _outcome(told, predict, lm, factor)


def _outcome(told: Mapping[str, Any], predict: Predict, lm: LM, factor: float) -> Any:
    response, error = _object(told.get("response")), _object(told.get("error"))
    body, status = _object(response.get("body")), response.get("status_code")
    if isinstance(status, int) and status < 300 and not error:
        try:
            completion = lm.read(body)
            usage = _discounted(completion.usage, factor)
            return predict.answer_of(completion._replace(usage=usage))
        except Exception as failure:  # an answer that does not fit
            return failure
    if isinstance(status, int) and status >= 300:
        return lm.endpoint.error_of(status, body)
    if error.get("code") == "batch_expired":
        return BatchExpiredError(str(error.get("message") or "the batch expired"))
    words = error.get("message") or told.get("error") or "the provider gave no answer"
    return BatchRejectedError(str(words)[:500])


def _object(value: Any) -> Mapping[str, Any]:
    """What providers put in a line may be anything."""
    return value if isinstance(value, dict) else {}


def _discounted(usage: Usage, factor: float) -> Usage:
    cost = None if usage.cost_usd is None else usage.cost_usd * factor
    return replace(usage, cost_usd=cost)
