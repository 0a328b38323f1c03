"""What an endpoint's refusal means: its HTTP status, read together with what its body says.

Providers put the same fault under different statuses, so the words decide first. They are those of
public reports about OpenAI, Azure, Anthropic, Gemini, Mistral, Groq, xAI, OpenRouter, Moonshot,
Zhipu, DeepSeek, litellm, vLLM and llama.cpp.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from typing import Any

from ..core import errors
from ..core.plain_text import printable

_OF_ERRORS = ("error", "errors", "detail", "message", "msg")  # where bodies tell an error
_MOST_SHOWN = 500  # characters of a message
_BEHIND_A_GATEWAY = (408, 502, 504, 524)  # the model may have answered, and be billed
_OUTAGE = (502, 503, 504, 529)  # beside 429: what a gateway says of all that is behind it
_PASSES = (408, 409, 424, 425, 498, 529)  # beside 5xx


def _words(text: str) -> re.Pattern[str]:
    return re.compile(text, re.IGNORECASE)


_MONEY = _words(
    r"insufficient.?(quota|balance|funds|credit)|billing.?(not.?active|hard.?limit)"
    r"|budget.?(has been )?exceeded|exceeded.?(your )?current.?quota|payment.?required"
    r"|credit balance is too low|out of credits|余额不足|欠费"
)
_KEY = _words(
    r"(incorrect|invalid|wrong|missing|no|expired).{0,20}api.?key|api.?key.{0,20}(invalid|not valid"
    r"|incorrect|missing|expired)|invalid.?authentication|authentication.?error|令牌|身份验证失败"
)
_MODEL = _words(
    r"invalid model|model.{0,80}(does not exist|not found|not exist|is not supported|unknown)"
    r"|(unknown|no such|unsupported) model|server is pinned to|模型不存在"
)
_FILTER = _words(
    r"content.?(filter|policy|management)|responsible.?ai|moderation|flagged|data.?inspection"
    r"|prohibited.?content|safety (system|filter|setting)s?"
)
_TOO_LONG = _words(
    r"maximum context length|context (window|length|size).{0,40}exceed|string.?above.?max.?length"
    r"|exceeds?.{0,40}context (window|length|size)|prompt is too long|too many (input )?tokens"
    r"|context.?length.?exceeded"
)
_PARAMETER = _words(
    r"unsupported.?(parameter|value)|(unknown|unrecognized|invalid|unexpected) (parameter|argument"
    r"|request argument|field|name)|extra inputs are not permitted|is not supported with this model"
)
_LIMIT = _words(r"rate.?limit|too many requests|resource.?exhausted|throttl")
_BUSY = _words(r"overloaded|unavailable|no capacity|at capacity|try again later")
_ADDRESS = _words(r"unexpected endpoint|^not found|no route|unknown (path|url)")
_TITLE = re.compile(r"<title[^>]*>(.*?)</title>", re.IGNORECASE | re.DOTALL)
_ONE_ANSWER = _words(r"json_validate_failed|failed to (generate|validate) json")


def error_of(status: int, raw: bytes, url: str) -> errors.AttemptError:
    """The error that an answer with this status and body stands for."""
    body = _body(raw)
    code = str(body.get("code") or body.get("type") or "")
    words = f"{code} {_message(body, raw)}"
    kind, remedy = _kind(status, words, url)
    param = body.get("param")
    about = f" (param: {param})" if isinstance(param, str) and param else ""
    shown = printable(_message(body, raw))
    error = kind(f"HTTP {status}: {shown}{about}"[:_MOST_SHOWN] + remedy)
    error.status_code = status
    if status == 403 and not _KEY.search(words):
        error.fatal, error.fatal_if_none_succeeds = False, error.fatal
    if kind is errors.BadRequestError and _PARAMETER.search(words):
        error.fatal_if_none_succeeds = True
    if isinstance(error, errors.LMError):
        error.may_be_billed = status in _BEHIND_A_GATEWAY
        error.outage = error.outage or (error.overloaded and status in _OUTAGE)
    return error


def _kind(status: int, words: str, url: str) -> tuple[type[errors.AttemptError], str]:
    """The class of the error, and what to do about it."""
    if status == 402 or (400 <= status < 500 and _MONEY.search(words)):
        return errors.QuotaError, ""
    if status == 429:
        return errors.RateLimitError, ""
    if status < 500 and _FILTER.search(words):
        return errors.RefusedOutputError, ""
    if status == 401 or (status < 500 and _KEY.search(words)):
        return errors.AuthenticationError, " (check OPENAI_API_KEY or LM(api_key=…))"
    if status == 403:
        return errors.AuthenticationError, " (check what the key may use)"
    if status == 407:
        return errors.UnsendableError, " (the proxy wants a name and a password: HTTPS_PROXY)"
    if status in (404, 405) or _MODEL.search(words):
        return errors.ModelNotFoundError, f" (check the model's name and base_url={url})"
    if _TOO_LONG.search(words):
        return errors.ContextLengthError, ""
    if status in _PASSES or status >= 500:
        return errors.ServerError, ""
    if _ONE_ANSWER.search(words):  # Groq: the model's answer did not fit; another one may
        return errors.ServerError, ""
    is_parameter = _PARAMETER.search(words)
    return errors.BadRequestError, " (what LM(…) sends can be changed)" if is_parameter else ""


def json_of(raw: bytes) -> dict[str, Any] | None:
    """The JSON object in a body, None if it holds none. Gemini sends errors in a list."""
    from pydantic_core import from_json  # twice as fast as json

    try:
        answer = from_json(raw)
    except ValueError:  # json reads more: half a surrogate pair, other encodings
        try:
            answer = json.loads(raw)
        except (ValueError, RecursionError):
            return None
    if isinstance(answer, list) and len(answer) == 1:
        answer = answer[0]
    return answer if isinstance(answer, dict) else None


def error_in(answer: Mapping[str, Any]) -> int | None:
    """The status of the error that a body with the status 200 holds instead of an answer; None if
    it is an answer."""
    if answer.get("choices") or not any(answer.get(name) for name in _OF_ERRORS):
        return None
    body = _inner(answer)
    for code in (body.get("code"), body.get("status"), body.get("status_code")):
        if re.fullmatch("[45][0-9]{2}", str(code)):
            return int(str(code))
    said = _message(body, b"")
    words = f"{body.get('code')} {body.get('type')} {said}"
    if _ADDRESS.search(said):
        return 404
    if _LIMIT.search(words):
        return 429
    if _BUSY.search(words):
        return 503
    is_told = any(of.search(words) for of in (_MONEY, _KEY, _MODEL, _FILTER, _TOO_LONG))
    return 400 if is_told else 500


def _body(raw: bytes) -> dict[str, Any]:
    return _inner(json_of(raw) or {})


def _inner(body: Mapping[str, Any]) -> dict[str, Any]:
    """What a body says of an error: its `error`, the first of its `errors`, or the body itself."""
    several = body.get("errors")
    first = several[0] if isinstance(several, list) and several else None
    inner = body.get("error") or first or body
    if isinstance(inner, str):
        return {"message": inner}
    return dict(inner) if isinstance(inner, Mapping) else {}


def _message(body: Mapping[str, Any], raw: bytes) -> str:
    metadata = body.get("metadata")  # OpenRouter quotes the provider's own words in it
    more = metadata.get("raw") if isinstance(metadata, dict) else None
    said = body.get("message") or body.get("detail") or body.get("msg")
    if said:
        return f"{said} {more}" if isinstance(more, str) else str(said)
    text = raw[:5000].decode(errors="replace")
    title = _TITLE.search(text)
    return f"a web page, {' '.join(title[1].split())!r}" if title else text[:200]
