"""Where an HTTP answer ends, however it arrives, and whether its connection may be used again."""

import pytest

from optimizely_api.comparison.load.response_reader import BadResponse, ResponseReader

LENGTH = b"HTTP/1.1 200 OK\r\ncontent-LENGTH: 5\r\n\r\nhello"
CHUNKED = (
    b"HTTP/1.1 201 Created\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"5\r\nhello\r\nA;x=y\r\n\r\n\r\n456789\r\n0\r\nTrailer: 1\r\n\r\n"
)
EMPTY = b"HTTP/1.1 204 No Content\r\n\r\n"
CONTINUED = b"HTTP/1.1 100 Continue\r\n\r\n" + LENGTH


@pytest.mark.parametrize(
    ("answer", "status"),
    [(LENGTH, 200), (CHUNKED, 201), (EMPTY, 204), (CONTINUED, 200)],
    ids=["length", "chunked", "empty", "continued"],
)
def test_an_answer_is_whole_with_its_last_byte_wherever_it_is_split(answer: bytes, status: int) -> None:
    for cut in range(1, len(answer)):
        reader = ResponseReader()
        assert not reader.feed(answer[:cut])
        assert reader.feed(answer[cut:])
        assert (reader.status, reader.keep_alive) == (status, True)
    reader = ResponseReader()
    assert [reader.feed(answer[at : at + 1]) for at in range(len(answer))] == [False] * (len(answer) - 1) + [
        True
    ]


@pytest.mark.parametrize(
    ("head", "kept"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0", True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: Close", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0", False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive", True),
    ],
    ids=["1.1", "1.1-close", "1.0", "1.0-keep-alive"],
)
def test_a_connection_is_kept_as_its_answer_says(head: bytes, kept: bool) -> None:
    reader = ResponseReader()
    assert reader.feed(head + b"\r\n\r\n")
    assert reader.keep_alive is kept


def test_without_a_length_the_answer_ends_with_the_connection() -> None:
    reader = ResponseReader()
    assert not reader.feed(b"HTTP/1.1 200 OK\r\n\r\nanything")
    assert reader.ends_at_close()
    assert not reader.keep_alive


def test_a_cut_answer_does_not_end_with_the_connection() -> None:
    reader = ResponseReader()
    reader.feed(LENGTH[:-1])
    assert not reader.ends_at_close()


@pytest.mark.parametrize("answer", [LENGTH, CHUNKED], ids=["length", "chunked"])
def test_a_connection_with_more_than_was_asked_for_is_not_used_again(answer: bytes) -> None:
    reader = ResponseReader()
    assert reader.feed(answer + b"HTTP/1.1 200 OK\r\n")
    assert not reader.keep_alive


@pytest.mark.parametrize(
    "junk",
    [
        b"SSH-2.0-OpenSSH\r\n\r\n",
        b"\x16\x03\x01",
        b"HTTP/1.1 abc\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000,
    ],
    ids=["ssh", "tls", "no-status", "negative", "no-size", "negative-size", "endless-head"],
)
def test_what_is_not_http_is_bad(junk: bytes) -> None:
    with pytest.raises(BadResponse):
        ResponseReader().feed(junk)
