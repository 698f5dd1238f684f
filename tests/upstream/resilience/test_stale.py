"""Stale if error: what is kept stands for a service that does not answer, and when it never does."""

import asyncio
import dataclasses
import time

import pytest

from optimizely_api.upstream import calls
from optimizely_api.upstream.caching.caching_client import CachingOptions
from optimizely_api.upstream.client import CallContext
from optimizely_api.upstream.errors import NeverSent, UpstreamError, UpstreamUnavailable
from optimizely_api.upstream.resilience.stale import ASK_AGAIN_SECONDS
from tests.upstream.test_caching_client import write
from tests.upstream.versioned_service import FakeClock, caching_client, versioned

EXPERIMENT = calls.get_experiment(1)
LAYER = calls.get_layer(1)
RESULTS = calls.compute_results(1, {"metrics": []})
DAY, HOUR = 86_400, 3600
LIMIT_SECONDS = 1.0  # of the service
STALE_SECONDS = {"definition": DAY, "results": HOUR}


def reading(seconds=5.0, *, takes_stale=True):
    return CallContext(
        "8f14e45f-ceea-467f-a0e6-0c1f7d6a0001", time.monotonic() + seconds, takes_stale=takes_stale
    )


def hurried(seconds):
    """Reading for a caller who wishes to wait for so long only."""
    context = reading(seconds)
    return dataclasses.replace(context, wished_deadline=context.deadline)


class Outage:
    """A client that has kept an experiment, a campaign and results, which are no longer fresh."""

    def __init__(self, service, clock, client):
        self.service, self.clock, self.client = service, clock, client

    async def fetch(self, call, *, takes_stale=True):
        """The value, and which kept ones were used."""
        context = reading(takes_stale=takes_stale)
        return await self.client.fetch(dataclasses.replace(call), context), context.kept

    async def failure(self, call, **options):
        with pytest.raises(UpstreamError) as failed:
            await self.fetch(call, **options)
        return failed.value.code


@pytest.fixture
async def out():
    async with versioned() as service:
        for path in ("/experiments/1", "/layers/1", "/projects/1"):
            service.entities[path] = {"id": 1, "name": "first"}
        service.entities["/results/1"] = {"experiment_id": 1, "is_stale": False}
        clock = FakeClock()
        caching = CachingOptions(results_seconds=1.0, stale_seconds=STALE_SECONDS, clock=clock.clock)
        async with caching_client(service.url, caching, seconds=LIMIT_SECONDS) as client:
            outage = Outage(service, clock, client)
            for call in (EXPERIMENT, LAYER, RESULTS):
                assert await outage.fetch(call) == (service.entities[call.path], ())
            clock.go_on(60)
            yield outage


@pytest.mark.parametrize("status", [500, 502, 503, 504])
async def test_a_kept_value_stands_for_a_5xx(out, status):
    out.service.instead = status
    value, (use,) = await out.fetch(EXPERIMENT)
    assert value == {"id": 1, "name": "first"}
    assert (use.call.path, use.age_seconds, use.was_asked) == ("/experiments/1", 60, True)
    reasons = {503: "upstream_unavailable", 504: "upstream_timeout"}
    assert use.reason == reasons.get(status, "bad_upstream_answer")


async def test_a_kept_value_stands_for_a_response_that_is_late(out):
    out.service.open.clear()
    value, (use,) = await out.fetch(EXPERIMENT)
    assert (value["name"], use.reason) == ("first", "upstream_timeout")
    out.service.open.set()


async def test_a_kept_value_stands_for_a_response_off_its_agreement(out):
    out.service.entities["/experiments/1"] = {"id": 1, "off": True}
    value, (use,) = await out.fetch(EXPERIMENT)
    assert (value["name"], use.reason) == ("first", "bad_upstream_answer")


async def test_kept_results_say_that_they_are_stale_and_stay_as_they_were(out):
    out.service.instead = 500
    value, _ = await out.fetch(RESULTS)
    assert value == {"experiment_id": 1, "is_stale": True}
    out.service.instead = None
    out.clock.go_on(ASK_AGAIN_SECONDS)
    assert await out.fetch(RESULTS) == ({"experiment_id": 1, "is_stale": False}, ())


async def test_what_did_come_is_used_beside_what_was_kept(out):
    """One failure does not end the wait for the others."""
    out.service.entities["/layers/1"] = {"id": 1, "name": "second"}
    out.service.entities["/experiments/1"] = {"id": 1, "off": True}
    context = reading()
    experiment, layer = await out.client.fetch_all([EXPERIMENT, LAYER], context)
    assert (experiment["name"], layer["name"]) == ("first", "second")
    assert [use.call.path for use in context.kept] == ["/experiments/1"]


@pytest.mark.parametrize(
    ("call", "longest"), [(EXPERIMENT, DAY), (RESULTS, HOUR)], ids=["definition", "results"]
)
async def test_nothing_serves_longer_than_its_seconds(out, call, longest):
    out.service.instead = 500
    out.clock.go_on(longest - 60 - 1)
    await out.fetch(call)
    out.clock.go_on(1)
    assert await out.failure(call) == "bad_upstream_answer"


@pytest.mark.parametrize("status", [401, 403, 404, 410])
async def test_a_denial_is_an_answer_and_drops_what_is_kept(out, status):
    out.service.instead = status
    await out.failure(EXPERIMENT)
    out.service.instead = 503
    assert await out.failure(EXPERIMENT) == "upstream_unavailable"


async def test_a_denial_of_a_call_that_keeps_nothing_drops_it_too(out):
    out.service.instead = 404
    await out.failure(dataclasses.replace(EXPERIMENT, cached_as=""))
    out.service.instead = 503
    await out.failure(EXPERIMENT)


@pytest.mark.parametrize("gives_tags", [False, True], ids=["200", "304"])
async def test_what_was_asked_for_before_a_denial_is_not_kept_after_it(out, gives_tags):
    out.service.gives_tags = gives_tags
    out.service.open.clear()
    early = asyncio.create_task(out.fetch(EXPERIMENT))
    await out.service.until(inside=1)
    out.clock.go_on(1)
    out.service.held = ()
    del out.service.entities["/experiments/1"]
    assert await out.failure(dataclasses.replace(EXPERIMENT, entity="what is not shared")) == "not_found"
    out.service.open.set()
    assert await early == ({"id": 1, "name": "first"}, ())
    out.service.instead = 503
    assert await out.failure(EXPERIMENT) == "upstream_unavailable"


async def test_waiting_for_what_is_kept_leaves_time_for_what_follows(out):
    out.service.held = ("GET",)
    out.service.open.clear()
    context = reading(seconds=LIMIT_SECONDS)
    experiment = await out.client.fetch(dataclasses.replace(EXPERIMENT), context)
    results = await out.client.fetch(dataclasses.replace(RESULTS), context)
    assert (experiment["id"], results["experiment_id"]) == (1, 1)
    out.service.open.set()


async def test_nothing_from_before_a_write_ever_serves(out):
    await out.client.fetch(write("/experiments/1"), reading(takes_stale=False))
    out.service.instead = 503
    assert await out.failure(EXPERIMENT) == "upstream_unavailable"
    assert await out.failure(LAYER) == "upstream_unavailable"  # it shows the experiment


@pytest.mark.parametrize("instead", [500, 503])
async def test_a_write_that_may_have_been_made_counts_as_made(out, instead):
    out.service.instead = instead
    with pytest.raises(UpstreamError):
        await out.client.fetch(write("/experiments/1"), reading(takes_stale=False))
    await out.failure(EXPERIMENT)


async def test_a_write_that_never_left_the_gateway_was_not_made(out):
    await out.service.stop()
    out.client.connector.close_idle(out.client.address(EXPERIMENT).destination)
    with pytest.raises(NeverSent):
        await out.client.fetch(write("/experiments/1"), reading(takes_stale=False))
    value, (use,) = await out.fetch(EXPERIMENT)
    assert (value["name"], use.reason) == ("first", "upstream_unavailable")


async def test_no_write_is_prepared_with_a_kept_value(out):
    out.service.instead = 503
    assert await out.failure(EXPERIMENT, takes_stale=False) == "upstream_unavailable"


async def test_one_call_a_second_asks_for_a_key_and_the_others_get_what_is_kept(out):
    out.service.instead = 503
    before = len(out.service.seen)
    for _ in range(3):
        for number in range(10):
            _, (use,) = await out.fetch(EXPERIMENT)
            assert use.was_asked is (number == 0)
        out.clock.go_on(ASK_AGAIN_SECONDS)
    assert len(out.service.seen) - before == 3
    await out.fetch(LAYER)  # another key
    assert len(out.service.seen) - before == 4


async def test_while_one_asks_the_others_do_not_wait(out):
    out.service.instead = 503
    await out.fetch(EXPERIMENT)
    out.clock.go_on(ASK_AGAIN_SECONDS)
    out.service.open.clear()
    asking = asyncio.create_task(out.fetch(EXPERIMENT))
    await out.service.until(inside=1)
    _, (use,) = await out.fetch(EXPERIMENT)
    assert not use.was_asked
    out.service.open.set()
    await asking


async def test_what_nobody_asked_for_lately_is_asked_for_by_all(out):
    out.service.instead = 503
    await out.fetch(EXPERIMENT)
    out.service.instead = None
    out.service.entities["/experiments/1"] = {"id": 1, "name": "second"}
    out.clock.go_on(2 * ASK_AGAIN_SECONDS)
    out.service.open.clear()
    asking = [asyncio.create_task(out.fetch(EXPERIMENT)) for _ in range(3)]
    await out.service.until(inside=1)
    out.service.open.set()
    assert [await each for each in asking] == [({"id": 1, "name": "second"}, ())] * 3


async def test_the_first_answer_after_an_outage_ends_it(out):
    out.service.instead = 503
    await out.fetch(EXPERIMENT)
    out.service.instead = None
    out.service.entities["/experiments/1"] = {"id": 1, "name": "second"}
    out.clock.go_on(ASK_AGAIN_SECONDS)
    assert await out.fetch(EXPERIMENT) == ({"id": 1, "name": "second"}, ())
    assert await out.fetch(EXPERIMENT) == ({"id": 1, "name": "second"}, ())


async def test_what_was_never_kept_is_a_failure(out):
    out.service.instead = 503
    assert await out.failure(calls.get_project(1)) == "upstream_unavailable"


async def test_a_value_that_had_to_go_for_lack_of_room_does_not_serve():
    async with versioned() as service:
        for number in (1, 2, 3):
            service.entities[f"/experiments/{number}"] = {"id": number, "name": "x" * 500}
        clock = FakeClock()
        caching = CachingOptions(definition_bytes=12_000, stale_seconds=STALE_SECONDS, clock=clock.clock)
        async with caching_client(service.url, caching) as client:
            outage = Outage(service, clock, client)
            for number in (1, 2, 3):
                await outage.fetch(calls.get_experiment(number))
            assert client.caches["definition"].size <= 12_000
            clock.go_on(60)
            service.instead = 503
            await outage.failure(calls.get_experiment(1))
            await outage.fetch(calls.get_experiment(3))


async def test_a_failure_that_ends_the_wait_is_not_replaced_by_what_was_stored_meanwhile():
    """The calls that were still under way would have no values."""
    async with versioned() as service:
        service.entities |= {"/experiments/1": {"id": 1}, "/layers/1": {"id": 1}}
        async with caching_client(service.url, CachingOptions(stale_seconds=STALE_SECONDS)) as client:
            service.open.clear()
            layer = asyncio.create_task(client.fetch(LAYER, reading()))
            await service.until(inside=1)
            service.open, layers_open = asyncio.Event(), service.open
            both = asyncio.create_task(client.fetch_all([EXPERIMENT, LAYER], reading()))
            await service.until(inside=2)
            service.held = ()
            await client.fetch(dataclasses.replace(EXPERIMENT, entity="what is not shared"), reading())
            service.instead = 503
            service.open.set()
            with pytest.raises(UpstreamUnavailable):
                await both
            layers_open.set()
            with pytest.raises(UpstreamUnavailable):
                await layer


async def test_a_caller_who_gives_up_early_makes_nothing_stale_for_others(out):
    context = hurried(seconds=0.02)
    out.service.open.clear()
    value = await out.client.fetch(EXPERIMENT, context)
    assert (value["name"], context.kept[0].reason) == ("first", "upstream_timeout")
    out.service.open.set()
    assert await out.fetch(EXPERIMENT) == ({"id": 1, "name": "first"}, ())


@pytest.mark.parametrize("seconds", [0.05, 5.0], ids=["early", "not early"])
async def test_the_504_of_a_service_counts_unless_the_caller_gives_up_early(out, seconds):
    out.service.instead = 504
    await out.client.fetch(EXPERIMENT, hurried(seconds))
    out.service.instead = None
    _, kept = await out.fetch(EXPERIMENT)
    assert bool(kept) is (seconds == 5.0)


async def test_a_deadline_of_the_gateways_own_counts_though_it_is_shorter_than_the_services(out):
    out.service.open.clear()
    await out.client.fetch(EXPERIMENT, reading(seconds=0.1))
    _, (use,) = await out.fetch(EXPERIMENT)
    assert not use.was_asked
    out.service.open.set()


async def test_who_joins_the_call_of_a_hurried_caller_makes_nothing_stale_by_its_504(out):
    out.client.policies["experiments"].budget.tokens = 0.0  # for sending the call once more
    out.service.open.clear()
    early = asyncio.create_task(out.client.fetch(EXPERIMENT, hurried(seconds=0.5)))
    await out.service.until(inside=1)
    patient = asyncio.create_task(out.fetch(EXPERIMENT))
    await asyncio.sleep(0)  # it has joined
    out.service.instead = 504
    out.service.open.set()
    await early
    _, (use,) = await patient
    assert use.reason == "upstream_timeout"
    out.service.instead = None
    assert await out.fetch(EXPERIMENT) == ({"id": 1, "name": "first"}, ())
