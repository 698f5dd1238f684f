"""gunicorn's own HTTP/1 parser, with the checks of every character of a head made by the `re` module."""

import re

from gunicorn.asgi.parser import PythonProtocol
from gunicorn.http.message import TOKEN_RE

_TOKEN = TOKEN_RE.pattern.encode("latin-1")
_NAME = re.compile(_TOKEN)
_NOT_IN_A_VALUE = re.compile(rb"[\x00-\x08\x0a-\x1f\x7f]")
_FIELDS = re.compile(rb"(?:%b:[^\x00-\x08\x0a-\x1f\x7f]*\r\n)+" % _TOKEN)


class HeadParser(PythonProtocol):  # type: ignore[misc]
    """Parses as `PythonProtocol` does: the same is taken and the same refused, with fewer steps of Python's.

    Headers that have arrived together and are as they should be are taken at one go; all others, and whatever is
    wrong, are left to gunicorn's way line by line.

    Relied upon of gunicorn 27: that `_is_valid_token` and `_has_invalid_header_chars` decide which method, name and
    value are taken, and that `_parse_headers` leaves (lower-case name, value) in `_headers_list`, their number in
    `_header_count` and what follows the head in `_buffer`, and then calls `_finalize_headers`.
    """

    __slots__ = ()  # so that a parser which gunicorn has made can become one

    def _is_valid_token(self, data: bytes) -> bool:
        return _NAME.fullmatch(data) is not None

    def _has_invalid_header_chars(self, value: bytes) -> bool:
        return _NOT_IN_A_VALUE.search(value) is not None

    def _parse_headers(self) -> bool:
        begun = self._header_count or self._scan_from  # type: ignore[has-type]
        fields = None if begun else self._take_fields()
        if fields is None:
            return bool(super()._parse_headers())
        self._headers_list = fields  # type: ignore[misc]  # a slot of the base class
        self._header_count = len(fields)  # type: ignore[misc]
        self._finalize_headers()
        return True

    def _take_fields(self) -> list[tuple[bytes, bytes]] | None:
        """The headers that the buffer begins with, which are taken from it; None where they are not ordinary."""
        end = self._buffer.find(b"\r\n\r\n") + 2
        size_limit = self._limit_request_field_size
        if end < 2 or 0 < size_limit < end or self._on_header is not None:
            return None
        block = bytes(self._buffer[:end])
        count_limit = self._limit_request_fields
        if 0 < count_limit < block.count(b"\n") or _FIELDS.fullmatch(block) is None:
            return None
        del self._buffer[: end + 2]
        fields = []
        for line in block[:-2].split(b"\r\n"):
            name, _, value = line.partition(b":")
            fields.append((name.lower(), value.strip(b" \t")))
        return fields
