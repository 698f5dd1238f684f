"""Addresses that take no connections rest, for longer each time, and a host is reached by its others."""

import pytest

from optimizely_api.upstream.resilience.refusals import AddressesRest
from optimizely_api.upstream.resilience.resting import MOST_ADDRESSES, Addresses
from tests.upstream.resilience.virtual_time import VirtualTime

ONE, OTHER = ("192.0.2.1", 80), ("192.0.2.2", 80)


@pytest.fixture
def time():
    return VirtualTime()


@pytest.fixture
def addresses(time):
    return Addresses(time)


def fail(time, addresses, times, address=ONE):
    for _ in range(times):
        began = time.now()
        time.go_on(0.001)
        addresses.failed(address, began)


def test_one_failure_is_no_reason_to_rest(time, addresses):
    fail(time, addresses, 1)
    assert addresses.awake([ONE, OTHER]) == [ONE, OTHER]


def test_attempts_that_were_under_way_together_fail_once(time, addresses):
    began = time.now()
    time.go_on(1)
    for _ in range(200):
        addresses.failed(ONE, began)
    assert addresses.awake([ONE, OTHER]) == [ONE, OTHER]


def test_an_address_that_has_taken_a_connection_meanwhile_did_not_fail(time, addresses):
    for _ in range(10):
        began = time.now()
        time.go_on(0.5)
        addresses.connected(ONE)
        time.go_on(0.5)
        addresses.failed(ONE, began)
    assert addresses.awake([ONE, OTHER]) == [ONE, OTHER]


@pytest.mark.parametrize(("failures", "seconds"), [(2, 1), (3, 2), (4, 4), (6, 16), (7, 30), (100, 30)])
def test_it_rests_longer_after_each_failure(time, addresses, failures, seconds):
    fail(time, addresses, failures)
    time.go_on(seconds - 0.01)
    assert addresses.awake([ONE, OTHER]) == [OTHER]
    time.go_on(0.02)
    assert addresses.awake([ONE, OTHER]) == [ONE, OTHER]


def test_where_all_rest_one_is_tried_twice_a_second(time, addresses):
    fail(time, addresses, 5, ONE)
    fail(time, addresses, 3, OTHER)
    tried = []
    for _ in range(105):
        time.go_on(0.01)
        try:
            tried += addresses.awake([ONE, OTHER])
        except AddressesRest:
            continue
    assert tried == [OTHER, OTHER]


def test_the_first_connection_ends_the_rest(time, addresses):
    fail(time, addresses, 10)
    addresses.connected(ONE)
    assert addresses.awake([ONE]) == [ONE]
    fail(time, addresses, 1)
    assert addresses.awake([ONE]) == [ONE]


def test_of_ever_new_addresses_only_the_last_ones_are_remembered(time, addresses):
    fail(time, addresses, 2, OTHER)
    for number in range(MOST_ADDRESSES + 1):
        new = (f"192.0.2.{number}", 80)
        addresses.connected(new)
        fail(time, addresses, 1, new)
        if number % 100 == 0:
            fail(time, addresses, 1, OTHER)
    assert len(addresses._connected_at) == len(addresses._failing) == MOST_ADDRESSES
    assert addresses.awake([OTHER, new]) == [new]


def test_an_attempt_that_ends_after_the_return_puts_off_no_trial(time, addresses):
    fail(time, addresses, 2)
    time.go_on(0.5)
    assert addresses.awake([ONE]) == [ONE]
    began = time.now()
    time.go_on(1.0)
    addresses.failed(ONE, began)  # nothing came of it in a second
    assert addresses.awake([ONE]) == [ONE]
