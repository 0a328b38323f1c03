"""Text that can be written and shown anywhere."""

from __future__ import annotations

import re

# the C0 and C1 control characters but tab and line feed, and DEL: they move a terminal's cursor,
# set its title, or change what was printed before (ECMA-48); and marks that turn text around
_CONTROLS = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def writable(text: str) -> str:
    """The text with half surrogate pairs spelled out (`\\ud800`): nothing can encode them."""
    return text.encode("utf-8", "backslashreplace").decode()


def printable(text: str) -> str:
    """The text with control characters spelled out (`\\x1b`), for a terminal."""
    return _CONTROLS.sub(_spelled, text)


def _spelled(found: re.Match[str]) -> str:
    code = ord(found[0])
    return f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}"
