"""A request's body: left unread until the application wants it, and held within a budget of the worker's."""

import asyncio
import io
import logging
from collections import deque
from typing import TYPE_CHECKING

from optimizely_api.runtime.body_input import BodyError
from optimizely_api.runtime.server.http1.chunked import ChunkedReader
from optimizely_api.runtime.server.http1.head import Head, Refusal

if TYPE_CHECKING:
    from optimizely_api.runtime.server.protocol import GatewayProtocol

log = logging.getLogger(__name__)

# How long a body waits, unread, for room in the budget.
WAIT_FOR_ROOM_SECONDS = 5.0
RETRY_AFTER_SECONDS = 1

# A body that nobody wanted is still read after the response, so that the connection can be kept, when this much of it
# is missing at most.
SKIPPED_BYTES = 64 * 1024


# Memory that a byte of a body takes: a growing buffer is larger than what it holds.
ROOM_FOR_A_BYTE = 4 / 3


class BodyTooLarge(BodyError):
    """413: the body is over the limit."""

    status = 413
    code = "request_too_large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The request body is larger than {limit_bytes} bytes.")


class BodyLate(BodyError):
    """408: the body is not whole in time."""

    status = 408
    code = "request_timeout"

    def __init__(self) -> None:
        super().__init__("The request's body did not arrive in time.")


class BodyMalformed(BodyError):
    """400: the body's chunks are no chunks, or too small."""


class NoRoomForBody(BodyError):
    """503: the bodies of other requests take all the memory that there is for bodies."""

    status = 503
    code = "overloaded"
    retry_after_seconds = RETRY_AFTER_SECONDS

    def __init__(self) -> None:
        super().__init__("Too many request bodies are under way; try again in a moment.")


class BodyBudget:
    """Bytes that all bodies under way in this worker may take; who finds no room waits in line."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = self.free_bytes = size_bytes
        self._waiting: deque[tuple[int, asyncio.Future[None]]] = deque()

    def take_at_once(self, size: int) -> bool:
        if self._waiting or size > self.free_bytes:
            return False
        self.free_bytes -= size
        return True

    async def take(self, size: int) -> None:
        """Wait in line for `size` bytes, at most WAIT_FOR_ROOM_SECONDS. Raises NoRoomForBody."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (size, future)
        self._waiting.append(entry)
        try:
            async with asyncio.timeout(WAIT_FOR_ROOM_SECONDS):
                await future
        except BaseException as exc:
            if future.done() and not future.cancelled():
                self.give_back(size)
            else:
                self._waiting.remove(entry)
                self._admit()
            if isinstance(exc, TimeoutError):
                raise NoRoomForBody from None
            raise

    def give_back(self, size: int) -> None:
        self.free_bytes += size
        self._admit()

    def _admit(self) -> None:
        while self._waiting and self._waiting[0][0] <= self.free_bytes:
            size, future = self._waiting.popleft()
            if not future.done():
                self.free_bytes -= size
                future.set_result(None)


class RequestBody:
    """The body of one request of a connection.

    Room for all of it is taken before the first byte is read: for its declared length, or for a chunked one the
    largest there may be. Bodies that are half there so never wait for each other.
    """

    __slots__ = ("_chunks", "_connection", "_expected", "_failure", "_left", "_limit", "_room", "_waiter", "complete",
                 "content", "expects_continue", "is_wanted")  # fmt: skip

    def __init__(self, connection: "GatewayProtocol", head: Head) -> None:
        self._connection = connection
        self._limit = connection.worker.options.max_request_body_bytes
        self._left = head.length
        self._chunks = ChunkedReader(self._store) if head.chunked else None
        self._expected = self._limit if head.chunked else head.length
        self._room = 0
        self._waiter: asyncio.Future[None] | None = None
        self._failure: BodyError | None = None
        self.expects_continue = head.expects_continue
        self.is_wanted = False
        self.complete = False
        self.content: io.BytesIO | None = None  # None throws away what comes

    def limit_to(self, limit_bytes: int) -> None:
        """Take a body of so many bytes at most; before any of it is read."""
        self._limit = limit_bytes
        if self._chunks is not None:
            self._expected = limit_bytes

    async def read(self) -> io.BytesIO:
        """The whole content. Raises a BodyError."""
        if self.complete and self.content is not None:
            return self.content
        if self._expected > self._limit:
            raise BodyTooLarge(self._limit)
        options, budget = self._connection.worker.options, self._connection.worker.bodies
        room = min(int(self._expected * ROOM_FOR_A_BYTE), budget.size_bytes)
        if not budget.take_at_once(room):
            await budget.take(room)
        self._room = room
        self.content = io.BytesIO()
        self.is_wanted = True
        self._connection.body_is_wanted(self)
        if not self.complete and self._failure is None:
            self._waiter = asyncio.get_running_loop().create_future()
            try:
                async with asyncio.timeout(options.body_timeout_seconds):
                    await self._waiter
            except TimeoutError:
                raise BodyLate from None
            finally:
                self._waiter = None
        if self._failure is not None:
            raise self._failure
        self.content.seek(0)
        return self.content

    def feed(self, data: bytes) -> bytes:
        """Take what of `data` belongs to the body; returns the rest. A broken body has failed from then on."""
        if self._failure is not None:
            return b""
        if self._chunks is None:
            part = data if len(data) <= self._left else data[: self._left]
            self._left -= len(part)
            self._store(part)
            self.complete = not self._left
            rest = data[len(part) :]
        else:
            try:
                rest = self._chunks.feed(data)
            except Refusal as refusal:
                self._fail(BodyMalformed(f"The request is not valid HTTP: {refusal.detail}."))
                return b""
            except Exception as exc:  # a parser's
                log.warning("A body could not be read: %r", exc)
                self._fail(BodyMalformed("The request is not valid HTTP."))
                return b""
            self.complete = self._chunks.complete and self._failure is None
        if self.complete and self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
        return rest

    def _store(self, content: bytes) -> None:
        if self.content is None:
            return
        if self.content.tell() + len(content) > self._limit:
            self._fail(BodyTooLarge(self._limit))
        else:
            self.content.write(content)

    def _fail(self, failure: BodyError) -> None:
        self._failure = failure
        self.content = None
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)

    def can_be_skipped(self, unread: int) -> bool:
        """Whether the little that is missing may be read after the response; `unread` bytes are here already."""
        if self.complete:
            return True
        if self._failure is not None or self._chunks is not None:
            return False
        return self._left <= unread or (self._left <= SKIPPED_BYTES and not self.expects_continue)

    def skip(self) -> None:
        """Throw away what is still to come, and what has come."""
        self.content = None
        self.is_wanted = True

    def end(self) -> None:
        """The request is over: its memory is free for others."""
        self.content = None
        if self._chunks is not None:
            self._chunks.close()
        if self._room:
            self._connection.worker.bodies.give_back(self._room)
            self._room = 0
