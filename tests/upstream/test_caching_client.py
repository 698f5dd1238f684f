"""Which responses are cached, for how long, and when a cached value is never used."""

import asyncio
import dataclasses
import random
import time

import pytest

from optimizely_api.upstream import calls
from optimizely_api.upstream.caching.caching_client import CachingClient, CachingOptions
from optimizely_api.upstream.calls import Call, Page
from optimizely_api.upstream.client import CallContext
from optimizely_api.upstream.errors import UpstreamError, UpstreamTimeout
from optimizely_api.upstream.responses import Computing
from tests.upstream.versioned_service import FakeClock, caching_client, versioned

PROJECT = calls.get_project(1)
EXPERIMENT = calls.get_experiment(1)
LAYER = calls.get_layer(1)
RESULTS = calls.compute_results(1, {"metrics": []})
PERIOD = 300


def context(seconds=5.0):
    return CallContext("8f14e45f-ceea-467f-a0e6-0c1f7d6a0001", time.monotonic() + seconds)


def write(path, upstream="experiments", method="PATCH"):
    return Call(upstream, path, "Experiment", method=method, body={"id": 1, "name": "new"})


class Fixture:
    """A client, the service behind it, and the clock of both caches."""

    def __init__(self, service, clock, client):
        self.service, self.clock, self.client = service, clock, client

    async def fetch(self, call):
        return await self.client.fetch(call, context())


@pytest.fixture
async def make():
    """A function that opens a client with caching options of its own."""
    async with versioned() as service:
        for path in ("/projects/1", "/experiments/1", "/layers/1", "/events/1"):
            service.entities[path] = {"id": 1}
        service.entities["/results/1"] = {"experiment_id": 1}
        clock, clients = FakeClock(), []

        async def opened(seconds=5.0, **caching):
            caching = CachingOptions(**{"results_seconds": 1.0, **caching}, clock=clock.clock)
            clients.append(caching_client(service.url, caching, seconds=seconds))
            return Fixture(service, clock, await clients[-1].__aenter__())

        yield opened
        for client in clients:
            await client.__aexit__(None, None, None)


@pytest.fixture
async def fixture(make):
    return await make()


# Definitions


@pytest.mark.parametrize("call", [PROJECT, EXPERIMENT, LAYER], ids=lambda call: call.expects)
async def test_a_definition_is_fetched_once_and_is_the_same_object_each_time(fixture, call):
    values = [await fixture.fetch(call) for _ in range(5)]
    assert all(value is values[0] for value in values)
    assert len(fixture.service.seen) == 1


async def test_the_meaning_of_a_404_makes_no_difference_to_a_200(fixture):
    assert await fixture.fetch(PROJECT) is await fixture.fetch(dataclasses.replace(PROJECT, entity=""))


async def test_it_is_never_older_than_its_bound(fixture):
    await fixture.fetch(PROJECT)
    fixture.service.entities["/projects/1"] = {"id": 1, "name": "new"}
    fixture.clock.go_on(4.99)
    assert "name" not in await fixture.fetch(PROJECT)
    fixture.clock.go_on(0.01)
    assert (await fixture.fetch(PROJECT))["name"] == "new"


async def test_the_age_counts_from_the_time_the_call_is_sent_however_late_the_response(fixture):
    fixture.service.open.clear()
    slow = asyncio.create_task(fixture.fetch(PROJECT))
    await fixture.service.until(inside=1)
    fixture.service.entities["/projects/1"] = {"id": 1, "name": "new"}
    fixture.clock.go_on(5)
    fixture.service.open.set()
    assert "name" not in await slow
    assert (await fixture.fetch(PROJECT))["name"] == "new"


async def test_a_stale_value_is_confirmed_by_its_tag_and_stays_the_same_object(fixture):
    value = await fixture.fetch(PROJECT)
    for _ in range(3):
        fixture.clock.go_on(5)
        assert await fixture.fetch(PROJECT) is value
        assert await fixture.fetch(PROJECT) is value
    assert fixture.service.confirmed == [False, True, True, True]


async def test_a_stale_value_without_a_tag_is_fetched_again(fixture):
    fixture.service.gives_tags = False
    await fixture.fetch(PROJECT)
    fixture.clock.go_on(5)
    await fixture.fetch(PROJECT)
    assert fixture.service.confirmed == [False, False]


async def test_many_requests_that_find_a_stale_value_confirm_it_once(fixture):
    value = await fixture.fetch(PROJECT)
    fixture.clock.go_on(5)
    assert all(
        other is value for other in await asyncio.gather(*(fixture.fetch(PROJECT) for _ in range(100)))
    )
    assert fixture.service.confirmed == [False, True]


FAILURES = [404, 500, 503, 302, 304, 400]


@pytest.mark.parametrize("status", FAILURES)
async def test_an_error_is_never_cached(fixture, status):
    fixture.service.instead = status
    for _ in range(2):
        with pytest.raises(UpstreamError):
            await fixture.fetch(PROJECT)
    fixture.service.instead = None
    assert await fixture.fetch(PROJECT) == {"id": 1}
    assert len(fixture.service.seen) == 3


@pytest.mark.parametrize("status", [404, 500, 503, 302])
async def test_a_stale_value_never_replaces_an_error(fixture, status):
    await fixture.fetch(PROJECT)
    fixture.clock.go_on(5)
    fixture.service.instead = status
    with pytest.raises(UpstreamError):
        await fixture.fetch(PROJECT)


async def test_an_unrequested_304_does_not_confirm_a_stale_value_without_a_tag(fixture):
    fixture.service.gives_tags = False
    await fixture.fetch(PROJECT)
    fixture.clock.go_on(5)
    fixture.service.instead = 304
    with pytest.raises(UpstreamError, match="status 304"):
        await fixture.fetch(PROJECT)


async def test_a_stale_value_never_replaces_a_timeout(make):
    fixture = await make(seconds=0.1)
    await fixture.fetch(PROJECT)
    fixture.clock.go_on(5)
    fixture.service.open.clear()
    with pytest.raises(UpstreamTimeout):
        await fixture.fetch(PROJECT)


async def test_a_response_with_a_wrong_shape_is_never_cached(fixture):
    fixture.service.entities["/projects/1"] = {"off": 1}
    for _ in range(2):
        with pytest.raises(UpstreamError, match="not as agreed"):
            await fixture.fetch(PROJECT)
    assert fixture.service.confirmed == [False, False]


@pytest.mark.parametrize(
    "call",
    [calls.identify("ab"), calls.check_health("projects"), calls.list_experiments(1, Page(1, 10))],
    ids=["a token", "health", "a list"],
)
async def test_responses_other_than_definitions_are_fetched_each_time(fixture, call):
    fixture.service.entities[call.path] = {"items": []} if call.expects.endswith("List") else dict(call.about)
    for _ in range(2):
        await fixture.fetch(call)
    assert len(fixture.service.seen) == 2


@pytest.mark.parametrize("off", [{"definition_seconds": 0.0}, {"definition_bytes": 0}])
async def test_definitions_are_not_cached_when_that_is_off(make, off):
    fixture = await make(**off)
    for _ in range(2):
        await fixture.fetch(PROJECT)
    assert fixture.service.confirmed == [False, False]


async def test_with_everything_off_every_call_is_made(make):
    fixture = await make(coalesce=False, definition_seconds=0, results_bytes=0)
    first, second = await asyncio.gather(fixture.fetch(PROJECT), fixture.fetch(PROJECT))
    assert first == second == await fixture.fetch(PROJECT)
    assert fixture.service.calls == ["GET /projects/1"] * 3
    assert fixture.service.confirmed == [False] * 3


async def test_of_calls_sent_together_only_the_uncached_are_made_and_values_come_in_order(fixture):
    experiment = await fixture.fetch(EXPERIMENT)
    values = await fixture.client.fetch_all([EXPERIMENT, PROJECT, EXPERIMENT, LAYER], context())
    assert values[0] is values[2] is experiment
    assert sorted(fixture.service.calls) == ["GET /experiments/1", "GET /layers/1", "GET /projects/1"]


async def test_calls_sent_together_that_are_all_cached_need_no_task(fixture, monkeypatch):
    values = await fixture.client.fetch_all([EXPERIMENT, PROJECT], context())
    monkeypatch.setattr(fixture.client, "fetch", None)
    again = await fixture.client.fetch_all([EXPERIMENT, PROJECT], context())
    assert all(one is other for one, other in zip(values, again, strict=True))


async def test_a_cached_value_is_returned_even_after_the_deadline(fixture):
    value = await fixture.fetch(PROJECT)
    late = context(seconds=-1)
    assert await fixture.client.fetch(PROJECT, late) is value
    assert late.durations_ms == {}


# Writes


async def test_a_writer_reads_its_own_write_at_once(fixture):
    await fixture.fetch(EXPERIMENT)
    await fixture.fetch(write("/experiments/1"))
    assert (await fixture.fetch(EXPERIMENT))["name"] == "new"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
async def test_every_unsafe_method_is_a_write(fixture, method):
    await fixture.fetch(EXPERIMENT)
    fixture.service.entities["/experiments/1"] = {"id": 1, "by": method}
    await fixture.fetch(write("/experiments/1", method=method))
    assert (await fixture.fetch(EXPERIMENT)).get("by", method) == method
    assert len(fixture.service.seen) == 3


@pytest.mark.parametrize("status", [500, 503, 404])
async def test_a_write_that_failed_counts_as_made(fixture, status):
    await fixture.fetch(EXPERIMENT)
    fixture.service.instead = status
    with pytest.raises(UpstreamError):
        await fixture.fetch(write("/experiments/1"))
    fixture.service.instead = None
    await fixture.fetch(EXPERIMENT)
    assert len(fixture.service.seen) == 3


async def test_a_cancelled_write_counts_as_made(fixture):
    await fixture.fetch(EXPERIMENT)
    fixture.service.open.clear()
    writing = asyncio.create_task(fixture.fetch(write("/experiments/1")))
    await fixture.service.until(inside=1)
    writing.cancel()
    await asyncio.wait([writing])
    fixture.service.open.set()
    await fixture.fetch(EXPERIMENT)
    assert len(fixture.service.seen) == 3


async def test_a_write_invalidates_the_entities_that_show_it(fixture):
    await fixture.fetch(LAYER)
    await fixture.fetch(write("/experiments/1"))
    await fixture.fetch(LAYER)
    assert fixture.service.calls.count("GET /layers/1") == 2


async def test_a_write_leaves_other_entities_cached(fixture):
    for call in (PROJECT, EXPERIMENT):
        await fixture.fetch(call)
    await fixture.fetch(write("/experiments/2"))
    for call in (PROJECT, EXPERIMENT):
        await fixture.fetch(call)
    assert len(fixture.service.seen) == 3


async def test_a_response_to_a_call_from_before_a_write_is_not_cached(fixture):
    fixture.service.open.clear()
    reading = asyncio.create_task(fixture.fetch(EXPERIMENT))
    await fixture.service.until(inside=1)
    fixture.service.instead = 503
    fixture.client.generations.advance(write("/experiments/1"))
    fixture.service.instead = None
    fixture.service.entities["/experiments/1"] = {"id": 1, "name": "new"}
    fixture.service.open.set()
    assert "name" not in await reading
    assert (await fixture.fetch(EXPERIMENT))["name"] == "new"


# Results


async def test_results_are_fetched_once_a_second(fixture):
    value = await fixture.fetch(RESULTS)
    fixture.clock.go_on(0.99)
    assert await fixture.fetch(RESULTS) is value
    fixture.service.entities["/results/1"] = {"experiment_id": 1, "new": True}
    fixture.clock.go_on(0.01)
    assert await fixture.fetch(RESULTS) == {"experiment_id": 1, "new": True}


async def test_stale_results_are_confirmed_by_their_tag(fixture):
    value = await fixture.fetch(RESULTS)
    fixture.clock.go_on(1)
    assert await fixture.fetch(RESULTS) is value
    assert fixture.service.confirmed == [False, True]


async def test_results_can_be_confirmed_each_time(make):
    fixture = await make(results_seconds=0.0)
    value = await fixture.fetch(RESULTS)
    assert await fixture.fetch(RESULTS) is value
    assert fixture.service.confirmed == [False, True]


async def test_results_are_never_fresh_beyond_their_five_minutes(make):
    fixture = await make(results_seconds=600.0)
    fixture.clock.seconds = 10_000 * PERIOD - 0.25
    await fixture.fetch(RESULTS)
    fixture.clock.go_on(0.2)
    await fixture.fetch(RESULTS)
    assert len(fixture.service.seen) == 1
    fixture.clock.go_on(0.05)
    await fixture.fetch(RESULTS)
    assert len(fixture.service.seen) == 2


async def test_another_question_has_other_results(fixture):
    await fixture.fetch(RESULTS)
    fixture.service.entities["/results/1"] = {"experiment_id": 1, "started": "another"}
    assert "started" in await fixture.fetch(calls.compute_results(1, {"metrics": [], "segment": {}}))


@pytest.mark.parametrize(("status", "value"), [(204, None), (202, Computing())])
async def test_no_data_and_results_not_ready_are_never_cached(fixture, status, value):
    fixture.service.instead = status
    for _ in range(2):
        assert await fixture.fetch(RESULTS) == value
    fixture.service.instead = None
    assert await fixture.fetch(RESULTS) == {"experiment_id": 1}


async def test_computing_results_is_no_write(fixture):
    await fixture.fetch(RESULTS)
    await fixture.fetch(calls.compute_results(1, {"metrics": [1]}))
    await fixture.fetch(RESULTS)
    assert len(fixture.service.seen) == 2


async def test_results_are_not_cached_when_that_is_off(make):
    fixture = await make(results_bytes=0)
    for _ in range(2):
        await fixture.fetch(RESULTS)
    assert fixture.service.confirmed == [False, False]


# Bounds, under everything at once


@pytest.mark.parametrize("requests", [5_000, pytest.param(40_000, marks=pytest.mark.whole)])
async def test_under_churn_memory_and_age_stay_within_their_bounds(requests):
    """Every entity has a version: a value must not be older than the bound allows, nor than the last write."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance, bound, room = random.Random(seed), 0.05, 600_000
    ended: dict[str, float] = {}  # the end of each version of each entity
    async with versioned() as service:
        # Not coalesced: a shared call may have been sent a little before a request joined it.
        caching = CachingOptions(
            coalesce=False,
            definition_seconds=bound,
            definition_bytes=room,
            results_seconds=bound,
            results_bytes=room,
        )
        async with caching_client(service.url, caching) as client:
            largest = dict.fromkeys(client.caches, 0)

            def change(path):
                known = service.entities.get(path, {"version": 0})
                ended[f"{path} {known['version']}"] = time.monotonic()
                filler = "x" * chance.randrange(2000)
                number = int(path.rpartition("/")[2])
                service.entities[path] = {
                    "id": number,
                    "experiment_id": number,
                    "version": known["version"] + 1,
                    "filler": filler,
                }

            async def one_request():
                number = min(int(chance.expovariate(0.04)), 400)
                call = chance.choice(
                    [
                        calls.get_experiment(number),
                        calls.get_project(number),
                        calls.compute_results(number, {"n": 1}),
                    ]
                )
                if call.path not in service.entities or chance.random() < 0.02:
                    change(call.path)
                started = time.monotonic()
                value = await client.fetch(call, context())
                gone = ended.get(f"{call.path} {value['version']}")
                assert gone is None or started - gone < bound
                for name, cache in client.caches.items():
                    largest[name] = max(largest[name], cache.size)

            async def caller(numbers):
                for _ in numbers:
                    await one_request()

            numbers = iter(range(requests))
            async with asyncio.TaskGroup() as group:
                for _ in range(20):
                    group.create_task(caller(numbers))
            entries = {name: len(cache) for name, cache in client.caches.items()}
    print(
        f"{len(service.seen)} calls, {sum(service.confirmed)} of them to confirm; at most {largest} bytes, {entries}"
    )
    assert all(room / 2 < largest[name] <= room for name in ("definition", "results"))
    assert requests / 100 < len(service.seen) < requests * 0.9
    assert any(service.confirmed)
    assert isinstance(client, CachingClient)
