"""The parser of heads takes and refuses exactly what gunicorn's own does."""

import time
from itertools import pairwise

import pytest
from gunicorn.asgi.parser import PythonProtocol
from hypothesis import given
from hypothesis import strategies as st

from optimizely_api.runtime.parser import HeadParser

from .servers import gunicorn

LIMITS = {"limit_request_line": 60, "limit_request_fields": 4, "limit_request_field_size": 60}
UNLIMITED = dict.fromkeys(LIMITS, 0)


def outcome(kind, pieces, limits):
    """All that a parser says of the bytes, fed piece by piece: what it took, what it is left with, what it refused."""
    said = []
    parser = kind(on_body=said.append, on_message_complete=lambda: said.append("complete"), **limits)
    try:
        for piece in pieces:
            parser.feed(piece)
    except Exception as exc:
        said.append((type(exc), str(exc)))
    state = [getattr(parser, name) for name in PythonProtocol.__slots__ if not name.startswith("_on_")]
    return said, state, parser.remaining()


def same(pieces, limits=LIMITS):
    expected = outcome(PythonProtocol, pieces, limits)
    assert outcome(HeadParser, pieces, limits) == expected
    return expected


@pytest.mark.parametrize(
    "place", ["X{}Name: value", "X-Name: va{}lue", "{}X-Name: value", "X-Name:{}", "X-Name: a{}"]
)
def test_every_byte_at_every_place_of_a_field(place):
    for number in range(256):
        line = place.encode().replace(b"{}", bytes([number]))
        same([b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n"])


def test_every_byte_in_a_method():
    for number in range(256):
        same([b"GE" + bytes([number]) + b"T / HTTP/1.1\r\nHost: a\r\n\r\n"])


FIELDS = st.sampled_from(
    [
        b"Host: a", b"Host:", b"host: b", b"X-Name: a b\t", b"X-Name:\ta\xe9", b"X-Name : a", b" folded", b"no colon",
        b":", b"Content-Length: 3", b"Content-Length: +3", b"Transfer-Encoding: chunked", b"Transfer-Encoding: rot13",
        b"Connection: close", b"Connection: keep-alive", b"X: " + b"a" * 55, b"X: " + b"a" * 56, b"X: a\nY: b",
        b"X: \0", b"", b"\r", b"X: a\r",
    ]
)  # fmt: skip
AFTER = st.sampled_from(
    [b"", b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"GET /2 HTTP/1.1\r\nHost: a\r\n\r\n", b"\r\n\r\n"]
)
FIRST = st.sampled_from([b"GET / HTTP/1.1", b"POST /a HTTP/1.0", b"\r\nGET / HTTP/1.1", b"get / HTTP/1.1"])


CUTS = st.lists(st.integers(0, 200), max_size=3)


@given(FIRST, st.lists(FIELDS, max_size=6), AFTER, CUTS, st.sampled_from([LIMITS, UNLIMITED]))
def test_any_head_in_any_pieces(first, fields, after, cuts, limits):
    whole = b"\r\n".join([first, *fields, b"", b""]) + after
    edges = [0, *sorted(cuts), len(whole)]
    same([whole[start:end] for start, end in pairwise(edges)], limits)


def test_a_head_that_arrives_at_once_is_not_left_to_gunicorns_own_way(monkeypatch):
    monkeypatch.setattr(PythonProtocol, "_parse_headers", None)
    said, _, rest = outcome(HeadParser, [b"GET / HTTP/1.1\r\nHost: a\r\nX-Name:  b \r\n\r\nnext"], LIMITS)
    assert (said, rest) == (["complete"], b"next")


def test_more_fields_than_the_limit_are_refused_as_such():
    head = b"GET / HTTP/1.1\r\n" + b"X: a\r\n" * 5 + b"\r\n"
    (kind, message), *_ = same([head])[0]
    assert (kind.__name__, message) == ("LimitRequestHeaders", "Too many headers")


def test_what_follows_a_request_under_way_is_not_read_without_end(tmp_path):
    with gunicorn(tmp_path) as server, server.connect() as client:
        client.sendall(b"GET /wait?seconds=2 HTTP/1.1\r\nHost: t\r\n\r\nGET /echo HTTP/1.1\r\n")
        client.settimeout(0.3)
        sent, ends = 0, time.monotonic() + 1.5
        try:
            while time.monotonic() < ends:
                sent += client.send(b"X: " + b"a" * 65536)
        except TimeoutError:
            pass
        else:
            raise AssertionError(f"{sent} bytes were taken")
