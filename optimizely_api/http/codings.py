"""Content codings: which one a caller takes (RFC 9110 section 12.5.3), and compressing in it.

Levels were chosen by measuring JSON results of 5 kB, and of 1.3 MB, on one core: microseconds, and how many times
smaller the body becomes.

    level     5 kB        1.3 MB           a higher one: 5 kB       1.3 MB
    zstd 1    11   4.1     2,700   6.7     zstd 6:       64   4.2   14,300   6.5
    br 1      17   3.8     5,000   6.1     br 4:         95   4.4   26,100   7.1
    gzip 1    22   3.7     9,300   5.2     gzip 6:       31   4.0   27,400   6.1

The same bytes come out of the same release of a library: that is as strong as a coded answer's ETag is.
"""

import functools
import gzip
import re
import sys
import threading
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import brotli

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd

CODINGS = ("zstd", "br", "gzip")  # in the server's order, which decides between codings of one weight
WORTH_IT = frozenset(
    {
        *("application/json", "application/yaml", "text/csv", "text/html", "text/css", "text/javascript"),
        "image/svg+xml",
    }
)
FAST_LEVEL = 1  # of all three
GZIP_WINDOW_BITS = 31  # zlib's 15, and 16 for the header of gzip

# The weight of a coding (RFC 9110 section 12.4.2); a member that does not look like this counts for nothing.
_MEMBER = re.compile(
    r"[ \t]*([!#$%&'*+.^_`|~0-9a-z-]+)[ \t]*(?:;[ \t]*q=(0(?:\.[0-9]{0,3})?|1(?:\.0{0,3})?)[ \t]*)?", re.ASCII
)
_ALIASES = {"x-gzip": "gzip"}  # section 8.4.1.3


@dataclass(frozen=True, slots=True)
class Preference:
    """What an Accept-Encoding field asks for, of what there is."""

    coding: str | None  # None: no coding at all
    takes_plain: bool  # whether an answer without a coding will do


NO_PREFERENCE = Preference(None, True)


@functools.lru_cache(maxsize=256)
def preference(accept_encoding: str) -> Preference:
    """Choose a coding by weight, and among equals by our own order.

    Without a word about `identity` every acceptable coding is preferred to it; with one, its weight counts too. When
    nothing we have is acceptable the answer goes out without a coding, as section 12.5.3 allows.
    """
    weights = _weights(accept_encoding)
    rest = weights.get("*", 0.0)
    plain = weights.get("identity", weights.get("*"))
    best = max(CODINGS, key=lambda coding: weights.get(coding, rest))
    weight = weights.get(best, rest)
    if not weight or weights.get("identity", 0.0) > weight:
        return NO_PREFERENCE
    return Preference(best, takes_plain=plain != 0.0)


def _weights(accept_encoding: str) -> dict[str, float]:
    weights: dict[str, float] = {}
    for part in accept_encoding.lower().split(","):
        if member := _MEMBER.fullmatch(part):
            name, weight = member.groups()
            weights[_ALIASES.get(name, name)] = 1.0 if weight is None else float(weight)
    return weights


class _Zstd(threading.local):
    """A thread's compressor: making one takes as long as compressing 5 kB with it."""

    def __init__(self) -> None:
        self._compressor = zstd.ZstdCompressor(FAST_LEVEL)

    def compress(self, body: bytes) -> bytes:
        self._compressor.set_pledged_input_size(len(body))
        return self._compressor.compress(body, zstd.ZstdCompressor.FLUSH_FRAME)


_zstd = _Zstd()


def compress(coding: str, body: bytes) -> bytes:
    """The body in one of `CODINGS` (gzip: RFC 1952; br: RFC 7932; zstd: RFC 8878, its window below RFC 9659's 8 MB)."""
    if coding == "zstd":
        return _zstd.compress(body)
    if coding == "br":
        return bytes(brotli.compress(body, quality=FAST_LEVEL))
    # Without a time in its header the same body gives the same bytes.
    return gzip.compress(body, FAST_LEVEL, mtime=0)


def compress_chunks(coding: str, chunks: Iterable[bytes]) -> Iterator[bytes]:
    """The chunks in one of `CODINGS`, as few as its compressor makes of them; at most some of them are in memory."""
    add, finish = _incremental(coding)
    for chunk in chunks:
        if compressed := add(chunk):
            yield compressed
    yield finish()


def _incremental(coding: str) -> tuple[Callable[[bytes], bytes], Callable[[], bytes]]:
    if coding == "zstd":
        frame = zstd.ZstdCompressor(FAST_LEVEL)
        return frame.compress, frame.flush
    if coding == "br":
        stream = brotli.Compressor(quality=FAST_LEVEL)
        return stream.process, stream.finish
    member = zlib.compressobj(FAST_LEVEL, wbits=GZIP_WINDOW_BITS)  # whose header has no time
    return member.compress, member.flush
