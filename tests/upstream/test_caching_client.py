"""What is kept of the services' answers, for how long, and what is never seen of it."""

import asyncio
import dataclasses
import random
import time

import pytest

from optimizely_api.upstream import calls
from optimizely_api.upstream.caching.caching_client import Saving, SavingClient
from optimizely_api.upstream.calls import Call, Page
from optimizely_api.upstream.client import Scope
from optimizely_api.upstream.errors import UpstreamError, UpstreamTimeout
from optimizely_api.upstream.responses import COMPUTING
from tests.upstream.versioned_service import FakeClock, saving_client, versioned

PROJECT = calls.get_project(1)
EXPERIMENT = calls.get_experiment(1)
LAYER = calls.get_layer(1)
RESULTS = calls.compute_results(1, {"metrics": []})
SLOT = 300


def scope(seconds=5.0):
    return Scope("8f14e45f-ceea-467f-a0e6-0c1f7d6a0001", time.monotonic() + seconds)


def write(path, upstream="experiments", method="PATCH"):
    return Call(upstream, path, "Experiment", method=method, body={"id": 1, "name": "new"})


class World:
    """A client, the service behind it, and the clock that both caches go by."""

    def __init__(self, service, clock, client):
        self.service, self.clock, self.client = service, clock, client

    async def fetch(self, call):
        return await self.client.fetch(call, scope())


@pytest.fixture
async def make():
    """A function that opens a client with a Saving of its own."""
    async with versioned() as service:
        for path in ("/projects/1", "/experiments/1", "/layers/1", "/events/1"):
            service.entities[path] = {"id": 1}
        service.entities["/results/1"] = {"experiment_id": 1}
        clock, clients = FakeClock(), []

        async def opened(seconds=5.0, **saving):
            saving = Saving(**{"results_seconds": 1.0, **saving}, clock=clock.clock)
            clients.append(saving_client(service.url, saving, seconds=seconds))
            return World(service, clock, await clients[-1].__aenter__())

        yield opened
        for client in clients:
            await client.__aexit__(None, None, None)


@pytest.fixture
async def world(make):
    return await make()


# Definitions


@pytest.mark.parametrize(
    "call", [PROJECT, EXPERIMENT, LAYER, calls.get_event(1)], ids=lambda call: call.expects
)
async def test_a_definition_is_asked_for_once_and_is_the_same_object_each_time(world, call):
    values = [await world.fetch(call) for _ in range(5)]
    assert all(value is values[0] for value in values)
    assert len(world.service.seen) == 1


async def test_what_a_404_would_mean_makes_no_difference_to_a_good_answer(world):
    assert await world.fetch(PROJECT) is await world.fetch(dataclasses.replace(PROJECT, entity=""))


async def test_it_is_never_older_than_its_bound(world):
    await world.fetch(PROJECT)
    world.service.entities["/projects/1"] = {"id": 1, "name": "new"}
    world.clock.go_on(4.99)
    assert "name" not in await world.fetch(PROJECT)
    world.clock.go_on(0.01)
    assert (await world.fetch(PROJECT))["name"] == "new"


async def test_the_age_begins_when_the_call_is_sent_however_late_the_answer_comes(world):
    world.service.open.clear()
    slow = asyncio.create_task(world.fetch(PROJECT))
    await world.service.until(inside=1)
    world.service.entities["/projects/1"] = {"id": 1, "name": "new"}
    world.clock.go_on(5)
    world.service.open.set()
    assert "name" not in await slow
    assert (await world.fetch(PROJECT))["name"] == "new"


async def test_an_old_one_is_confirmed_by_its_tag_and_stays_the_same_object(world):
    value = await world.fetch(PROJECT)
    for _ in range(3):
        world.clock.go_on(5)
        assert await world.fetch(PROJECT) is value
        assert await world.fetch(PROJECT) is value
    assert world.service.confirmed == [False, True, True, True]


async def test_an_old_one_without_a_tag_is_asked_for_whole(world):
    world.service.gives_tags = False
    await world.fetch(PROJECT)
    world.clock.go_on(5)
    await world.fetch(PROJECT)
    assert world.service.confirmed == [False, False]


async def test_many_who_find_an_old_one_have_it_confirmed_once(world):
    value = await world.fetch(PROJECT)
    world.clock.go_on(5)
    assert all(other is value for other in await asyncio.gather(*(world.fetch(PROJECT) for _ in range(100))))
    assert world.service.confirmed == [False, True]


FAILURES = [404, 500, 503, 302, 304, 400]


@pytest.mark.parametrize("status", FAILURES)
async def test_an_error_is_never_kept(world, status):
    world.service.instead = status
    for _ in range(2):
        with pytest.raises(UpstreamError):
            await world.fetch(PROJECT)
    world.service.instead = None
    assert await world.fetch(PROJECT) == {"id": 1}
    assert len(world.service.seen) == 3


@pytest.mark.parametrize("status", [404, 500, 503, 302])
async def test_an_old_one_never_stands_in_for_an_error(world, status):
    await world.fetch(PROJECT)
    world.clock.go_on(5)
    world.service.instead = status
    with pytest.raises(UpstreamError):
        await world.fetch(PROJECT)


async def test_an_old_one_without_a_tag_is_not_confirmed_by_a_304_that_nobody_asked_for(world):
    world.service.gives_tags = False
    await world.fetch(PROJECT)
    world.clock.go_on(5)
    world.service.instead = 304
    with pytest.raises(UpstreamError, match="status 304"):
        await world.fetch(PROJECT)


async def test_an_old_one_never_stands_in_for_a_late_service(make):
    world = await make(seconds=0.1)
    await world.fetch(PROJECT)
    world.clock.go_on(5)
    world.service.open.clear()
    with pytest.raises(UpstreamTimeout):
        await world.fetch(PROJECT)


async def test_an_answer_off_its_shape_is_never_kept(world):
    world.service.entities["/projects/1"] = {"off": 1}
    for _ in range(2):
        with pytest.raises(UpstreamError, match="not as agreed"):
            await world.fetch(PROJECT)
    assert world.service.confirmed == [False, False]


@pytest.mark.parametrize(
    "call",
    [calls.identify("ab"), calls.check_health("projects"), calls.list_experiments(1, Page(1, 10))],
    ids=["a token", "health", "a list"],
)
async def test_what_is_no_definition_is_asked_for_each_time(world, call):
    world.service.entities[call.path] = {"items": []} if call.expects.endswith("List") else dict(call.about)
    for _ in range(2):
        await world.fetch(call)
    assert len(world.service.seen) == 2


@pytest.mark.parametrize("off", [{"definition_seconds": 0.0}, {"definition_bytes": 0}])
async def test_definitions_are_not_kept_when_that_is_off(make, off):
    world = await make(**off)
    for _ in range(2):
        await world.fetch(PROJECT)
    assert world.service.confirmed == [False, False]


async def test_with_everything_off_every_call_is_made(make):
    world = await make(coalesce=False, definition_seconds=0, results_bytes=0)
    first, second = await asyncio.gather(world.fetch(PROJECT), world.fetch(PROJECT))
    assert first == second == await world.fetch(PROJECT)
    assert world.service.calls == ["GET /projects/1"] * 3
    assert world.service.confirmed == [False] * 3


async def test_calls_sent_together_are_made_for_what_is_not_kept_and_come_in_their_order(world):
    experiment = await world.fetch(EXPERIMENT)
    values = await world.client.fetch_all([EXPERIMENT, PROJECT, EXPERIMENT, LAYER], scope())
    assert values[0] is values[2] is experiment
    assert sorted(world.service.calls) == ["GET /experiments/1", "GET /layers/1", "GET /projects/1"]


async def test_calls_sent_together_that_are_all_kept_need_no_task(world, monkeypatch):
    values = await world.client.fetch_all([EXPERIMENT, PROJECT], scope())
    monkeypatch.setattr(world.client, "fetch", None)
    again = await world.client.fetch_all([EXPERIMENT, PROJECT], scope())
    assert all(one is other for one, other in zip(values, again, strict=True))


async def test_what_is_kept_is_there_without_time_to_ask_for_it(world):
    value = await world.fetch(PROJECT)
    late = scope(seconds=-1)
    assert await world.client.fetch(PROJECT, late) is value
    assert late.durations_ms == {}


# Writes


async def test_a_writer_sees_what_he_wrote_at_once(world):
    await world.fetch(EXPERIMENT)
    await world.fetch(write("/experiments/1"))
    assert (await world.fetch(EXPERIMENT))["name"] == "new"


@pytest.mark.parametrize("method", ["PUT", "DELETE", "POST"])
async def test_whatever_is_not_safe_is_a_write(world, method):
    await world.fetch(EXPERIMENT)
    world.service.entities["/experiments/1"] = {"id": 1, "by": method}
    await world.fetch(write("/experiments/1", method=method))
    assert (await world.fetch(EXPERIMENT)).get("by", method) == method
    assert len(world.service.seen) == 3


@pytest.mark.parametrize("status", [500, 503, 404])
async def test_a_write_that_failed_counts_as_made(world, status):
    await world.fetch(EXPERIMENT)
    world.service.instead = status
    with pytest.raises(UpstreamError):
        await world.fetch(write("/experiments/1"))
    world.service.instead = None
    await world.fetch(EXPERIMENT)
    assert len(world.service.seen) == 3


async def test_a_write_whose_answer_nobody_waited_for_counts_as_made(world):
    await world.fetch(EXPERIMENT)
    world.service.open.clear()
    writing = asyncio.create_task(world.fetch(write("/experiments/1")))
    await world.service.until(inside=1)
    writing.cancel()
    await asyncio.wait([writing])
    world.service.open.set()
    await world.fetch(EXPERIMENT)
    assert len(world.service.seen) == 3


async def test_a_write_changes_what_shows_it(world):
    await world.fetch(LAYER)
    await world.fetch(write("/experiments/1"))
    await world.fetch(LAYER)
    assert world.service.calls.count("GET /layers/1") == 2


async def test_a_write_leaves_the_rest_alone(world):
    for call in (PROJECT, EXPERIMENT):
        await world.fetch(call)
    await world.fetch(write("/experiments/2"))
    for call in (PROJECT, EXPERIMENT):
        await world.fetch(call)
    assert len(world.service.seen) == 3


async def test_what_was_asked_for_before_a_write_and_comes_after_it_is_not_kept(world):
    world.service.open.clear()
    reading = asyncio.create_task(world.fetch(EXPERIMENT))
    await world.service.until(inside=1)
    world.service.instead = 503
    world.client.stamps.change(write("/experiments/1"))
    world.service.instead = None
    world.service.entities["/experiments/1"] = {"id": 1, "name": "new"}
    world.service.open.set()
    assert "name" not in await reading
    assert (await world.fetch(EXPERIMENT))["name"] == "new"


# Results


async def test_results_are_asked_for_once_a_second(world):
    value = await world.fetch(RESULTS)
    world.clock.go_on(0.99)
    assert await world.fetch(RESULTS) is value
    world.service.entities["/results/1"] = {"experiment_id": 1, "new": True}
    world.clock.go_on(0.01)
    assert await world.fetch(RESULTS) == {"experiment_id": 1, "new": True}


async def test_old_results_are_confirmed_by_their_tag(world):
    value = await world.fetch(RESULTS)
    world.clock.go_on(1)
    assert await world.fetch(RESULTS) is value
    assert world.service.confirmed == [False, True]


async def test_results_can_be_confirmed_each_time(make):
    world = await make(results_seconds=0.0)
    value = await world.fetch(RESULTS)
    assert await world.fetch(RESULTS) is value
    assert world.service.confirmed == [False, True]


async def test_results_are_never_trusted_beyond_their_five_minutes(make):
    world = await make(results_seconds=600.0)
    world.clock.seconds = 10_000 * SLOT - 0.25
    await world.fetch(RESULTS)
    world.clock.go_on(0.2)
    await world.fetch(RESULTS)
    assert len(world.service.seen) == 1
    world.clock.go_on(0.05)
    await world.fetch(RESULTS)
    assert len(world.service.seen) == 2


async def test_another_question_has_another_answer(world):
    await world.fetch(RESULTS)
    world.service.entities["/results/1"] = {"experiment_id": 1, "asked": "another"}
    assert "asked" in await world.fetch(calls.compute_results(1, {"metrics": [], "segment": {}}))


@pytest.mark.parametrize(("status", "value"), [(204, None), (202, COMPUTING)])
async def test_no_data_and_results_not_ready_are_never_kept(world, status, value):
    world.service.instead = status
    for _ in range(2):
        assert await world.fetch(RESULTS) is value
    world.service.instead = None
    assert await world.fetch(RESULTS) == {"experiment_id": 1}


async def test_asking_for_results_is_no_write(world):
    await world.fetch(RESULTS)
    await world.fetch(calls.compute_results(1, {"metrics": [1]}))
    await world.fetch(RESULTS)
    assert len(world.service.seen) == 2


async def test_results_are_not_kept_when_that_is_off(make):
    world = await make(results_bytes=0)
    for _ in range(2):
        await world.fetch(RESULTS)
    assert world.service.confirmed == [False, False]


# Bounds, under everything at once


@pytest.mark.parametrize("requests", [5_000, pytest.param(40_000, marks=pytest.mark.slow)])
async def test_under_churn_memory_and_age_stay_within_their_bounds(requests):
    """Every entity says when it was last changed: an answer must not be of before its bound, or of before a write."""
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance, bound, room = random.Random(seed), 0.05, 600_000
    ended: dict[str, float] = {}  # until when each entity was as it said it was
    async with versioned() as service:
        # Not coalesced: what is shared may have been asked for a little before the one who shares it asked.
        saving = Saving(
            coalesce=False,
            definition_seconds=bound,
            definition_bytes=room,
            results_seconds=bound,
            results_bytes=room,
        )
        async with saving_client(service.url, saving) as client:
            largest = dict.fromkeys(client.shelves, 0)

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
                asked = time.monotonic()
                value = await client.fetch(call, scope())
                gone = ended.get(f"{call.path} {value['version']}")
                assert gone is None or asked - gone < bound
                for name, shelf in client.shelves.items():
                    largest[name] = max(largest[name], shelf.size)

            async def caller(numbers):
                for _ in numbers:
                    await one_request()

            numbers = iter(range(requests))
            async with asyncio.TaskGroup() as group:
                for _ in range(20):
                    group.create_task(caller(numbers))
            kept = {name: len(shelf) for name, shelf in client.shelves.items()}
    print(
        f"{len(service.seen)} calls, {sum(service.confirmed)} of them to confirm; at most {largest} bytes, {kept}"
    )
    assert all(room / 2 < most <= room for most in largest.values())
    assert requests / 100 < len(service.seen) < requests * 0.9
    assert any(service.confirmed)
    assert isinstance(client, SavingClient)
