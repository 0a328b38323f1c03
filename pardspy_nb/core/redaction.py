"""Secrets, and texts without them.

Text from outside (answers, errors, a provider's files) is redacted where it enters, before anything
cuts it: a part of a key would not be found any more.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit, urlunsplit

MASK = "***"
_SHORTEST = 5  # a shorter secret is none, and may be part of any word
_SECRET_NAME = re.compile(
    r"auth|api.?key|^key$|_key$|token|secret|passw|cookie|credential|signature|^sig$|^code$", re.I
)
_CREDENTIALS = re.compile(r"(?<=://)[^/\s@'\"]+:[^/\s@'\"]*@")


def is_secret(name: str) -> bool:
    """Whether a header, a parameter or a field of a query has a name that secrets have."""
    return bool(_SECRET_NAME.search(name))


def secrets_in(key: str | None, named: Iterable[tuple[str, str]], url: str) -> tuple[str, ...]:
    """The secrets of an endpoint in all forms in which text may quote them, the longest first.

    Args:
        key: the API key.
        named: headers and fields of queries; those with a secret's name count.
        url: a URL, which may hold a user, a password and a query.
    """
    parts = urlsplit(url)
    found = [key, parts.password and unquote(parts.password)]
    for name, value in [*named, *parse_qsl(parts.query)]:
        if is_secret(name):
            found += [value, value.partition(" ")[2]]  # also without "Bearer"
    whole = {secret.strip() for secret in found if secret and len(secret.strip()) >= _SHORTEST}
    forms = {form for secret in whole for form in _forms(secret)}
    return tuple(sorted(forms, key=len, reverse=True))


def _forms(secret: str) -> tuple[str, ...]:
    """A secret as text, in a URL, and in JSON (RFC 8259, section 7, allows `\\/`)."""
    in_json = json.dumps(secret)[1:-1]
    return secret, quote(secret, safe=""), in_json, in_json.replace("/", "\\/")


def redacted(text: str, secrets: Iterable[str]) -> str:
    """The text without the secrets, and without the passwords of URLs."""
    for secret in secrets:
        if secret in text:
            text = text.replace(secret, MASK)
    return _CREDENTIALS.sub(f"{MASK}@", text) if "://" in text and "@" in text else text


def redacted_bytes(raw: bytes, secrets: Iterable[str]) -> bytes:
    """As `redacted`, but for UTF-8; bytes without a secret are passed on unchanged."""
    for secret in secrets:
        if (told := secret.encode()) in raw:
            raw = raw.replace(told, MASK.encode())
    return raw


def public_url(url: str) -> str:
    """A URL without user, password, and the values of secret fields of its query."""
    try:
        parts = urlsplit(url)
        query = [(k, MASK if is_secret(k) else v) for k, v in parse_qsl(parts.query)]
    except ValueError:  # no URL
        return _CREDENTIALS.sub(f"{MASK}@", url)
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit((parts.scheme, host, parts.path, urlencode(query, safe="*"), ""))


def public_params(params: Mapping[str, object]) -> dict[str, object]:
    """Parameters, with a mask in place of those that have a secret's name."""
    return {
        name: MASK if is_secret(name) and isinstance(value, str) else value
        for name, value in params.items()
    }
