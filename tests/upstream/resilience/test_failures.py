"""Which ends of an attempt the throttle counts as failures of the service."""

import asyncio
import errno
from types import SimpleNamespace

import aiohttp
import pytest
from aiohttp.http_exceptions import HttpProcessingError

from optimizely_api.upstream.resilience.failures import is_failure
from optimizely_api.upstream.resilience.refusals import Full
from optimizely_api.upstream.transport.connection import (
    ClosedBeforeResponse,
    IdleConnectionClosed,
    ResponseToAnother,
    ResponseTooLarge,
)

LIMIT = 3.0
KEY = SimpleNamespace(host="127.0.0.1", port=1, ssl=True)


class Call:
    seconds_told = 1.0

    def seconds_left(self):
        return 0.5


def fails(error, seconds=0.001):
    return is_failure(error, Call(), seconds, LIMIT)


def refused(number):
    return aiohttp.ClientConnectorError(KEY, OSError(number, ""))


BREAKS = [
    refused(errno.ECONNREFUSED),
    aiohttp.ConnectionTimeoutError(),
    ClosedBeforeResponse(),
    aiohttp.ServerDisconnectedError(),
    aiohttp.ClientPayloadError(),
]


@pytest.mark.parametrize("error", BREAKS, ids=lambda error: type(error).__name__)
def test_a_connection_that_is_refused_or_breaks_off_is_a_failure(error):
    assert fails(error)


@pytest.mark.parametrize("error", [TimeoutError(), asyncio.CancelledError()], ids=repr)
def test_no_response_in_the_whole_time_limit_is_a_failure_and_in_less_it_is_not(error):
    assert fails(error, LIMIT)
    assert not fails(error, LIMIT - 0.5)


OTHERS = [
    IdleConnectionClosed(),
    refused(errno.EMFILE),
    Full(),
    ResponseTooLarge(),
    ResponseToAnother(),
    HttpProcessingError(),
]


@pytest.mark.parametrize("error", OTHERS, ids=lambda error: type(error).__name__)
def test_a_service_is_not_to_blame_for_idle_connections_for_us_and_for_what_we_do_not_take(error):
    assert not fails(error)
