"""What a connection that broke, or could not be made, means."""

from __future__ import annotations

import ssl


def is_of_tls(error: BaseException) -> bool:
    """Whether the two sides could not agree on a secure connection; to try again does not help."""
    cause: BaseException | None = error
    while cause is not None:
        is_end = isinstance(cause, ssl.SSLEOFError | ssl.SSLZeroReturnError)  # it broke off
        if isinstance(cause, ssl.SSLError) and not is_end:
            return True
        cause = getattr(cause, "os_error", None) or cause.__cause__
    return False


def is_unsent(error: BaseException) -> bool:
    """Whether no connection could be made.

    The client raises the same error (`ConnectTimeout`) for a connection that broke off. Only the
    last cause in the chain, aiohttp's own error, shows the difference.
    """
    from aiohttp import ClientConnectorError

    cause: BaseException | None = error
    while cause is not None and not isinstance(cause, ClientConnectorError):
        cause = cause.__cause__
    return cause is not None


def was_closed(error: BaseException) -> bool:
    """Whether the other side closed the connection before it said anything."""
    from aiohttp import ClientConnectorError, ClientOSError, ServerDisconnectedError

    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, ServerDisconnectedError | ConnectionError | ClientOSError):
            return not isinstance(cause, ClientConnectorError)
        cause = cause.__cause__
    return False
