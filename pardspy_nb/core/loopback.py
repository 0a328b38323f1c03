"""Which hosts are this machine, and which are on a network that is not public."""

from __future__ import annotations

import contextlib
import ipaddress
import socket

# names that only a local network resolves (RFC 6761, RFC 6762, RFC 8375; ICANN's `.internal`)
_LOCAL = (".localhost", ".local", ".internal", ".intranet", ".lan", ".home.arpa", ".corp", ".test")


def is_loopback(host: str) -> bool:
    """Whether a host's name or address is this machine's own (RFC 6761, section 6.3)."""
    name = host.strip("[]").rstrip(".").casefold()
    if name == "localhost" or name.endswith(".localhost"):
        return True
    address = address_of(name)
    return address is not None and address.is_loopback


def is_public(host: str) -> bool:
    """Whether a host can be reached from anywhere, as far as its name or address tells: not
    loopback, link-local, private (RFC 1918, RFC 4193), reserved, or a name that only a local
    network knows."""
    name = host.strip("[]").rstrip(".").casefold()
    address = address_of(name)
    if address is None:
        with contextlib.suppress(OSError):  # 127.1, 0x7f000001 and 2130706433 are addresses, too
            address = ipaddress.IPv4Address(socket.inet_aton(name))
    if address is not None:
        return address.is_global and not address.is_multicast
    return "." in name and not name.endswith(_LOCAL)


def address_of(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    """The address that a host is written as; None for a name."""
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address
