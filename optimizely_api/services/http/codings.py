"""Content codings of request bodies (RFC 9110 section 8.4), decoded in pieces so that limits apply as a body grows."""

from __future__ import annotations

import sys
import zlib
from collections.abc import Callable, Iterator
from typing import Any

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

PIECE_BYTES = 64 * 1024
MAX_MEMBERS = 1024  # gzip members or zstd frames in one body; each costs some microseconds, even an empty one
_WINDOW_LOG = 23  # the 8 MiB that a decoder of zstd must support, and no more (RFC 9659)
_ALIASES = {"x-gzip": "gzip"}  # RFC 9110 section 8.4.1.3


class UndecodableError(ValueError):
    """The content is not valid in its coding, or incomplete."""


class _Brotli:
    unused_data = b""

    def __init__(self) -> None:
        self._decoder = brotli.Decompressor()

    @property
    def eof(self) -> bool:
        return bool(self._decoder.is_finished())

    def decompress(self, data: bytes, max_length: int) -> bytes:
        return bytes(self._decoder.process(data, output_buffer_limit=max_length))


def _deflate(data: bytes) -> Any:
    # Many senders leave out the zlib header (RFC 1950), whose low four bits are 8.
    return zlib.decompressobj(zlib.MAX_WBITS if data[0] & 0xF == 8 else -zlib.MAX_WBITS)


_OPTIONS: dict[int, int] = {zstd.DecompressionParameter.window_log_max: _WINDOW_LOG}
_DECODERS: dict[str, Callable[[bytes], Any]] = {
    "gzip": lambda _: zlib.decompressobj(16 + zlib.MAX_WBITS),
    "deflate": _deflate,
    "br": lambda _: _Brotli(),
    "zstd": lambda _: zstd.ZstdDecompressor(options=_OPTIONS),
}
CODINGS = tuple(_DECODERS)
_ERRORS = (zlib.error, zstd.ZstdError, brotli.error)


def coding_of(content_encoding: str) -> str | None:
    """The coding that a Content-Encoding field names; None for plain content. Raises LookupError for an unknown one."""
    name = content_encoding.strip().lower()
    name = _ALIASES.get(name, name)
    if name in {"", "identity"}:
        return None
    if name not in _DECODERS:
        raise LookupError(name)
    return name


def decode(coding: str, data: bytes) -> Iterator[bytes]:
    """Decode `data`, and yield the content in pieces of about PIECE_BYTES at most. Raises UndecodableError."""
    at = members = 0
    while at < len(data):
        members += 1
        if members > MAX_MEMBERS:
            raise UndecodableError(f"more than {MAX_MEMBERS} members")
        decoder = _DECODERS[coding](data)
        pending = b""
        while not decoder.eof:
            try:
                piece = decoder.decompress(pending, PIECE_BYTES)
            except _ERRORS as exc:
                raise UndecodableError(str(exc)) from exc
            pending = getattr(decoder, "unconsumed_tail", b"")
            if piece:
                yield piece
            elif not pending and not decoder.eof:
                if at == len(data):
                    raise UndecodableError("cut short")
                pending = data[at : at + PIECE_BYTES]
                at += len(pending)
        at -= len(decoder.unused_data)
