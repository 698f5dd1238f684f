"""The lines that the server itself adds to a response."""

import time

import pytest

from optimizely_api.runtime.server.http1.response import date_line, status_line


def test_date_follows_the_clock_forwards_and_backwards(monkeypatch):
    for second in (1_700_000_000, 1_700_003_600, 1_700_000_000, 0):
        monkeypatch.setattr(time, "time", lambda second=second: second + 0.5)
        expected = time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime(second))
        assert date_line() == f"Date: {expected}\r\n".encode()


@pytest.mark.parametrize(
    ("status", "phrase"),
    [
        (200, "OK"),
        (408, "Request Timeout"),
        (413, "Content Too Large"),
        (414, "URI Too Long"),
        (416, "Range Not Satisfiable"),
        (422, "Unprocessable Content"),
        (431, "Request Header Fields Too Large"),
        (299, ""),
    ],
)
def test_reason_phrases_are_those_of_rfc_9110(status, phrase):
    assert status_line((1, 1), status) == f"HTTP/1.1 {status} {phrase}\r\n".encode()
