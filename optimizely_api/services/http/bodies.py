"""Request bodies of a service: bounded in size, time and, all of a worker together, in memory."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

from aiohttp import HttpVersion11, web
from multidict import CIMultiDictProxy

from optimizely_api.services.http import codings
from optimizely_api.services.http.application import ServiceError, bad_request

if TYPE_CHECKING:
    from optimizely_api.services.http.connections import ServiceConnection

RETRY_AFTER_SECONDS = 1
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
SMALL_PIECE_BYTES = 8 * 1024  # a piece that is added to the one before it while both together are no larger


def body_late() -> ServiceError:
    """408: the body stopped coming, or comes too slowly."""
    return ServiceError(408, "request_timeout", "the body did not arrive in time")


def no_room() -> ServiceError:
    """503: other bodies take all the memory that there is for bodies."""
    return ServiceError(
        503,
        "overloaded",
        "too many request bodies are under way; try again in a moment",
        {"Retry-After": str(RETRY_AFTER_SECONDS)},
    )


def unknown_coding(name: str) -> ServiceError:
    """415: the body is in a content coding that the service cannot decode; `Accept-Encoding` has those it can."""
    known = ", ".join(codings.CODINGS)
    message = f"the body is encoded as {name[:40]!r}; known codings are {known}"
    return ServiceError(415, "unsupported_coding", message, {"Accept-Encoding": known})


class Bodies:
    """Bytes that all bodies under way in a worker may take, and the turn to decode one."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = self.free_bytes = size_bytes
        # A decoder holds a window of some megabytes: there is one at a time.
        self.decoding = asyncio.Lock()

    def take(self, size: int) -> None:
        """Take so many bytes. Raises a ServiceError (503) when there are not so many."""
        if size > self.free_bytes:
            raise no_room()
        self.free_bytes -= size

    def give_back(self, size: int) -> None:
        """The bytes are free for others."""
        self.free_bytes += size


class Content:
    """Content that grows: in pieces, as a buffer that grows leaves holes of all sizes behind in the heap.

    Joined at once in the end, so that of all bodies under way only one takes its size twice.
    """

    def __init__(self) -> None:
        self.size = 0
        self._pieces: list[bytes] = []

    def add(self, piece: bytes) -> None:
        """Append it."""
        self.size += len(piece)
        if self._pieces and len(self._pieces[-1]) + len(piece) <= SMALL_PIECE_BYTES:
            self._pieces[-1] += piece
        else:
            self._pieces.append(piece)

    def joined(self) -> bytes:
        """The whole; the pieces are gone then."""
        whole = b"".join(self._pieces)
        self._pieces.clear()
        return whole


class BoundedRequest(web.Request):
    """A request whose `read()` keeps to the limits of its worker.

    Room for the declared length is taken before anything is read; for chunked and for decoded content, as it grows. A
    client that waits for a 100 (Continue) gets it then, and none with a refusal (RFC 9110 section 10.1.1).
    After an error the rest of the body is not read, and the response closes the connection.
    """

    ATTRS = web.Request.ATTRS | frozenset({"_expects_continue", "_is_broken", "_room"})
    _protocol: ServiceConnection

    def __init__(self, message: Any, *args: Any, **options: Any) -> None:
        expectation = message.headers.get("Expect", "").lower()
        if expectation:
            # aiohttp would answer it before anything is known of the request but its route.
            headers = message.headers.copy()
            del headers["Expect"]
            message = message._replace(headers=CIMultiDictProxy(headers))
        super().__init__(message, *args, **options)
        self._expects_continue = expectation == "100-continue" and message.version >= HttpVersion11
        self._room = 0
        self._is_broken = False

    @property
    def keep_alive(self) -> bool:
        """Whether the connection may serve another request."""
        is_kept = not self._message.should_close and not self._is_broken
        return is_kept and not self._protocol.worker.is_full

    async def read(self) -> bytes:
        """The whole body, decoded. Raises a ServiceError (400, 408, 415, 503) or HTTPRequestEntityTooLarge."""
        if self._read_bytes is None:
            try:
                self._read_bytes = await self._read_bounded()
            except BaseException:
                self._is_broken = True
                self.end()
                raise
        return self._read_bytes

    def end(self) -> None:
        """The request is over: its memory is free for others."""
        self._protocol.worker.bodies.give_back(self._room)
        self._room = 0
        if (error := self._payload.exception()) is not None:
            # Its frames lead back to the body: the memory would be held until the garbage collector comes.
            error.__traceback__ = None

    async def _read_bounded(self) -> bytes:
        try:
            coding = codings.coding_of(self.headers.get("Content-Encoding", ""))
        except LookupError as exc:
            raise unknown_coding(exc.args[0]) from None
        declared = self.content_length or 0
        self._judge(declared)
        self._take(declared)
        if self._expects_continue:
            await self._payload_writer.write(CONTINUE)
            self._payload_writer.output_size = 0  # which would tell of a response that has begun
        body = await self._receive(declared)
        return body if coding is None else await self._decode(coding, body)

    async def _receive(self, declared: int) -> bytes:
        loop = asyncio.get_running_loop()
        limits, began = self._protocol.worker.limits, loop.time()
        content = Content()
        try:
            async with asyncio.timeout_at(began + limits.body_seconds(0)) as deadline:
                while piece := await self._payload.readany():
                    self._judge(content.size + len(piece))
                    if not declared:
                        self._take(len(piece))
                    content.add(piece)
                    deadline.reschedule(began + limits.body_seconds(content.size))
        except TimeoutError:
            raise body_late() from None
        except (ConnectionError, RuntimeError):  # aiohttp's words for a client that has gone
            raise ServiceError(499, "client_closed_request", "the client has gone") from None
        return content.joined()

    async def _decode(self, coding: str, body: bytes) -> bytes:
        content = Content()
        async with self._protocol.worker.bodies.decoding:
            try:
                for piece in codings.decode(coding, body):
                    self._judge(content.size + len(piece))
                    self._take(len(piece))
                    content.add(piece)
                    await asyncio.sleep(0)
            except codings.Undecodable as exc:
                raise bad_request(f"the body is not valid {coding}: {exc}") from exc
        return content.joined()

    def _judge(self, size: int) -> None:
        if size > self._client_max_size:
            raise web.HTTPRequestEntityTooLarge(self._client_max_size, size)

    def _take(self, size: int) -> None:
        # A body larger than the whole budget has it to itself.
        bodies = self._protocol.worker.bodies
        size = min(size, bodies.size_bytes - self._room)
        bodies.take(size)
        self._room += size
