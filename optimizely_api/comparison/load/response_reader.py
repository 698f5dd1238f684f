"""Reads HTTP/1.1 responses and reports what a load generator needs: status, end of the response, and keep-alive."""

import httptools

LARGEST_HEAD = 64 * 1024  # bytes


class BadResponse(Exception):
    """The server did not send an HTTP/1.x response."""


class ResponseReader:
    """Reads the responses on one connection, one after the other: `begin` starts the next, `feed` adds bytes.

    `begun` is true once a byte of the response has arrived. `status` is 0 until its head is complete; responses from
    100 to 199 are skipped.
    """

    __slots__ = (
        "_head_bytes",
        "_is_complete",
        "_is_framed",
        "_parser",
        "begun",
        "keep_alive",
        "status",
    )

    def __init__(self) -> None:
        self._parser = httptools.HttpResponseParser(self)
        self.begin()

    def begin(self) -> None:
        """Expect the next response."""
        self.begun = False
        self.status = 0
        self.keep_alive = False
        self._is_complete = False
        self._is_framed = False  # its head says where the body ends
        self._head_bytes = 0

    def close(self) -> None:
        """Release the parser, which refers back to this reader: the load generator runs without the cycle collector."""
        del self._parser

    def feed(self, data: bytes) -> bool:
        """Read the next bytes; returns whether the response is complete. Raises BadResponse."""
        self.begun = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as exc:
            if not self._is_complete:
                raise BadResponse(str(exc)) from None
            self.keep_alive = False  # bytes after the response that are no response
        if not self.status:
            self._head_bytes += len(data)
            if self._head_bytes > LARGEST_HEAD:
                raise BadResponse("the head is too long")
        return self._is_complete

    def ends_at_close(self) -> bool:
        """Whether the response is complete when the server closes the connection (RFC 9112 section 6.3)."""
        return bool(self.status) and not self._is_complete and not self._is_framed

    # Called by the parser.

    def on_message_begin(self) -> None:
        if self._is_complete:  # a second response to one request: the next one's beginning would be unknown
            self.keep_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        # The lengths first: most headers need no comparison then.
        if len(name) == len(b"content-length") and name.lower() == b"content-length":
            self._is_framed = True
        elif len(name) == len(b"transfer-encoding") and name.lower() == b"transfer-encoding":
            self._is_framed = b"chunked" in value.lower()

    def on_headers_complete(self) -> None:
        if not self._is_complete:
            self.status = self._parser.get_status_code()

    def on_message_complete(self) -> None:
        if self._is_complete:
            return
        if self.status < 200:
            self.status = 0
            self._is_framed = False
        else:
            self._is_complete = True
            self.keep_alive = self._parser.should_keep_alive()
