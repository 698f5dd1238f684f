"""Request bodies of a service: limits on the size and time of each, and on the memory of all bodies of a worker."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp import HttpVersion11, web
from multidict import CIMultiDictProxy

from optimizely_api.services.http import codings
from optimizely_api.services.http.errors import ServiceError, bad_request

if TYPE_CHECKING:
    from optimizely_api.services.http.connections import ServiceConnection

RETRY_AFTER_SECONDS = 1
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
SMALL_PIECE_BYTES = 8 * 1024  # pieces are joined with the one before up to this size


def body_timeout() -> ServiceError:
    """408: the body stopped arriving, or arrives too slowly."""
    return ServiceError(408, "request_timeout", "the body did not arrive in time")


def no_memory() -> ServiceError:
    """503: other request bodies use all the memory for bodies."""
    return ServiceError(
        503,
        "overloaded",
        "too many request bodies are under way; try again in a moment",
        {"Retry-After": str(RETRY_AFTER_SECONDS)},
    )


def unknown_coding(name: str) -> ServiceError:
    """415: the service cannot decode the body's content coding; `Accept-Encoding` lists those it can."""
    known = ", ".join(codings.CODINGS)
    message = f"the body is encoded as {name[:40]!r}; known codings are {known}"
    return ServiceError(415, "unsupported_coding", message, {"Accept-Encoding": known})


class BodyMemory:
    """The memory for all request bodies of a worker, and the lock for decoding one of them."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = self.free_bytes = size_bytes
        # A decoder holds a window of some megabytes, so only one body is decoded at a time.
        self.decoding = asyncio.Lock()

    def reserve(self, size: int) -> None:
        """Reserve `size` bytes. Raises a ServiceError (503) when fewer are free."""
        if size > self.free_bytes:
            raise no_memory()
        self.free_bytes -= size

    def release(self, size: int) -> None:
        """Free `size` reserved bytes for other bodies."""
        self.free_bytes += size


class Content:
    """The pieces of a body. A growing buffer instead would leave holes of all sizes in the heap.

    The pieces are joined once, at the end: at any moment at most one body of a worker needs its size twice.
    """

    def __init__(self) -> None:
        self.size = 0
        self._pieces: list[bytes] = []

    def add(self, piece: bytes) -> None:
        """Append a piece."""
        self.size += len(piece)
        if self._pieces and len(self._pieces[-1]) + len(piece) <= SMALL_PIECE_BYTES:
            self._pieces[-1] += piece
        else:
            self._pieces.append(piece)

    def joined(self) -> bytes:
        """Join the pieces into one body, and drop them."""
        body = b"".join(self._pieces)
        self._pieces.clear()
        return body


class BoundedRequest(web.Request):
    """A request whose `read()` applies the limits of its worker.

    Memory for the declared length is reserved before the body is read; for chunked and decoded content, as it grows. A
    client that expects a 100 (Continue) gets it after that, and a refusal without it (RFC 9110 section 10.1.1).
    After an error the rest of the body is not read, and the response closes the connection.
    """

    ATTRS = web.Request.ATTRS | frozenset({"_expects_continue", "_is_broken", "_reserved_bytes"})
    _protocol: ServiceConnection

    def __init__(self, message: Any, *args: Any, **options: Any) -> None:
        expectation = message.headers.get("Expect", "").lower()
        if expectation:
            # Hidden from aiohttp, which would send the 100 (Continue) before the request's headers are checked.
            headers = message.headers.copy()
            del headers["Expect"]
            message = message._replace(headers=CIMultiDictProxy(headers))
        super().__init__(message, *args, **options)
        self._expects_continue = expectation == "100-continue" and message.version >= HttpVersion11
        self._reserved_bytes = 0
        self._is_broken = False

    @property
    def keep_alive(self) -> bool:
        """Whether the connection may serve another request."""
        is_kept = not self._message.should_close and not self._is_broken
        return is_kept and self._protocol.worker.keeps_connections

    async def read(self) -> bytes:
        """Read and decode the body. Raises a ServiceError (400, 408, 415, 503) or HTTPRequestEntityTooLarge."""
        if self._read_bytes is None:
            try:
                self._read_bytes = await self._read_bounded()
            except BaseException:
                self._is_broken = True
                self.end()
                raise
        return self._read_bytes

    def end(self) -> None:
        """Release the memory of the body, at the end of the request."""
        self._protocol.worker.body_memory.release(self._reserved_bytes)
        self._reserved_bytes = 0
        if (error := self._payload.exception()) is not None:
            # The traceback's frames refer to the body, in a cycle that only the garbage collector would free.
            error.__traceback__ = None

    async def _read_bounded(self) -> bytes:
        try:
            coding = codings.coding_of(self.headers.get("Content-Encoding", ""))
        except LookupError as exc:
            raise unknown_coding(exc.args[0]) from None
        declared = self.content_length or 0
        self._check_size(declared)
        self._reserve(declared)
        if self._expects_continue:
            await self._payload_writer.write(CONTINUE)
            # aiohttp would count these bytes as the start of the response.
            self._payload_writer.output_size = 0
        body = await self._receive(declared)
        return body if coding is None else await self._decode(coding, body)

    async def _receive(self, declared: int) -> bytes:
        loop = asyncio.get_running_loop()
        limits, started_at = self._protocol.worker.limits, loop.time()
        content = Content()
        try:
            async with asyncio.timeout_at(started_at + limits.body_seconds(0)) as deadline:
                while piece := await self._payload.readany():
                    self._check_size(content.size + len(piece))
                    if not declared:
                        self._reserve(len(piece))
                    content.add(piece)
                    deadline.reschedule(started_at + limits.body_seconds(content.size))
        except TimeoutError:
            raise body_timeout() from None
        except (ConnectionError, RuntimeError):  # how aiohttp reports that the client has gone
            raise ServiceError(499, "client_closed_request", "the client has gone") from None
        return content.joined()

    async def _decode(self, coding: str, body: bytes) -> bytes:
        content = Content()
        async with self._protocol.worker.body_memory.decoding:
            try:
                for piece in codings.decode(coding, body):
                    self._check_size(content.size + len(piece))
                    self._reserve(len(piece))
                    content.add(piece)
                    await asyncio.sleep(0)
            except codings.Undecodable as exc:
                raise bad_request(f"the body is not valid {coding}: {exc}") from exc
        return content.joined()

    def _check_size(self, size: int) -> None:
        if size > self._client_max_size:
            raise web.HTTPRequestEntityTooLarge(self._client_max_size, size)

    def _reserve(self, size: int) -> None:
        # A body larger than all the memory for bodies may use all of it.
        memory = self._protocol.worker.body_memory
        size = min(size, memory.size_bytes - self._reserved_bytes)
        memory.reserve(size)
        self._reserved_bytes += size
