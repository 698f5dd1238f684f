"""Read the head of a request: llhttp splits it into fields, and this module rejects what llhttp accepts too easily.

Fast path: llhttp, in C, replaces gunicorn's parser in Python, which tested every byte of a name and of a value and cost
more than the rest of reading a request. To measure: `python -m tests.benchmark_stages` (stage "HTTP parse").
"""

import re
from dataclasses import dataclass
from typing import Any

import httptools

from optimizely_api.runtime.authority import is_authority, is_target

Version = tuple[int, int]
Fields = list[tuple[bytes, bytes]]  # the names in lower case

_REQUEST_LINE = re.compile(rb"([!#$%&'*+\-.^_`|~0-9A-Za-z]+) ([!-~]+) HTTP/([0-9])\.([0-9])")
_ANY_LINE = re.compile(rb"([!-~]+) ([^ ]+) HTTP/[0-9]\.[0-9]")  # for the log
_CONTENT_LENGTH = re.compile(rb"[0-9]{1,19}")
# A field that is not a list is ambiguous when it occurs twice (RFC 9110 section 5.3).
_SINGLE = frozenset((b"host", b"content-length", b"content-type", b"transfer-encoding"))
_CHECKED = _SINGLE | {b"connection", b"expect"}


class Refusal(Exception):
    """A request that the server rejects before the application sees it, with the status and the reason."""

    def __init__(self, status: int, detail: str = "") -> None:
        super().__init__(status, detail)
        self.status = status
        self.detail = detail


@dataclass(frozen=True, slots=True)
class HeadLimits:
    """The largest accepted head: sizes in bytes, without the empty line at the end."""

    request_line_bytes: int = 16 * 1024
    section_bytes: int = 64 * 1024
    fields: int = 100


@dataclass(slots=True, eq=False)
class Head:
    """The head of one request; `target` is the request target as it was sent."""

    method: str
    target: bytes
    version: Version  # (1, 0) or (1, 1): later minor versions are treated as 1.1 (RFC 9110 section 2.5)
    fields: Fields
    keep_alive: bool = True
    length: int = 0  # of the body, unless it is chunked
    chunked: bool = False
    expects_continue: bool = False

    @property
    def has_body(self) -> bool:
        return self.chunked or self.length > 0


class HeadReader:
    """Reads the heads of one connection; `held` are the bytes of a head that is not complete yet."""

    __slots__ = ("_complete", "_fields", "_limits", "_parser", "_skipped", "held")

    def __init__(self, limits: HeadLimits) -> None:
        self._limits = limits
        self._parser: Any = None
        self._fields: Fields = []
        self._complete = False
        self._skipped = False
        self.held = b""

    def feed(self, data: bytes) -> tuple[Head | None, bytes]:
        """Return the head, or None until it is complete, and the bytes after it. Raises Refusal."""
        searched = max(len(self.held) - 3, 0)
        data = self.held + data if self.held else data
        if data[0] == 0x0D and not self._skipped and data.startswith(b"\r\n"):
            # RFC 9112 section 2.2: an empty line after a body is ignored.
            self._skipped = True
            self.held = b""
            data = data[2:]
            searched = 0
            if not data:
                return None, b""
        end = data.find(b"\r\n\r\n", searched)
        if end < 0:
            self.held = data
            self._check_part(data)
            return None, b""
        end += 4
        self.held = data[:end]
        head = self._head(self.held)
        self.held = b""
        self._skipped = False
        return head, data[end:]

    def request_line(self) -> tuple[str | None, bytes | None]:
        """Return (method, target) of an incomplete or rejected head; both None if they cannot be read."""
        line = self.held.partition(b"\r\n")[0]
        match = _ANY_LINE.fullmatch(line) if len(line) <= self._limits.request_line_bytes else None
        return (None, None) if match is None else (match[1].decode("ascii"), match[2])

    def close(self) -> None:
        """Break the reference cycle with the parser."""
        self._parser = None
        self.held = b""

    def _check_part(self, data: bytes) -> None:
        """Reject an incomplete head at once if no further bytes can make it valid."""
        line, separator, section = data.partition(b"\r\n")
        if separator:
            self._check_line(line)
            self._check_section(section)
        elif len(line) > self._limits.request_line_bytes:
            raise Refusal(414)

    def _check_line(self, line: bytes) -> tuple[str, bytes, Version]:
        if len(line) > self._limits.request_line_bytes:
            raise Refusal(414)
        match = _REQUEST_LINE.fullmatch(line)
        if match is None:
            raise Refusal(400, "Invalid request line")
        method, target, major, minor = match.groups()
        if major != b"1":
            raise Refusal(505)
        return method.decode("ascii"), target, (1, 0) if minor == b"0" else (1, 1)

    def _check_section(self, section: bytes) -> None:
        limits = self._limits
        if len(section) > limits.section_bytes or section.count(b"\n") > limits.fields + 1:
            raise Refusal(431)

    def _head(self, raw: bytes) -> Head:
        first = raw.find(b"\r\n")
        method, target, version = self._check_line(raw[:first])
        limits = self._limits
        if len(raw) - first - 4 > limits.section_bytes:
            raise Refusal(431)
        fields = self._split(raw)
        if len(fields) > limits.fields:
            raise Refusal(431)
        if not is_target(method, target.partition(b"?")[0]):
            raise Refusal(400, "Invalid request target")
        head = Head(method, target, version, fields)
        _check_fields(head)
        return head

    def _split(self, raw: bytes) -> Fields:
        if self._parser is None:
            self._parser = httptools.HttpRequestParser(self)
            self._parser.set_dangerous_leniencies(lenient_version=True)  # checked by _check_line
        self._complete = False
        fields: Fields = []
        self._fields = fields
        try:
            self._parser.feed_data(raw)
        except httptools.HttpParserUpgrade:
            # An upgrade is ignored (RFC 9110 section 7.8).
            self._parser = None
            return fields
        except httptools.HttpParserInvalidMethodError:
            self._parser = None
            raise Refusal(501, "Unknown method") from None
        except httptools.HttpParserError as exc:
            self._parser = None
            if any(name == b"transfer-encoding" for name, _ in fields) and "has invalid" in str(exc):
                raise Refusal(501, "Unsupported transfer coding") from None
            raise Refusal(400, str(exc)) from None
        if not self._complete:
            self._parser = None  # it expects a body now, which `body.py` reads
        return fields

    # Callbacks of llhttp

    def on_header(self, name: bytes, value: bytes) -> None:
        self._fields.append((name.lower(), value.rstrip(b" \t")))

    def on_message_complete(self) -> None:
        self._complete = True


def _check_fields(head: Head) -> None:
    """Check and read the fields of the message's framing and target (RFC 9112 sections 3.2, 6 and 9.3)."""
    found: dict[bytes, bytes] = {}
    for name, value in head.fields:
        if name in _CHECKED:
            if name in found:
                if name in _SINGLE:
                    raise Refusal(400, f"More than one {name.decode().title()} header")
                value = found[name] + b"," + value
            found[name] = value
    _check_host(head, found.get(b"host"))
    _frame(head, found.get(b"content-length"), found.get(b"transfer-encoding"))
    connection = found.get(b"connection")
    options = () if connection is None else [option.strip() for option in connection.lower().split(b",")]
    head.keep_alive = b"close" not in options and (head.version >= (1, 1) or b"keep-alive" in options)
    if head.method == "CONNECT":
        head.keep_alive = False  # the next bytes are for the tunnel, which we do not open
    if head.version >= (1, 1) and found.get(b"expect", b"").lower() == b"100-continue":
        head.expects_continue = head.has_body


def _check_host(head: Head, host: bytes | None) -> None:
    """Raise Refusal for HTTP/1.1 without Host, or with an invalid one; an empty one is valid (RFC 9112 section 3.2)."""
    if host is None:
        if head.version >= (1, 1):
            raise Refusal(400, "Missing Host header")
    elif host and not is_authority(host):
        raise Refusal(400, "Invalid Host header")


def _frame(head: Head, length: bytes | None, coding: bytes | None) -> None:
    if coding is not None:
        if length is not None:
            raise Refusal(400, "Content-Length beside Transfer-Encoding")
        if head.version < (1, 1):
            raise Refusal(400, "Transfer-Encoding in HTTP/1.0")
        if coding.lower() != b"chunked":
            raise Refusal(501, "Unsupported transfer coding")
        head.chunked = True
    elif length is not None:
        if _CONTENT_LENGTH.fullmatch(length) is None:
            raise Refusal(400, "Invalid Content-Length")
        head.length = int(length)
