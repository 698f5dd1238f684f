"""The authority of a request, `host[:port]`, in the Host header and in absolute request targets."""

import re
from functools import lru_cache
from ipaddress import AddressValueError, IPv6Address

# Narrower than RFC 3986 section 3.2.2, which allows `;`, `,`, quotes and percent-encoding in a registered name. No DNS
# name has them, and the authority is copied into Link and Location headers, where they have a meaning. User information
# is not accepted either: RFC 9110 section 4.2.4 calls it a likely attack.
_AUTHORITY = re.compile(rb"(?:\[([0-9A-Fa-f:.]{2,45})\]|[0-9A-Za-z._~-]{1,253})(?::([0-9]{0,5}))?")
_ABSOLUTE = re.compile(rb"https?://([^/]*)(/.*)?", re.IGNORECASE | re.DOTALL)


@lru_cache(maxsize=512)
def is_authority(value: bytes) -> bool:
    """Whether `value` is a name, an IPv4 address or a bracketed IPv6 address, with or without a port of 1 to 65535.

    A colon without digits after it is accepted as well (RFC 3986 section 3.2.3).
    """
    match = _AUTHORITY.fullmatch(value)
    if match is None:
        return False
    address, port = match.groups()
    return (not port or 0 < int(port) < 65536) and (address is None or _is_ipv6(address))


def _is_ipv6(address: bytes) -> bool:
    try:
        IPv6Address(address.decode("ascii"))
    except AddressValueError:
        return False
    return True


def split_absolute(target: bytes) -> tuple[bytes, bytes] | None:
    """Return (authority, path) of an `http://host/path` target without its query (RFC 9112 section 3.2.2), or None."""
    match = _ABSOLUTE.fullmatch(target)
    if match is None or not is_authority(match[1]):
        return None
    return match[1], match[2] or b"/"


def is_target(method: str, target: bytes) -> bool:
    """Whether `target`, without its query, has the form that its method requires (RFC 9112 section 3.2)."""
    if method == "CONNECT":
        return is_authority(target) and target.rpartition(b":")[2].isdigit()
    if target.startswith(b"/"):
        return True
    return (target == b"*" and method == "OPTIONS") or split_absolute(target) is not None
