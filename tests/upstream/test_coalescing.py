"""Coalescing: identical calls at the same time are made once, and no request is worse off than alone."""

import asyncio
import contextvars
import dataclasses
import gc
import random
import time

import aiohttp
import pytest

from optimizely_api.upstream import calls
from optimizely_api.upstream.caching.caching_client import CachingOptions
from optimizely_api.upstream.caching.coalescing import PendingCall, Waiter
from optimizely_api.upstream.calls import Call
from optimizely_api.upstream.client import CallContext
from optimizely_api.upstream.errors import BadUpstreamResponse, EntityNotFound, NeverSent, UpstreamTimeout
from optimizely_api.upstream.resilience.throttle import SILENT_ATTEMPTS
from tests.upstream.scripted_service import CLOSE, OK, scripted
from tests.upstream.versioned_service import FakeClock, caching_client, versioned

READ = dataclasses.replace(calls.get_project(1), cached_as="")
OTHER = dataclasses.replace(calls.get_project(2), cached_as="")
WRITE = Call("projects", "/projects/1", "Project", method="PATCH", body={"id": 1, "name": "new"})
# Calls about results are shared only where results may be some seconds old.
ONLY_SHARED = CachingOptions(definition_bytes=0, results_bytes=0, results_seconds=1.0)


def context(seconds=5.0):
    return CallContext("8f14e45f-ceea-467f-a0e6-0c1f7d6a0001", time.monotonic() + seconds)


@pytest.fixture
async def service():
    async with versioned() as service:
        service.entities = {"/projects/1": {"id": 1}, "/projects/2": {"id": 2}}
        yield service


@pytest.fixture
async def client(service):
    async with caching_client(service.url, ONLY_SHARED) as client:
        yield client
        assert client.shared_calls == {}


def start_fetch(client, call=READ, seconds=5.0):
    return asyncio.create_task(client.fetch(call, context(seconds)))


async def test_a_thousand_identical_calls_are_one(client, service):
    service.open.clear()
    waiting = [start_fetch(client) for _ in range(1000)]
    await service.until(inside=1)
    service.open.set()
    values = await asyncio.gather(*waiting)
    assert service.calls == ["GET /projects/1"]
    assert all(value is values[0] for value in values)
    assert values[0] == {"id": 1}


async def test_a_request_after_the_response_makes_a_new_call(client, service):
    await client.fetch(READ, context())
    service.entities["/projects/1"] = {"id": 1, "name": "new"}
    assert (await client.fetch(READ, context()))["name"] == "new"


@pytest.mark.parametrize(
    "part",
    [
        {"path": "/projects/2", "about": (("id", 2),)},
        {"upstream": "experiments"},
        {"query": (("page", "2"),)},
        {"body": {"a": 1}, "changes_nothing": True, "method": "POST"},
        {"expects": "Experiment"},
        {"entity": ""},
    ],
    ids=lambda part: next(iter(part)),
)
async def test_calls_that_differ_in_anything_are_made_apart(client, service, part):
    service.open.clear()
    waiting = [start_fetch(client), start_fetch(client, dataclasses.replace(READ, **part))]
    await service.until(inside=2)
    service.open.set()
    await asyncio.gather(*waiting)


async def test_calls_with_different_bodies_are_made_apart(client, service):
    service.entities["/results/1"] = {"experiment_id": 1}
    service.open.clear()
    waiting = [start_fetch(client, calls.compute_results(1, {"n": number % 2})) for number in range(10)]
    await service.until(inside=2)
    service.open.set()
    await asyncio.gather(*waiting)
    assert len(service.seen) == 2


async def test_calls_for_results_are_made_apart_when_results_may_not_be_old(service):
    service.entities["/results/1"] = {"experiment_id": 1}
    service.open.clear()
    async with caching_client(service.url, CachingOptions(results_seconds=0.0)) as client:
        waiting = [start_fetch(client, calls.compute_results(1, {})) for _ in range(3)]
        await service.until(inside=3)
        service.open.set()
        await asyncio.gather(*waiting)


async def test_a_write_is_never_shared(client, service):
    service.open.clear()
    waiting = [start_fetch(client, WRITE) for _ in range(3)]
    await service.until(inside=3)
    service.open.set()
    await asyncio.gather(*waiting)


async def test_nothing_is_shared_when_it_is_off(service):
    service.open.clear()
    async with caching_client(service.url, CachingOptions(coalesce=False)) as client:
        waiting = [start_fetch(client) for _ in range(3)]
        await service.until(inside=3)
        service.open.set()
        await asyncio.gather(*waiting)


async def test_each_waiter_has_its_own_deadline_and_the_call_goes_on_for_the_others(client, service):
    service.open.clear()
    hasty, patient = start_fetch(client, seconds=0.05), start_fetch(client)
    with pytest.raises(UpstreamTimeout, match=r"within 0\.0[45]\d* seconds"):
        await hasty
    assert not patient.done()
    service.open.set()
    assert await patient == {"id": 1}
    assert (len(service.seen), service.cancelled) == (1, 0)


async def test_a_waiter_that_joins_late_has_its_own_limit(service):
    service.open.clear()
    async with caching_client(service.url, ONLY_SHARED, seconds=0.4) as client:
        first = start_fetch(client)
        await service.until(inside=1)
        await asyncio.sleep(0.2)
        joined = time.monotonic()
        late = start_fetch(client)
        with pytest.raises(UpstreamTimeout):
            await first
        with pytest.raises(UpstreamTimeout):
            await late
        assert time.monotonic() - joined >= 0.39
        assert len(service.seen) == 1


async def test_a_call_past_its_time_limit_is_not_joined(service):
    clock = FakeClock()
    service.open.clear()
    async with caching_client(service.url, dataclasses.replace(ONLY_SHARED, clock=clock.clock)) as client:
        lost = start_fetch(client)
        await service.until(inside=1)
        clock.go_on(5.0)
        found = start_fetch(client)
        await service.until(inside=2)
        service.open.set()
        assert await asyncio.gather(lost, found) == [{"id": 1}] * 2
        assert client.shared_calls == {}


async def test_a_call_past_its_time_limit_counts_as_a_failure_once_though_others_wait_on(service):
    service.open.clear()
    async with caching_client(service.url, ONLY_SHARED, seconds=0.3) as client:
        throttle = client.policies["projects"].throttle
        first = start_fetch(client)
        await service.until(inside=1)
        await asyncio.sleep(0.1)
        second = start_fetch(client)
        with pytest.raises(UpstreamTimeout):
            await first
        assert throttle._bad == 1
        with pytest.raises(UpstreamTimeout):
            await second
        assert throttle._bad == 1


async def test_a_call_to_a_silent_service_is_not_joined(service, monkeypatch):
    service.open.clear()
    async with caching_client(service.url, ONLY_SHARED) as client:
        policies = client.policies["projects"]
        monkeypatch.setattr(policies.timing.chance, "random", lambda: 0.0)
        for _ in range(SILENT_ATTEMPTS):
            policies.throttle.failed(3.0)
        probe = start_fetch(client)
        await service.until(inside=1)
        with pytest.raises(NeverSent):
            await start_fetch(client)
        service.open.set()
        assert await probe == {"id": 1}


async def test_a_call_that_ends_leaves_the_call_after_it_joinable(service):
    clock = FakeClock()
    service.open.clear()
    async with caching_client(service.url, dataclasses.replace(ONLY_SHARED, clock=clock.clock)) as client:
        lost = start_fetch(client)
        await service.until(inside=1)
        clock.go_on(5.0)
        found = start_fetch(client)
        await service.until(inside=2)
        lost.cancel()
        await service.until(inside=1)
        joined = start_fetch(client)
        service.open.set()
        assert await found is await joined
        assert len(service.seen) == 2


async def test_a_waiter_that_leaves_changes_nothing_for_the_others(client, service):
    service.open.clear()
    leaving, staying = start_fetch(client), start_fetch(client)
    await service.until(inside=1)
    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    service.open.set()
    assert await staying == {"id": 1}
    assert service.cancelled == 0


async def test_the_last_waiter_that_leaves_cancels_the_call(client, service):
    await client.fetch(READ, context())  # opens a connection
    service.open.clear()
    leaving = [start_fetch(client), start_fetch(client)]
    await service.until(inside=1)
    for task in leaving:
        task.cancel()
    assert all(
        isinstance(one, asyncio.CancelledError)
        for one in await asyncio.gather(*leaving, return_exceptions=True)
    )
    await service.until(inside=0)
    assert service.cancelled == 1


async def test_a_request_after_the_last_waiter_left_makes_a_new_call(client, service):
    service.open.clear()
    leaving = start_fetch(client)
    await service.until(inside=1)
    leaving.cancel()
    coming = start_fetch(client)
    service.open.set()
    assert await coming == {"id": 1}


async def test_leaving_while_waiting_for_a_connection_frees_its_place(service):
    service.open.clear()
    async with caching_client(service.url, ONLY_SHARED, connections=1) as client:
        holding, leaving, staying = (
            start_fetch(client),
            start_fetch(client, OTHER),
            start_fetch(client, OTHER),
        )
        await service.until(inside=1)
        leaving.cancel()
        service.open.set()
        assert await holding == {"id": 1}
        assert await staying == {"id": 2}


async def test_callers_who_leave_together_leave_their_connection_to_the_next(service):
    """The second has been given the connection of the first by then, and does not use it."""
    service.entities["/projects/3"] = {"id": 3}
    async with caching_client(service.url, ONLY_SHARED, connections=1) as client:
        await start_fetch(client)  # from now on the connection is there
        service.open.clear()
        leaving = [start_fetch(client), start_fetch(client, OTHER)]
        await service.until(inside=1)
        staying = start_fetch(client, dataclasses.replace(OTHER, path="/projects/3", about=()))
        while sum(map(len, client.connector._waiters.values())) < 2:
            await asyncio.sleep(0)
        for each in leaving:
            each.cancel()
        service.open.set()
        assert await staying == {"id": 3}


async def test_an_error_reaches_all_waiters_and_is_not_cached(client, service):
    del service.entities["/projects/1"]
    service.open.clear()
    waiting = [start_fetch(client) for _ in range(3)]
    await service.until(inside=1)
    service.open.set()
    errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in errors] == [EntityNotFound] * 3
    assert {error.message for error in errors} == {"There is no project 1."}
    assert len({id(error) for error in errors}) == 3
    service.entities["/projects/1"] = {"id": 1}
    assert await client.fetch(READ, context()) == {"id": 1}


async def test_a_broken_connection_fails_all_waiters_with_its_cause():
    async with scripted() as service, caching_client(service.url, ONLY_SHARED, echo_required=False) as client:
        service.script.append([OK[:-1], CLOSE])
        waiting = [start_fetch(client, calls.check_health("results")) for _ in range(3)]
        errors = await asyncio.gather(*waiting, return_exceptions=True)
    assert [type(error) for error in errors] == [BadUpstreamResponse] * 3
    assert [type(error.__cause__) for error in errors] == [aiohttp.ClientPayloadError] * 3


async def test_a_defect_of_ours_is_no_fault_of_the_service(client, service, monkeypatch):
    monkeypatch.setitem(client.shapes, "Project", lambda _value: 1 / 0)
    outcomes = await asyncio.gather(
        *(client.fetch(READ, context()) for _ in range(2)), return_exceptions=True
    )
    assert [type(outcome) for outcome in outcomes] == [ZeroDivisionError] * 2


async def test_each_request_notes_its_own_waiting_time(client, service):
    service.open.clear()
    first, second = context(), context()
    waiting = [asyncio.create_task(client.fetch(READ, first))]
    await service.until(inside=1)
    await asyncio.sleep(0.05)
    waiting.append(asyncio.create_task(client.fetch(READ, second)))
    await asyncio.sleep(0.01)
    service.open.set()
    await asyncio.gather(*waiting)
    (long,), (short,) = first.durations_ms["projects"], second.durations_ms["projects"]
    assert long >= short + 40
    assert short >= 9


async def test_a_read_after_a_write_does_not_join_a_call_from_before_it(client, service):
    service.open.clear()
    service.held = ("GET",)
    before = start_fetch(client)
    await service.until(inside=1)
    await client.fetch(WRITE, context())
    after = start_fetch(client)
    await service.until(inside=2)
    service.open.set()
    assert (await after)["name"] == "new"
    assert "name" not in await before


async def test_a_connection_serves_one_call_after_another():
    async with scripted() as service, caching_client(service.url, ONLY_SHARED, echo_required=False) as client:
        service.script += [[OK]] * 4
        for _ in range(4):
            await client.fetch(calls.check_health("results"), context())
        assert service.connections == 1


async def test_an_idle_connection_that_closes_costs_no_waiter_its_response():
    async with scripted() as service, caching_client(service.url, ONLY_SHARED, echo_required=False) as client:
        health = calls.check_health("results")
        service.script += [[OK], [CLOSE], [OK]]
        await client.fetch(health, context())
        values = await asyncio.gather(*(client.fetch(health, context()) for _ in range(5)))
        assert values == [{"status": "ok"}] * 5
        assert len(service.heads) == 3


async def test_a_call_is_repeated_once_at_most():
    async with (
        scripted() as service,
        caching_client(service.url, CachingOptions(coalesce=False), echo_required=False) as client,
    ):
        health = calls.check_health("results")
        service.script += [[OK], [OK]]
        await client.fetch_all([health, health], context())
        service.script += [[CLOSE], [CLOSE], [OK]]
        with pytest.raises(BadUpstreamResponse, match="the connection broke off"):
            await client.fetch(health, context())


async def test_a_write_on_an_idle_connection_that_closes_is_not_repeated():
    async with scripted() as service, caching_client(service.url, ONLY_SHARED, echo_required=False) as client:
        service.script += [[OK], [CLOSE], [OK]]
        await client.fetch(calls.check_health("results"), context())
        with pytest.raises(BadUpstreamResponse, match="the connection broke off"):
            await client.fetch(dataclasses.replace(WRITE, upstream="results"), context())
        assert len(service.heads) == 2


class Ending(PendingCall):
    """A pending call that a test ends."""

    async def work(self):
        await asyncio.get_running_loop().create_future()

    def stop_sharing(self):
        pass

    def end(self):
        self._done = True
        self._wake_waiters()


@pytest.mark.parametrize("others", [0, 1])
async def test_a_call_that_ends_just_after_its_limit_is_late_if_others_have_no_value_yet(others):
    waiter, late = Waiter(contextvars.Context()), Ending()
    waiter.join(late, 0.0)
    for _ in range(others):
        waiter.join(Ending(), 5.0)
    await waiter.ended
    late.end()
    waiter.leave()
    assert waiter.was_late(late) is bool(others)
    assert waiter.has_ended_well is not bool(others)


async def one_request(client, chance):
    """Fetch one of three entities, perhaps with a short deadline, and perhaps cancel early."""
    number = chance.randrange(3)
    call = dataclasses.replace(calls.get_project(number), cached_as=chance.choice(("", "definition")))
    work = asyncio.create_task(client.fetch(call, context(chance.choice((0.00001, 0.003, 5.0)))))
    if chance.random() < 0.4:
        for _ in range(chance.randrange(12)):
            await asyncio.sleep(0)
        work.cancel()
    try:
        assert (await work)["id"] == number
    except asyncio.CancelledError:
        return "left"
    except UpstreamTimeout:
        return "late"
    return "answered"


async def test_a_storm_of_random_cancellations_leaves_nothing_behind(service):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    service.entities = {f"/projects/{number}": {"id": number} for number in range(3)}
    before = asyncio.all_tasks()
    async with caching_client(service.url, CachingOptions(definition_seconds=0.01), connections=2) as client:
        requests = iter(range(5000))
        outcomes = []

        async def caller():
            for _ in requests:
                outcome = await one_request(client, chance)
                outcomes.append(outcome)

        async with asyncio.TaskGroup() as group:
            for _ in range(50):
                group.create_task(caller())
        assert client.shared_calls == {}
        assert await client.fetch(READ, context()) == {"id": 1}
    await service.until(inside=0)
    gc.collect()
    async with asyncio.timeout(5):
        while {task for task in asyncio.all_tasks() - before if "RequestHandler" not in repr(task)}:
            await asyncio.sleep(0.01)
    print({outcome: outcomes.count(outcome) for outcome in set(outcomes)}, len(service.seen), "calls")
    assert len(outcomes) == 5000
    assert min(outcomes.count(outcome) for outcome in ("answered", "left", "late")) > 50
    assert len(service.seen) < outcomes.count("answered")
