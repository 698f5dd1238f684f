"""Client address, scheme and path prefix from the headers of trusted proxies."""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any

from optimizely_api.runtime.server.http1.head import Fields, Refusal

Address = tuple[str, int] | None

_WITH_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([0-9.]{7,15}))(?::([0-9]{1,5}))?")
# A path that cannot be read as `//host`.
_MAPPED_BITS = 96  # of an IPv6 address before the IPv4 one that is a part of it
_PREFIX = re.compile(rb"(?:(?:/(?!/)[0-9A-Za-z._~!$&'()*+=:@-]+){1,32})?")


def peer_address(name: Any) -> Address:
    """Return (address, port) of a socket's peer, whose name is `name`; None for a Unix socket."""
    if not isinstance(name, tuple):
        return None
    host, port = name[:2]
    return _plain(host) if ":" in host else host, port


def _plain(host: str) -> str:
    """Return an address in its usual spelling; raises ValueError for what is no address.

    Of an IPv4 peer, a socket on `[::]` has the address as a part of an IPv6 one (RFC 4291 section 2.5.5.2).
    """
    address = ipaddress.ip_address(host)
    return str((address.version == 6 and address.ipv4_mapped) or address)


def _plain_network(network: Any) -> Any:
    """Return the network of IPv4 addresses that a network of IPv6 ones is, if it is one."""
    address = network.network_address
    if address.version == 4 or address.ipv4_mapped is None or network.prefixlen < _MAPPED_BITS:
        return network
    return ipaddress.ip_network((address.ipv4_mapped, network.prefixlen - _MAPPED_BITS))


class TrustedProxies:
    """The peers whose headers are trusted, and the headers that carry the scheme of the client's connection.

    `secure_headers` maps the name of a header to the value that means HTTPS (gunicorn's `secure_scheme_headers`).
    Values are compared without regard to case. Of several values the first counts: it is about the client itself.
    """

    def __init__(
        self, allowed: Iterable[str], networks: Iterable[Any], secure_headers: Mapping[str, str]
    ) -> None:
        self._trusts_all = "*" in allowed
        self._networks = tuple(map(_plain_network, networks))
        self._secure = {
            name.lower().encode("latin-1"): value.lower().encode("latin-1")
            for name, value in secure_headers.items()
        }

    def trusts(self, peer: Any) -> bool:
        """Whether `peer`, the address of a connection, is trusted; a Unix socket only if all peers are (`*`)."""
        if self._trusts_all:
            return True
        try:
            address = ipaddress.ip_address(peer[0])
        except (ValueError, IndexError, TypeError):
            return False
        return any(address in network for network in self._networks)

    def scheme(self, fields: Fields, default: str) -> str:
        """Return the scheme in a trusted peer's headers; raises Refusal if they contradict each other."""
        found: str | None = None
        for name, value in fields:
            secure = self._secure.get(name)
            if secure is None:
                continue
            scheme = "https" if value.partition(b",")[0].strip().lower() == secure else "http"
            if found is not None and found != scheme:
                raise Refusal(400, "Contradictory scheme headers")
            found = scheme
        return found or default

    def client(self, fields: Fields, peer: Address) -> Address:
        """Return the client's address from a trusted peer's Forwarded (RFC 7239) or else X-Forwarded-For.

        It is the rightmost address that is not a trusted proxy: the client may have invented everything left of it. If
        all are proxies, it is the leftmost. An entry that is not an address ends the search at the address before it.
        """
        found = peer
        for text in reversed(_hops(fields)):
            address = _address(text)
            if address is None:
                return found
            found = address
            if self._trusts_all or not self.trusts(found):
                # With `*` we cannot tell proxies from clients: take the rightmost address, which the peer itself added.
                return found
        return found

    def prefix(self, fields: Fields, default: str) -> str:
        """Return the path prefix that a trusted peer removed (X-Forwarded-Prefix), such as `/a/b`; or `default`.

        Raises Refusal if it is not a path.
        """
        for name, value in fields:
            if name == b"x-forwarded-prefix":
                first = value.partition(b",")[0].strip().rstrip(b"/")
                if not _PREFIX.fullmatch(first):
                    raise Refusal(400, "Invalid X-Forwarded-Prefix header")
                return first.decode("ascii")
        return default


def _hops(fields: Fields) -> list[str]:
    """Return the addresses of the chain, the client's first; [] without a header. Forwarded takes precedence."""
    forwarded = b",".join(value for name, value in fields if name == b"forwarded").decode("latin-1")
    if forwarded:
        return [_for(element) for element in forwarded.split(",")]
    value = b",".join(value for name, value in fields if name == b"x-forwarded-for").decode("latin-1")
    return value.split(",") if value else []


def _for(element: str) -> str:
    """Return the `for` parameter of an element of Forwarded; "" without one."""
    for pair in element.split(";"):
        name, _, value = pair.partition("=")
        if name.strip().lower() == "for":
            return value.strip().strip('"')
    return ""


def _address(text: str) -> Address:
    """Return (address, port or 0); forms: `192.0.2.1[:80]`, `2001:db8::1` and `[2001:db8::1][:80]`."""
    text = text.strip()
    match = _WITH_PORT.fullmatch(text)
    host, port = (match[1] or match[2], match[3]) if match else (text, None)
    try:
        return _plain(host), int(port or 0)
    except ValueError:
        return None
