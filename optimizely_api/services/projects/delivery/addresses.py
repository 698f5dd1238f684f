"""Which addresses may be called: a webhook's URL is a caller's text, and must not lead into the operator's network."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address

# Where a network without IPv4 reaches it: the last 32 bits are an address of IPv4 (RFC 6052 section 2.1).
_TRANSLATED = IPv6Network("64:ff9b::/96")


def is_public(address: str) -> bool:
    """Whether an IP address is one of the public internet, and so are the addresses of IPv4 that it holds.

    Private, shared, loopback, link-local, multicast and reserved ones are not, nor is text that is no address.
    """
    try:
        parsed = ip_address(address.partition("%")[0])
    except ValueError:
        return False
    if parsed in _TRANSLATED:
        return _is_public(IPv4Address(int(parsed) & 0xFFFFFFFF))
    return all(_is_public(each) for each in (parsed, *_held(parsed)))


def _is_public(address: IPv4Address | IPv6Address) -> bool:
    return address.is_global and not address.is_multicast and not address.is_reserved


def _held(address: IPv4Address | IPv6Address) -> list[IPv4Address]:
    """What an address of IPv6 leads to by way of older tunnels."""
    if isinstance(address, IPv4Address):
        return []
    found = (address.ipv4_mapped, address.sixtofour, *(address.teredo or ()))
    return [each for each in found if each is not None]
