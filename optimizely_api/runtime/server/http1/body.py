"""A request body: left unread until the application reads it, and stored within the worker's memory budget."""

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

# How long a body stays unread while it waits for room in the budget.
WAIT_FOR_ROOM_SECONDS = 5.0
RETRY_AFTER_SECONDS = 1

# After the response, an unwanted body of which at most this much is missing is still read, to keep the connection open.
SKIPPED_BYTES = 64 * 1024


# Memory for each byte of a body: a growing buffer is larger than its content.
ROOM_FOR_A_BYTE = 4 / 3


class BodyTooLarge(BodyError):
    """413: the body is over the limit."""

    status = 413
    code = "request_too_large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"The request body is larger than {limit_bytes} bytes.")


class BodyLate(BodyError):
    """408: the body is not complete in time."""

    status = 408
    code = "request_timeout"

    def __init__(self) -> None:
        super().__init__("The request's body did not arrive in time.")


class BodyMalformed(BodyError):
    """400: the chunks of the body are malformed or too small."""


class NoRoomForBody(BodyError):
    """503: the bodies of other requests fill the memory budget."""

    status = 503
    code = "overloaded"
    retry_after_seconds = RETRY_AFTER_SECONDS

    def __init__(self) -> None:
        super().__init__("Too many request bodies are under way; try again in a moment.")


class BodyBudget:
    """Memory for all bodies under way in this worker, in bytes; a request without room waits in line."""

    def __init__(self, size_bytes: int) -> None:
        self.size_bytes = self.free_bytes = size_bytes
        self._queue: deque[tuple[int, asyncio.Future[None]]] = deque()

    def try_take(self, size: int) -> bool:
        # Not past others: a steady stream of small bodies would keep a large one waiting.
        if self._queue or size > self.free_bytes:
            return False
        self.free_bytes -= size
        return True

    async def take(self, size: int) -> None:
        """Wait in line for `size` bytes, at most WAIT_FOR_ROOM_SECONDS. Raises NoRoomForBody."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        entry = (size, future)
        self._queue.append(entry)
        try:
            async with asyncio.timeout(WAIT_FOR_ROOM_SECONDS):
                await future
        except BaseException as exc:
            if future.done() and not future.cancelled():
                self.give_back(size)  # the room was granted in the same turn of the loop
            else:
                self._queue.remove(entry)
                self._admit()
            if isinstance(exc, TimeoutError):
                raise NoRoomForBody from None
            raise

    def give_back(self, size: int) -> None:
        self.free_bytes += size
        self._admit()

    def _admit(self) -> None:
        # A request that is cancelled leaves the queue by itself, and then admits those behind it.
        while self._queue and self._queue[0][0] <= self.free_bytes and not self._queue[0][1].done():
            size, future = self._queue.popleft()
            self.free_bytes -= size
            future.set_result(None)


class RequestBody:
    """The body of one request of a connection.

    Room for the complete body is reserved before the first byte is read: its declared length or, if it is chunked, the
    limit. So two half-read bodies never wait for each other.
    """

    __slots__ = ("_chunks", "_connection", "_expected", "_failure", "_limit", "_missing", "_room", "_waiter",
                 "complete", "content", "expects_continue", "is_wanted")  # fmt: skip

    def __init__(self, connection: "GatewayProtocol", head: Head) -> None:
        self._connection = connection
        self._limit = connection.worker.options.max_request_body_bytes
        self._missing = head.length
        self._chunks = ChunkedReader(self._store) if head.chunked else None
        self._expected = self._limit if head.chunked else head.length
        self._room = 0
        self._waiter: asyncio.Future[None] | None = None
        self._failure: BodyError | None = None
        self.expects_continue = head.expects_continue
        self.is_wanted = False
        self.complete = False
        self.content: io.BytesIO | None = None  # None: incoming bytes are discarded

    def limit_to(self, limit_bytes: int) -> None:
        """Set the largest accepted body; called before any of it is read."""
        self._limit = limit_bytes
        if self._chunks is not None:
            self._expected = limit_bytes

    async def read(self) -> io.BytesIO:
        """Return the complete content; raises a BodyError."""
        if self.complete and self.content is not None:
            return self.content
        if self._expected > self._limit:
            raise BodyTooLarge(self._limit)
        options, budget = self._connection.worker.options, self._connection.worker.bodies
        room = min(int(self._expected * ROOM_FOR_A_BYTE), budget.size_bytes)
        if not budget.try_take(room):
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
        """Store the part of `data` that belongs to the body, and return the rest. A malformed body stays failed."""
        if self._failure is not None:
            return b""
        if self._chunks is None:
            part = data if len(data) <= self._missing else data[: self._missing]
            self._missing -= len(part)
            self._store(part)
            self.complete = not self._missing
            rest = data[len(part) :]
        else:
            try:
                rest = self._chunks.feed(data)
            except Refusal as refusal:
                self._fail(BodyMalformed(f"The request is not valid HTTP: {refusal.detail}."))
                return b""
            except Exception as exc:  # a defect of the parser must not end the connection without a response
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
        """Whether so little is missing that it may be read after the response; `unread` bytes are received already."""
        if self.complete:
            return True
        if self._failure is not None or self._chunks is not None:
            return False
        return self._missing <= unread or (self._missing <= SKIPPED_BYTES and not self.expects_continue)

    def skip(self) -> None:
        """Discard the received bytes, and those still to come."""
        self.content = None
        self.is_wanted = True

    def end(self) -> None:
        """End the request: return its memory to the budget."""
        self.content = None
        if self._chunks is not None:
            self._chunks.close()
        if self._room:
            self._connection.worker.bodies.give_back(self._room)
            self._room = 0
