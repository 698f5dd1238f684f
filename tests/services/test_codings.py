"""Encoded bodies are decoded piece by piece, whole or not at all."""

from __future__ import annotations

import gzip
import random
import sys
import zlib

import brotli
import pytest

from optimizely_api.services.http.codings import MAX_MEMBERS, PIECE_BYTES, Undecodable, coding_of, decode

if sys.version_info >= (3, 14):
    from compression import zstd
else:
    from backports import zstd


def raw_deflate(data: bytes) -> bytes:
    coder = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return coder.compress(data) + coder.flush()


ENCODERS = [
    pytest.param("gzip", gzip.compress, id="gzip"),
    pytest.param("deflate", zlib.compress, id="deflate"),
    pytest.param("deflate", raw_deflate, id="deflate without zlib's header"),
    pytest.param("br", brotli.compress, id="br"),
    pytest.param("zstd", zstd.compress, id="zstd"),
]
CONTENTS = [
    pytest.param(b"", id="empty"),
    pytest.param(b"x", id="one byte"),
    pytest.param(b"abc" * 200_000, id="repeated"),
    pytest.param(random.Random(1).randbytes(200_000), id="random"),
]


@pytest.mark.parametrize(("coding", "encode"), ENCODERS)
@pytest.mark.parametrize("content", CONTENTS)
def test_what_was_encoded_is_decoded_in_small_pieces(coding, encode, content) -> None:
    pieces = list(decode(coding, encode(content)))
    assert b"".join(pieces) == content
    assert max(map(len, pieces), default=0) <= 2 * PIECE_BYTES


@pytest.mark.parametrize(("coding", "encode"), ENCODERS)
def test_content_that_is_cut_or_in_no_coding_is_refused(coding, encode) -> None:
    encoded = encode(random.Random(1).randbytes(200_000))
    for broken in (encoded[:-1], encoded[:100_000], b"\xff\xff\xff\xff" * 100):
        with pytest.raises(Undecodable):
            list(decode(coding, broken))


@pytest.mark.parametrize(("coding", "encode"), [("gzip", gzip.compress), ("zstd", zstd.compress)])
def test_members_follow_each_other_but_not_without_end(coding, encode) -> None:
    assert b"".join(decode(coding, encode(b"one") + encode(b"two"))) == b"onetwo"
    with pytest.raises(Undecodable, match="members"):
        list(decode(coding, encode(b"") * (MAX_MEMBERS + 1)))


def test_a_frame_that_wants_a_window_over_8_mib_is_refused() -> None:
    options = {zstd.CompressionParameter.window_log: 25, zstd.CompressionParameter.content_size_flag: 0}
    coder = zstd.ZstdCompressor(options=options)
    frame = coder.compress(b"x", zstd.ZstdCompressor.FLUSH_BLOCK) + coder.flush()
    with pytest.raises(Undecodable):
        list(decode("zstd", frame))


@pytest.mark.parametrize("field", ["", "identity", " IDENTITY "])
def test_plain_content_has_no_coding(field: str) -> None:
    assert coding_of(field) is None


@pytest.mark.parametrize("field", ["x-gzip", "GZip "])
def test_x_gzip_is_gzip(field: str) -> None:
    assert coding_of(field) == "gzip"
