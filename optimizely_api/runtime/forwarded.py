"""What a proxy says of the connection that its client came by, taken from proxies that are trusted."""

import ipaddress
from collections.abc import Iterable, Mapping
from typing import Any

from optimizely_api.runtime.http1.head import Fields, Refusal


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
