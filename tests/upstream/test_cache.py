"""The shelf: bounded in bytes, the least recently used go first, and nothing is trusted for longer than it may be."""

import gc
import tracemalloc

import orjson
import pytest

from optimizely_api.upstream import calls
from optimizely_api.upstream.caching.cache import BYTES_PER_BYTE, BYTES_PER_ENTRY, Shelf
from optimizely_api.upstream.caching.generations import Stamps
from tests.support import samples
from tests.upstream.benchmark_client import RESULTS
from tests.upstream.versioned_service import FakeClock

CALL = calls.get_project(1)
BODY = b"x" * 100


class Fixture:
    """A shelf for some ten values of BODY's size, trusted for five seconds."""

    def __init__(self, **more):
        self.clock, self.stamps = FakeClock(), Stamps()
        room = 10 * (BYTES_PER_ENTRY + BYTES_PER_BYTE * len(BODY) + 100)
        self.shelf = Shelf(**{"seconds": 5.0, "largest_bytes": room, "clock": self.clock.clock, **more})

    def now(self):
        return self.shelf.moment(self.stamps.of(CALL))

    def keep(self, key, value="value", moment=None, body=BODY, tag='"tag"'):
        self.shelf.keep((key,), value, body, tag, moment or self.now())

    def trusted(self, key):
        kept = self.shelf.find((key,))
        return kept is not None and self.shelf.trusts(kept)


def test_a_value_is_the_same_object_each_time():
    fixture, value = Fixture(), {"id": 1}
    fixture.keep("a", value)
    assert fixture.shelf.find(("a",)).value is value


def test_a_value_is_trusted_for_less_than_its_seconds():
    fixture = Fixture()
    fixture.keep("a")
    fixture.clock.go_on(4.999)
    assert fixture.trusted("a")
    fixture.clock.go_on(0.001)
    assert not fixture.trusted("a")


def test_its_age_counts_from_when_the_call_was_sent():
    fixture = Fixture()
    sent = fixture.now()
    fixture.clock.go_on(5)
    fixture.keep("a", moment=sent)
    assert not fixture.trusted("a")


def test_a_confirmed_value_is_trusted_anew_and_stays_the_same_object():
    fixture, value = Fixture(), {"id": 1}
    fixture.keep("a", value)
    fixture.clock.go_on(5)
    fixture.shelf.renew(("a",), fixture.shelf.find(("a",)), fixture.now())
    assert fixture.trusted("a")
    assert fixture.shelf.find(("a",)).value is value


def test_a_slot_of_the_clock_ends_the_trust_however_young_the_value():
    fixture = Fixture(slot_seconds=300)
    fixture.clock.seconds = 300 * 4000 - 0.5
    fixture.keep("a")
    fixture.clock.go_on(0.4)
    assert fixture.trusted("a")
    fixture.clock.go_on(0.1)
    assert not fixture.trusted("a")


def test_an_answer_that_was_asked_for_earlier_does_not_replace_a_later_one():
    fixture = Fixture()
    early = fixture.now()
    fixture.clock.go_on(1)
    fixture.keep("a", "later")
    fixture.keep("a", "earlier", moment=early)
    assert fixture.shelf.find(("a",)).value == "later"


def test_what_was_asked_for_before_a_write_is_neither_kept_nor_trusted():
    fixture = Fixture()
    fixture.keep("a")
    before = fixture.now()
    fixture.stamps.change(CALL)
    assert not fixture.trusted("a")
    fixture.keep("b", moment=before)
    assert fixture.shelf.find(("b",)) is None


def test_the_least_recently_used_goes_first():
    fixture = Fixture()
    for number in range(10):
        fixture.keep(str(number))
    fixture.shelf.find(("0",))
    fixture.keep("new")
    left = [key for key in (*map(str, range(10)), "new") if fixture.shelf.find((key,))]
    assert "0" in left
    assert "new" in left
    assert "1" not in left


def test_it_never_takes_more_bytes_than_it_may():
    fixture = Fixture(largest_bytes=50_000)
    for number in range(500):
        fixture.keep(str(number % 50), body=b"x" * (number * 7919 % 3000))
        assert fixture.shelf.size <= 50_000
    assert len(fixture.shelf) > 1


def test_a_value_larger_than_the_shelf_is_not_kept_and_drives_nobody_out():
    fixture = Fixture()
    fixture.keep("small")
    fixture.keep("large", body=b"x" * 1_000_000)
    assert len(fixture.shelf) == 1
    assert fixture.trusted("small")


def test_a_value_that_has_grown_too_large_does_not_stay_as_it_was():
    fixture = Fixture()
    fixture.keep("a", "old")
    fixture.clock.go_on(1)
    fixture.keep("a", "new", body=b"x" * 1_000_000)
    assert fixture.shelf.find(("a",)) is None
    assert fixture.shelf.size == 0


@pytest.mark.parametrize("tag", ['"a"', 'W/"a"', '""', '"!#~"'])
def test_a_tag_is_kept_as_it_was_given(tag):
    fixture = Fixture()
    fixture.keep("a", tag=tag)
    assert fixture.shelf.find(("a",)).entity_tag == tag


@pytest.mark.parametrize("tag", ["", "a", '"a', '"a" "b"', '"a"\r\nX: 1', '"\x00"', '"é"', "*"])
def test_what_is_no_tag_is_never_sent_back(tag):
    fixture = Fixture()
    fixture.keep("a", tag=tag)
    assert fixture.shelf.find(("a",)).entity_tag == ""


@pytest.mark.parametrize(
    "body",
    [
        RESULTS.partition(b"\r\n\r\n")[2],
        orjson.dumps(samples.experiment()),
        orjson.dumps(samples.project()),
        orjson.dumps({"text": "x" * 20_000 + "😀"}),
        orjson.dumps(list(range(1000, 6000))),
    ],
    ids=["results", "an experiment", "a project", "a text with an emoji", "numbers"],
)
def test_the_bytes_it_counts_are_no_fewer_than_what_is_taken(body):
    fixture, copies = Fixture(largest_bytes=10**9), 20
    bodies = [bytes(bytearray(body)) for _ in range(copies)]
    gc.collect()
    tracemalloc.start()
    for number, one in enumerate(bodies):
        key = ("/results/" + str(number), "results", "POST", (), bytes(bytearray(2000)), "Results")
        fixture.shelf.keep(key, orjson.loads(one), one, '"' + "t" * 32 + '"', fixture.now())
    taken, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert taken <= fixture.shelf.size
