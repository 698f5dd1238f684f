"""Read a chunked body (RFC 9112 section 7.1) with llhttp."""

from collections.abc import Callable
from typing import Any

import httptools

from optimizely_api.http.framing import is_mostly_framing
from optimizely_api.runtime.server.http1.head import Refusal

# llhttp expects a head before a body, so it gets this one.
_HEAD = b"POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n"


class ChunkedReader:
    """Passes the content of one body to `on_body`, in pieces, and finds its end."""

    __slots__ = ("_content", "_parser", "_received", "_tail", "complete", "on_body")

    def __init__(self, on_body: Callable[[bytes], None]) -> None:
        self.on_body = self._counted(on_body)
        self.complete = False
        self._content = 0
        self._received = 0
        self._tail = b""
        self._parser: Any = httptools.HttpRequestParser(self)
        self._parser.feed_data(_HEAD)

    def feed(self, data: bytes) -> bytes:
        """Read a part of the body; returns the bytes after its end. Raises Refusal.

        llhttp does not report where a body ended. But every body ends with an empty line. Each call of llhttp gets the
        bytes up to the next empty line, so that it never gets a byte of the next message.
        """
        begin = 0
        while begin < len(data) and not self.complete:
            # The empty line may have started in the previous bytes.
            found_across = (self._tail + data[begin : begin + 3]).find(b"\r\n\r\n") if self._tail else -1
            if found_across >= 0:
                end = begin + found_across + 4 - len(self._tail)
            else:
                found = data.find(b"\r\n\r\n", begin)
                end = len(data) if found < 0 else found + 4
            self._execute(data[begin:end])
            self._tail = (
                data[max(begin, end - 3) : end] if end - begin >= 3 else (self._tail + data[begin:end])[-3:]
            )
            begin = end
        return data[begin:]

    def _execute(self, part: bytes) -> None:
        try:
            self._parser.feed_data(part)
        except httptools.HttpParserError as exc:
            raise Refusal(400, str(exc)) from None
        self._received += len(part)
        if is_mostly_framing(self._received, self._content):
            raise Refusal(400, "The chunks of the body are too small for their number")

    def _counted(self, on_body: Callable[[bytes], None]) -> Callable[[bytes], None]:
        def counted(content: bytes) -> None:
            self._content += len(content)
            on_body(content)

        return counted

    def on_message_complete(self) -> None:
        self.complete = True
        self.close()

    def close(self) -> None:
        """Break the reference cycle with the parser and the body."""
        self._parser = None
        self.on_body = None  # type: ignore[assignment]
