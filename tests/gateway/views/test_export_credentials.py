"""Credentials for exported events: refused, for no store can be set up, after the request was found valid."""

from typing import Any

import pytest

from tests.support.asserting import AUTHORIZED, assert_error

ADDRESS = "/v2/export/credentials"


@pytest.mark.parametrize("query", ["", "?duration=15m", "?duration=1H", "?duration=60M"])
def test_403_says_what_is_missing(gateway: Any, query: str) -> None:
    response = gateway.get(ADDRESS + query, headers=AUTHORIZED, expect_errors=True)
    assert_error(response, 403, "forbidden", "S3-compatible store")


@pytest.mark.parametrize("duration", ["14m", "61m", "2h", "0h", "m", "30", "1d", "99999m", "15m15m"])
def test_400_for_a_duration_that_is_not_15m_to_1h(gateway: Any, duration: str) -> None:
    response = gateway.get(f"{ADDRESS}?duration={duration}", headers=AUTHORIZED, expect_errors=True)
    error = assert_error(response, 400, "bad_request")
    assert error["messages"] == {"/query/duration": "must be from 15m to 1h, such as 30m"}


def test_401_without_a_token(gateway: Any) -> None:
    assert_error(gateway.get(ADDRESS, expect_errors=True), 401, "unauthorized")
