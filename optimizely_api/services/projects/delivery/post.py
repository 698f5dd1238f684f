"""One call of a receiver."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Mapping
from typing import Any

import aiohttp
from yarl import URL

from optimizely_api.services.projects.delivery.addresses import is_public

TIME_LIMIT_SECONDS = 10.0
USER_AGENT = "optimizely-api-webhook"
LONGEST_REASON = 200  # characters


class RefusedAddress(OSError):
    """The host is not one that may be called."""


class Post:
    """Calls receivers; `opened` makes one."""

    def __init__(self, session: aiohttp.ClientSession, time_limit_seconds: float) -> None:
        self._session = session
        self.time_limit_seconds = time_limit_seconds

    async def __call__(self, url: str, headers: Mapping[str, str], body: bytes) -> str | None:
        """POST the body; None when the receiver acknowledged it by a 2xx, else in a few words why it did not."""
        own = {"Content-Type": "application/json", "User-Agent": USER_AGENT}
        try:
            async with (
                asyncio.timeout(self.time_limit_seconds),
                # A redirect would lead to an address that nobody has entered here.
                self._session.post(
                    URL(url), data=body, headers={**own, **headers}, allow_redirects=False
                ) as response,
            ):
                return None if 200 <= response.status < 300 else f"answered {response.status}"
        except TimeoutError:
            return f"did not answer within {self.time_limit_seconds:g} seconds"
        except (aiohttp.ClientError, OSError, ValueError) as exc:
            return _reason(exc)


@contextlib.asynccontextmanager
async def opened(
    *, allow_private: bool, time_limit_seconds: float = TIME_LIMIT_SECONDS
) -> AsyncIterator[Post]:
    """A Post; unless `allow_private`, it connects to public addresses only."""
    connector = aiohttp.TCPConnector(
        # Called with the very address of the connection, named or resolved: a name that resolves to another address
        # the next time is no way around the check.
        socket_factory=_any_socket if allow_private else _public_socket,
        use_dns_cache=False,
        limit=0,  # a receiver that does not answer must not delay others
        # A receiver may close an idle connection while it is used again, and nobody could tell whether it got the call.
        force_close=True,
    )
    # The limit on the whole is Post's: aiohttp's own rounds to seconds.
    session = aiohttp.ClientSession(
        connector=connector,
        cookie_jar=aiohttp.DummyCookieJar(),
        timeout=aiohttp.ClientTimeout(total=None, sock_connect=None),
    )
    async with session:
        yield Post(session, time_limit_seconds)


def _any_socket(address: Any) -> socket.socket:
    family, kind, protocol, _, _ = address
    return socket.socket(family, kind, protocol)


def _public_socket(address: Any) -> socket.socket:
    host = address[4][0]
    if not is_public(host):
        raise RefusedAddress(f"{host} is not a public address")
    return _any_socket(address)


def _reason(exc: Exception) -> str:
    if isinstance(exc, aiohttp.ClientConnectorError):
        inner: Exception = exc.os_error
        text = (inner.strerror if isinstance(inner, OSError) else "") or str(inner)
        return f"cannot be reached: {text}"[:LONGEST_REASON]
    return f"failed: {exc or type(exc).__name__}"[:LONGEST_REASON]
