"""Reading a request's body: whole, bounded in size and time, before the application starts."""

import asyncio

from optimizely_api.runtime.connection import Receive
from optimizely_api.runtime.environ import Environ

# How long, and how much of, a body that nobody wants is still read after the answer: closing a socket with unread
# input resets the connection, and the reset may overtake the answer (RFC 9112 section 9.6).
DISCARD_SECONDS = 1.0
DISCARD_BYTES = 16 * 1024 * 1024


class BodyTooLarge(Exception):
    """The body is over the limit; `more` of it may still come."""

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
    """Whether there can be anything to read. HTTP/1 frames a body by one of two headers (RFC 9112 section 6)."""
    return (
        environ.get("CONTENT_LENGTH", "0") != "0"
        or "HTTP_TRANSFER_ENCODING" in environ
        or not environ["SERVER_PROTOCOL"].startswith("HTTP/1")
    )


async def read_body(receive: Receive, *, limit_bytes: int, declared: int | None) -> bytes:
    """The whole body. Raises BodyTooLarge as soon as it is known to be, BodyIncomplete when it will not come."""
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
    """Read on for a short while, and throw away, so that the client can read its answer."""
    left = DISCARD_BYTES
    try:
        async with asyncio.timeout(DISCARD_SECONDS):
            while left > 0:
                message = await receive()
                if message["type"] != "http.request" or not message.get("more_body", False):
                    return
                left -= len(message.get("body", b""))
    except TimeoutError:
        return
