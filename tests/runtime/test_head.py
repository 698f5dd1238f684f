"""Heads of requests: accepted and rejected as by gunicorn's own parser, except for the listed differences."""

import pytest
from gunicorn.asgi.parser import PythonProtocol
from hypothesis import given
from hypothesis import strategies as st

from optimizely_api.runtime.server.http1.head import HeadLimits, HeadReader, Refusal


def ours(whole, pieces=1, limits=None):
    """Return (method, target, fields), or the status of the refusal; None while the head is not complete."""
    reader = HeadReader(limits or HeadLimits())
    step = max(1, len(whole) // pieces)
    head = None
    try:
        for start in range(0, len(whole), step):
            head, _ = reader.feed(whole[start : start + step])
            if head is not None:
                break
    except Refusal as refusal:
        return refusal.status
    return None if head is None else (head.method.encode(), head.target, head.fields)


def gunicorns(whole):
    heads = []
    parser = PythonProtocol(on_headers_complete=lambda: heads.append(None))
    try:
        parser.feed(whole)
    except Exception:
        return 400
    return (parser.method, parser.path, parser.headers) if heads else None


def field(line):
    return b"GET / HTTP/1.1\r\nHost: a\r\n" + line + b"\r\n\r\n"


@pytest.mark.parametrize(
    "place", ["X{}Name: value", "X-Name: va{}lue", "{}X-Name: value", "X-Name:{}", "X-Name: a{}"]
)
def test_every_byte_at_every_place_of_a_field_is_treated_as_by_gunicorn(place):
    for number in range(256):
        whole = field(place.encode().replace(b"{}", bytes([number])))
        assert ours(whole) == gunicorns(whole), bytes([number])


@pytest.mark.parametrize("number", range(256))
def test_every_byte_in_a_target(number):
    whole = b"GET /a" + bytes([number]) + b"b HTTP/1.1\r\nHost: a\r\n\r\n"
    good = 0x21 <= number <= 0x7E
    assert (ours(whole) == (b"GET", whole[4:8], [(b"host", b"a")])) is good


# What differs: (first line, ours, gunicorn's)
DIFFERENCES = [
    pytest.param(b"BREW / HTTP/1.1", 501, True, id="an unknown method is named so (RFC 9110 section 9.1)"),
    pytest.param(b"GET / HTTP/1.2", True, False, id="a later minor version is answered as 1.1"),
    pytest.param(b"GET / HTTP/2.0", 505, False, id="another major version is named so"),
]


@pytest.mark.parametrize(("line", "here", "there"), DIFFERENCES)
def test_differences_of_the_request_line(line, here, there):
    whole = line + b"\r\nHost: a\r\n\r\n"
    got = ours(whole)
    assert (got if isinstance(here, int) and here is not True else isinstance(got, tuple)) == here
    assert isinstance(gunicorns(whole), tuple) is there


FIELDS = st.sampled_from(
    [
        b"X-Name: a b\t", b"X-Name:\ta\xe9", b"X-Name : a", b" folded", b"no colon", b":", b"X: a\nY: b", b"X: \0",
        b"X: a\r", b"Connection: close", b"Connection: Upgrade\r\nUpgrade: h2c", b"Content-Length: 3",
        b"Content-Length: +3", b"Content-Length: 3, 3", b"Content-Length:", b"Transfer-Encoding: chunked",
        b"Content-Type: a/b",
    ]
)  # fmt: skip
FIRST = st.sampled_from(
    [b"GET / HTTP/1.1", b"POST /a HTTP/1.0", b"\r\nGET / HTTP/1.1", b"get / HTTP/1.1", b"GET /"]
)


@given(FIRST, st.lists(FIELDS, max_size=5), st.integers(1, 200))
def test_no_head_is_accepted_that_gunicorn_rejects_however_it_is_split(first, fields, pieces):
    whole = b"\r\n".join([first, b"Host: a", *fields, b"", b""])
    got, expected = ours(whole, pieces), gunicorns(whole)
    assert got == ours(whole)
    if isinstance(got, tuple):
        assert got == expected


@pytest.mark.parametrize(
    ("line", "status"),
    [
        (b"Content-Length: 9999999999999999999", None),
        (b"Content-Length: 99999999999999999999", 400),
        (b"Content-Length: " + b"9" * 5000, 400),
        (b"Content-Length: 1\r\nContent-Length: 1", 400),
        (b"Content-Length: 1\r\nTransfer-Encoding: chunked", 400),
        (b"Transfer-Encoding: chunked\r\nContent-Length: 1", 400),
        (b"Transfer-Encoding: gzip, chunked", 501),
        (b"Transfer-Encoding: gzip\r\nTransfer-Encoding: chunked", 400),
        (b"Transfer-Encoding: chunked, chunked", 400),
        (b"Transfer-Encoding: rot13", 501),
        (b"Host: a", 400),
    ],
)
def test_ambiguous_framing_is_rejected(line, status):
    got = ours(field(line))
    assert (got if isinstance(got, int) else None) == status


@pytest.mark.parametrize(
    ("limits", "taken", "refused", "status"),
    [
        pytest.param(
            HeadLimits(request_line_bytes=16), b"GET /a HTTP/1.1", b"GET /aaa HTTP/1.1", 414, id="line"
        ),
        pytest.param(HeadLimits(fields=1), b"GET / HTTP/1.1", b"GET / HTTP/1.1\r\nX: a", 431, id="fields"),
        pytest.param(
            HeadLimits(section_bytes=10), b"GET / HTTP/1.1", b"GET / HTTP/1.1\r\nX: a", 431, id="section"
        ),
    ],
)
@pytest.mark.parametrize("pieces", [1, 1000])
def test_each_limit_can_be_reached_but_not_exceeded(limits, taken, refused, status, pieces):
    end = b"\r\nHost: a\r\n\r\n"
    assert isinstance(ours(taken + end, pieces, limits), tuple)
    assert ours(refused + end, pieces, limits) == status


def test_an_endless_head_is_rejected_at_the_limit():
    reader = HeadReader(HeadLimits())
    reader.feed(b"GET / HTTP/1.1\r\nX: ")
    for _ in range(65):
        reader.feed(b"a" * 1000)
    with pytest.raises(Refusal, match="431"):
        reader.feed(b"a" * 1000)
