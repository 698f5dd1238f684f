"""What a proxy says of the connection that its client came by, taken from proxies that are trusted."""

import ipaddress
import re
from collections.abc import Iterable, Mapping
from typing import Any

from optimizely_api.runtime.server.http1.head import Fields, Refusal

Address = tuple[str, int] | None

_WITH_PORT = re.compile(r"(?:\[([0-9A-Fa-f:.]{2,45})\]|([0-9.]{7,15}))(?::([0-9]{1,5}))?")
_PREFIX = re.compile(
    rb"(?:(?:/(?!/)[0-9A-Za-z._~!$&'()*+=:@-]+){1,32})?"
)  # a path that nobody can take for `//host`


class TrustedProxies:
    """The peers whose headers are believed, and the headers that say by which scheme the client came.

    `secure_headers` maps a header's name to the value that says HTTPS (gunicorn's `secure_scheme_headers`). Case makes
    no difference, and of a chain's values the first counts, which is about the client itself.
    """

    def __init__(
        self, allowed: Iterable[str], networks: Iterable[Any], secure_headers: Mapping[str, str]
    ) -> None:
        self._trusts_all = "*" in allowed
        self._networks = tuple(networks)
        self._secure = {
            name.lower().encode("latin-1"): value.lower().encode("latin-1")
            for name, value in secure_headers.items()
        }

    def trusts(self, peer: Any) -> bool:
        """Whether `peer`, the address of a connection, is one of them; that of a Unix socket only with `*`."""
        if self._trusts_all:
            return isinstance(peer, tuple)
        try:
            address = ipaddress.ip_address(peer[0])
        except (ValueError, IndexError, TypeError):
            return False
        return any(address in network for network in self._networks)

    def scheme(self, fields: Fields, default: str) -> str:
        """The scheme that a trusted peer's headers name. Raises Refusal where they name two."""
        said: str | None = None
        for name, value in fields:
            secure = self._secure.get(name)
            if secure is None:
                continue
            scheme = "https" if value.partition(b",")[0].strip().lower() == secure else "http"
            if said is not None and said != scheme:
                raise Refusal(400, "Contradictory scheme headers")
            said = scheme
        return said or default

    def client(self, fields: Fields, peer: Address) -> Address:
        """The caller's address by a trusted peer's Forwarded (RFC 7239) or else X-Forwarded-For.

        Read from the right, the first address that is no trusted proxy: what stands left of it a caller may have
        invented. Where all are proxies it is the first of them; where one is no address, the last that was.
        """
        found = peer
        for text in reversed(_hops(fields)):
            address = _address(text)
            if address is None:
                return found
            found = address
            if self._trusts_all or not self.trusts(found):
                # With `*` nothing is known of which hops are proxies: the peer's own word counts, the rightmost.
                return found
        return found

    def prefix(self, fields: Fields, default: str) -> str:
        """The path before ours that a trusted peer took away, by X-Forwarded-Prefix: `/a/b`, no slash at its end.

        Raises Refusal where it is no path. `default` where there is none.
        """
        for name, value in fields:
            if name == b"x-forwarded-prefix":
                first = value.partition(b",")[0].strip().rstrip(b"/")
                if not _PREFIX.fullmatch(first):
                    raise Refusal(400, "Invalid X-Forwarded-Prefix header")
                return first.decode("ascii")
        return default


def _hops(fields: Fields) -> list[str]:
    """The addresses of a chain, the client's first; [] where no header speaks of them. Forwarded counts more."""
    forwarded = b",".join(value for name, value in fields if name == b"forwarded").decode("latin-1")
    if forwarded:
        return [_for(element) for element in forwarded.split(",")]
    value = b",".join(value for name, value in fields if name == b"x-forwarded-for").decode("latin-1")
    return value.split(",") if value else []


def _for(element: str) -> str:
    """What an element of Forwarded says of `for`; "" where it says nothing."""
    for pair in element.split(";"):
        name, _, value = pair.partition("=")
        if name.strip().lower() == "for":
            return value.strip().strip('"')
    return ""


def _address(text: str) -> Address:
    """(address, port or 0) of `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`, `[2001:db8::1]` or `[2001:db8::1]:80`."""
    text = text.strip()
    match = _WITH_PORT.fullmatch(text)
    host, port = (match[1] or match[2], match[3]) if match else (text, None)
    try:
        return str(ipaddress.ip_address(host)), int(port or 0)
    except ValueError:
        return None
