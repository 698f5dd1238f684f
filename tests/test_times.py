"""Times as callers write them: RFC 3339 and what people type, alike in the gateway and in the services."""

from datetime import UTC, datetime, timedelta

import pytest

from optimizely_api.contract import formats
from optimizely_api.services.http.errors import ServiceError
from optimizely_api.services.http.query import parse_time


def moment(*parts):
    return datetime(*parts, tzinfo=UTC)


TAKEN = [
    ("2026-01-31T12:00:00Z", moment(2026, 1, 31, 12)),
    ("2026-01-31t12:00:00z", moment(2026, 1, 31, 12)),
    ("2026-01-31 12:00:00Z", moment(2026, 1, 31, 12)),
    ("2026-01-31T12:00", moment(2026, 1, 31, 12)),
    ("2026-01-31", moment(2026, 1, 31)),
    ("2028-02-29", moment(2028, 2, 29)),
    ("2026-01-31T12:00:00.123456789Z", moment(2026, 1, 31, 12, 0, 0, 123456)),
    ("2026-01-31T12:00:00." + "9" * 30 + "Z", moment(2026, 1, 31, 12, 0, 0, 999999)),
    ("2026-01-31T12:00:00.5", moment(2026, 1, 31, 12, 0, 0, 500000)),
    ("2026-01-31T23:59:00+23:59", moment(2026, 1, 31)),
    ("2026-01-31T00:00:00-00:00", moment(2026, 1, 31)),
    ("2026-01-31T12:00:00-0130", moment(2026, 1, 31, 13, 30)),
    ("2026-01-31T12:00:00 02:00", moment(2026, 1, 31, 10)),
    ("2016-12-31T23:59:60Z", moment(2017, 1, 1)),
    ("2016-12-31T15:59:60-08:00", moment(2017, 1, 1)),
    ("2016-12-31T23:59:60.5Z", moment(2017, 1, 1, 0, 0, 0, 500000)),
]
REFUSED = [
    *("2026-01-31T12:00:00+02:99", "2026-01-31T12:00:00+24:00", "2026-01-31T12:00:00+2:00"),
    *("2026-01-31T24:00:00Z", "2026-01-31T25:00:00Z", "2026-01-31T12:60:00Z", "2026-01-31T12:00:61Z"),
    *("2026-01-31T12:00:60Z", "2026-01-15T23:59:60Z", "2016-12-31T23:59:60+01:00"),
    *("2026-02-30", "2026-02-29", "2026-13-01", "2026-00-10", "2026-01-00", "0000-01-01"),
    *("26-01-31", "2026-1-31", "20260131", "2026-01", "2026-W05-6", "2026-031", "31.01.2026", "tomorrow"),
    *("2026-01-31T", "2026-01-31Z", "2026-01-31T12", "2026-01-31T12Z", "2026-01-31T12:00:00,5Z"),
    *("2026-01-31T12:00:00.Z", "2026-01-31T12:00.5Z", "2026-01-31T12:00:00ZZ", "2026-01-31T12:00:00Z\n"),
    *(" 2026-01-31", "\u0662\u0660\u0662\u0666-01-31", "5", "1769860800", ""),
    "2026-01-31T12:00:00." + "9" * 1_000_000 + "Z",
]


@pytest.mark.parametrize("read", [formats.read_time, parse_time], ids=["gateway", "services"])
@pytest.mark.parametrize(("text", "expected"), TAKEN, ids=[text[:40] for text, _ in TAKEN])
def test_a_time_is_read_in_utc(read, text, expected):
    assert read(text) == expected
    assert read(text).utcoffset() == timedelta(0)


@pytest.mark.parametrize("text", REFUSED, ids=[repr(text[:40]) for text in REFUSED])
def test_what_is_no_time_is_refused_by_the_gateway_and_the_services(text):
    with pytest.raises((ValueError, OverflowError)):
        formats.read_time(text)
    with pytest.raises(ServiceError, match="must be an ISO 8601 time"):
        parse_time(text)


@pytest.mark.parametrize("text", ["1969-12-31", "9999-01-01", "0001-01-01T00:00:00Z"])
def test_the_gateway_takes_the_years_that_results_can_be_about(text):
    with pytest.raises(ValueError, match="out of range"):
        formats.read_time(text)


def test_the_edge_of_the_calendar_is_refused_and_no_defect():
    with pytest.raises(ServiceError):
        parse_time("0001-01-01T00:00:00+01:00")
