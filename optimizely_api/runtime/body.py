"""Read a complete request body, bounded in size and time, before the application starts (for other ASGI servers)."""

import asyncio

from optimizely_api.runtime.connection import Receive
from optimizely_api.runtime.environ import Environ

# How long, and how much, of an unwanted body we keep reading after the response: closing a socket with unread input
# resets the connection, and the reset may overtake the response (RFC 9112 section 9.6).
DISCARD_SECONDS = 1.0
DISCARD_BYTES = 16 * 1024 * 1024


class BodyTooLarge(Exception):
    """The body is over the limit; with `more` the client is still sending it."""

    def __init__(self, *, more: bool) -> None:
        super().__init__(more)
        self.more = more


class BodyIncomplete(Exception):
    """The client went away, or took too long, before the body was complete."""


def declared_length(environ: Environ) -> int | None:
    """Content-Length as a number; None without one."""
    length = environ.get("CONTENT_LENGTH", "")
    return int(length) if length.isdecimal() else None


def may_have_body(environ: Environ) -> bool:
    """Whether the request can have a body. In HTTP/1 one of two headers announces it (RFC 9112 section 6)."""
    return (
        environ.get("CONTENT_LENGTH", "0") != "0"
        or "HTTP_TRANSFER_ENCODING" in environ
        or not environ["SERVER_PROTOCOL"].startswith("HTTP/1")
    )


async def read_body(receive: Receive, *, limit_bytes: int, declared: int | None) -> bytes:
    """Return the complete body; raises BodyTooLarge as early as possible, BodyIncomplete if the client has gone."""
    if declared is not None and declared > limit_bytes:
        raise BodyTooLarge(more=True)
    chunks: list[bytes] = []
    size = 0
    while True:
        message = await receive()
        if message["type"] != "http.request":
            raise BodyIncomplete
        chunk = message.get("body", b"")
        more = message.get("more_body", False)
        size += len(chunk)
        if size > limit_bytes:
            raise BodyTooLarge(more=more)
        chunks.append(chunk)
        if not more:
            return chunks[0] if len(chunks) == 1 else b"".join(chunks)


async def discard_body(receive: Receive) -> None:
    """Read and discard the body for a short while, so that the client gets to read its response."""
    remaining = DISCARD_BYTES
    try:
        async with asyncio.timeout(DISCARD_SECONDS):
            while remaining > 0:
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
                remaining -= len(message.get("body", b""))
    except TimeoutError:
        return
