"""Read HTTP/1.1 answers as they arrive, and keep of them what a load generator needs: status, end, and keep-alive.

RFC 9112: section 4 (status line), 6 and 7 (how long the body is), 9.3 (whether the connection stays).
"""

from typing import Final

LARGEST_HEAD = 64 * 1024  # bytes
_HEAD_END = b"\r\n\r\n"
_WITHOUT_BODY = frozenset({204, 304})
_TO_THE_END: Final = -1
_HEX_DIGITS: Final = b"0123456789abcdefABCDEF"


class BadAnswer(Exception):
    """What arrived is not an HTTP/1.x answer."""


class AnswerReader:
    """One answer, fed piece by piece; a fresh one is needed for the next.

    `begun` once any byte has arrived, `status` once the head is complete.
    """

    __slots__ = ("_chunks", "_head", "_remaining", "begun", "keep_alive", "status")

    def __init__(self) -> None:
        self.begun = False
        self.status = 0
        self.keep_alive = False
        self._head = b""
        self._remaining = 0
        self._chunks: ChunkReader | None = None

    def feed(self, data: bytes) -> bool:
        """Take the next bytes; returns whether the answer is whole now. Raises BadAnswer."""
        self.begun = True
        if not self.status:
            body = self._read_head(data)
            if body is None:
                return False
            data = body
        if self._chunks:
            whole, rest = self._chunks.feed(data)
            self._must_end(whole, rest)
            return whole
        if self._remaining == _TO_THE_END:
            return False
        rest = len(data) - self._remaining
        self._remaining = max(0, -rest)
        self._must_end(rest >= 0, rest)
        return rest >= 0

    def ends_at_close(self) -> bool:
        """Whether the server's closing the connection makes the answer whole."""
        return bool(self.status) and self._remaining == _TO_THE_END

    def _must_end(self, whole: bool, rest: int) -> None:
        if whole and rest > 0:  # more than was asked for: nobody knows what the next bytes belong to
            self.keep_alive = False

    def _read_head(self, data: bytes) -> bytes | None:
        """Returns what follows the head, or None while it is not complete; answers from 100 to 199 are skipped."""
        if self._head:
            data = self._head + data
        while (end := data.find(_HEAD_END)) >= 0:
            self._parse(data[: end + 2].lower())
            data = data[end + 4 :]
            if self.status >= 200:
                self._head = b""
                return data
            self.status = 0
        if len(data) > LARGEST_HEAD or not b"HTTP/1.".startswith(data[:7]):
            raise BadAnswer("no HTTP head")
        self._head = data
        return None

    def _parse(self, head: bytes) -> None:
        if head[:7] != b"http/1." or not head[9:12].isdigit():
            raise BadAnswer("no HTTP status line")
        self.status = int(head[9:12])
        connection = _field(head, b"\r\nconnection:")
        self.keep_alive = b"close" not in connection and (head[7:8] == b"1" or b"keep-alive" in connection)
        if self.status in _WITHOUT_BODY or self.status < 200:
            return
        if b"chunked" in _field(head, b"\r\ntransfer-encoding:"):
            self._chunks = ChunkReader()
            return
        length = _field(head, b"\r\ncontent-length:")
        if length and not length.isdigit():
            raise BadAnswer("no length that can be read")
        self._remaining = int(length) if length else _TO_THE_END
        self.keep_alive = self.keep_alive and bool(length)


class ChunkReader:
    """The end of a chunked body (RFC 9112 section 7.1), found without keeping the body."""

    __slots__ = ("_line", "_skip", "_trailer")

    def __init__(self) -> None:
        self._line = b""
        self._skip = 0  # bytes until the next size line, with the line break behind the chunk
        self._trailer = False

    def feed(self, data: bytes) -> tuple[bool, int]:
        """Returns (whether the last chunk and the trailers are over, how many bytes came after). Raises BadAnswer."""
        while data:
            if self._skip:
                taken = min(self._skip, len(data))
                self._skip -= taken
                data = data[taken:]
                continue
            line, found, data = (self._line + data).partition(b"\r\n")
            self._line = b"" if found else line
            if not found:
                if len(line) > LARGEST_HEAD:
                    raise BadAnswer("no end of a chunk's size")
                return False, 0
            if self._trailer:
                if not line:
                    return True, len(data)
            else:
                self._begin(line)
        return False, 0

    def _begin(self, line: bytes) -> None:
        size = line.partition(b";")[0].strip()
        if not size or size.strip(_HEX_DIGITS):  # int() would take signs and underscores too
            raise BadAnswer("no chunk size that can be read")
        length = int(size, 16)
        self._trailer = length == 0
        self._skip = length + 2 if length else 0


def _field(head: bytes, name: bytes) -> bytes:
    """A header field's value in lower case, empty where there is none; `name` as b'\\r\\nname:'."""
    start = head.find(name)
    if start < 0:
        return b""
    start += len(name)
    return head[start : head.find(b"\r\n", start)].strip()
