"""The cache: bounded in bytes, least recently used first out, and never fresh for longer than its limits."""

import gc
import tracemalloc

import orjson
import pytest

from optimizely_api.upstream import calls
from optimizely_api.upstream.caching.cache import BYTES_PER_BYTE, BYTES_PER_ENTRY, Cache
from optimizely_api.upstream.caching.generations import Generations
from tests.support import samples
from tests.upstream.benchmark_client import RESULTS
from tests.upstream.versioned_service import FakeClock

CALL = calls.get_project(1)
BODY = b"x" * 100


class Fixture:
    """A cache for some ten values of BODY's size, fresh for five seconds."""

    def __init__(self, **more):
        self.clock, self.generations = FakeClock(), Generations()
        room = 10 * (BYTES_PER_ENTRY + BYTES_PER_BYTE * len(BODY) + 100)
        self.cache = Cache(**{"seconds": 5.0, "most_bytes": room, "clock": self.clock.clock, **more})

    def now(self):
        return self.cache.send_time(self.generations.snapshot(CALL))

    def put(self, key, value="value", sent=None, body=BODY, tag='"tag"'):
        self.cache.put((key,), value, body, tag, sent or self.now())

    def is_fresh(self, key):
        entry = self.cache.get((key,))
        return entry is not None and self.cache.is_fresh(entry)


def test_a_value_is_the_same_object_each_time():
    fixture, value = Fixture(), {"id": 1}
    fixture.put("a", value)
    assert fixture.cache.get(("a",)).value is value


def test_a_value_is_fresh_for_less_than_its_seconds():
    fixture = Fixture()
    fixture.put("a")
    fixture.clock.go_on(4.999)
    assert fixture.is_fresh("a")
    fixture.clock.go_on(0.001)
    assert not fixture.is_fresh("a")


def test_the_age_counts_from_the_time_the_call_was_sent():
    fixture = Fixture()
    sent = fixture.now()
    fixture.clock.go_on(5)
    fixture.put("a", sent=sent)
    assert not fixture.is_fresh("a")


def test_a_confirmed_value_is_fresh_again_and_stays_the_same_object():
    fixture, value = Fixture(), {"id": 1}
    fixture.put("a", value)
    fixture.clock.go_on(5)
    fixture.cache.confirm(("a",), fixture.cache.get(("a",)), fixture.now())
    assert fixture.is_fresh("a")
    assert fixture.cache.get(("a",)).value is value


def test_a_value_that_was_asked_for_before_its_key_was_dropped_is_not_stored_after_it():
    fixture = Fixture()
    fixture.put("a")
    entry, early = fixture.cache.get(("a",)), fixture.now()
    fixture.clock.go_on(1)
    fixture.cache.drop(("a",))
    fixture.put("a", sent=early)
    fixture.cache.confirm(("a",), entry, early)
    assert fixture.cache.get(("a",)) is None
    fixture.put("a")
    assert fixture.is_fresh("a")


def test_a_new_period_of_the_clock_ends_freshness_however_young_the_value():
    fixture = Fixture(period_seconds=300)
    fixture.clock.seconds = 300 * 4000 - 0.5
    fixture.put("a")
    fixture.clock.go_on(0.4)
    assert fixture.is_fresh("a")
    fixture.clock.go_on(0.1)
    assert not fixture.is_fresh("a")


def test_the_response_to_an_earlier_call_does_not_replace_a_later_one():
    fixture = Fixture()
    early = fixture.now()
    fixture.clock.go_on(1)
    fixture.put("a", "later")
    fixture.put("a", "earlier", sent=early)
    assert fixture.cache.get(("a",)).value == "later"


def test_the_response_to_a_call_sent_before_a_write_is_neither_stored_nor_fresh():
    fixture = Fixture()
    fixture.put("a")
    before = fixture.now()
    fixture.generations.advance(CALL)
    assert not fixture.is_fresh("a")
    fixture.put("b", sent=before)
    assert fixture.cache.get(("b",)) is None


def test_the_least_recently_used_entry_is_evicted_first():
    fixture = Fixture()
    for number in range(10):
        fixture.put(str(number))
    fixture.cache.get(("0",))
    fixture.put("new")
    stored = [key for key in (*map(str, range(10)), "new") if fixture.cache.get((key,))]
    assert "0" in stored
    assert "new" in stored
    assert "1" not in stored


def test_its_size_never_exceeds_its_limit():
    fixture = Fixture(most_bytes=50_000)
    for number in range(500):
        fixture.put(str(number % 50), body=b"x" * (number * 7919 % 3000))
        assert fixture.cache.size <= 50_000
    assert len(fixture.cache) > 1


def test_a_value_larger_than_the_cache_is_not_stored_and_evicts_nothing():
    fixture = Fixture()
    fixture.put("small")
    fixture.put("large", body=b"x" * 1_000_000)
    assert len(fixture.cache) == 1
    assert fixture.is_fresh("small")


def test_a_value_that_has_grown_too_large_removes_the_old_one():
    fixture = Fixture()
    fixture.put("a", "old")
    fixture.clock.go_on(1)
    fixture.put("a", "new", body=b"x" * 1_000_000)
    assert fixture.cache.get(("a",)) is None
    assert fixture.cache.size == 0


@pytest.mark.parametrize("tag", ['"a"', 'W/"a"', '""', '"!#~"'])
def test_a_tag_is_kept_as_it_was_given(tag):
    fixture = Fixture()
    fixture.put("a", tag=tag)
    assert fixture.cache.get(("a",)).entity_tag == tag


@pytest.mark.parametrize("tag", ["", "a", '"a', '"a" "b"', '"a"\r\nX: 1', '"\x00"', '"é"', "*"])
def test_an_invalid_tag_is_never_stored(tag):
    fixture = Fixture()
    fixture.put("a", tag=tag)
    assert fixture.cache.get(("a",)).entity_tag == ""


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
def test_the_size_is_no_less_than_the_memory_that_python_allocates(body):
    fixture, copies = Fixture(most_bytes=10**9), 20
    bodies = [bytes(bytearray(body)) for _ in range(copies)]
    gc.collect()
    tracemalloc.start()
    for number, one in enumerate(bodies):
        key = ("/results/" + str(number), "results", "POST", (), bytes(bytearray(2000)), "Results")
        fixture.cache.put(key, orjson.loads(one), one, '"' + "t" * 32 + '"', fixture.now())
    allocated, _ = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert allocated <= fixture.cache.size
